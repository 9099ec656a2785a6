"""`thv-llm uninstall`: teardown, logout, and nothing of ours left but the program itself.

Rule 1: what teardown could not put back keeps its record, and everything else stays with it.
Rule 2: only files whose names are ours go, and only directories that are empty.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING

from thv_llm import files, paths, state
from thv_llm.commands import parser as flags
from thv_llm.commands import session, teardown
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.settings import Settings

if TYPE_CHECKING:
    from thv_llm.context import Context

SUMMARY = "teardown, logout, and remove settings, service and helper"
EXAMPLES = """
thv-llm uninstall          asks first
thv-llm uninstall --yes    without a question
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that the question can be left out."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags.add_format(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Put everything back; FAILED, with the record kept, when something could not be."""
    wired = state.load(context.paths.state).wired
    names = ", ".join(tool.tool for tool in wired)
    if not args.yes:
        first = (
            f"This puts the files of {names} back, ends the session," if names else "This ends the session,"
        )
        context.confirm(f"{first}\nand removes settings, service and {context.paths.directory}.")
    undone = teardown.put_back(context)
    left = state.load(context.paths.state).wired
    if left or any(one.error for one in undone):
        raise ThvLlmError(
            "not everything could be put back",
            why=f"still configured: {', '.join(tool.tool for tool in left) or names}; the rest stays, too",
            next_step="thv-llm teardown names the files; then thv-llm uninstall",
        )
    remove_all(context)
    context.facts["program"] = paths.program()
    context.say(f"Only the program is left: {paths.program()}")
    return ExitCode.DONE


def remove_all(context: Context) -> None:
    """End the sessions, stop the service and its autostart, remove every file and directory of ours.

    Raises:
        ThvLlmError: a session could not be removed from its store; settings and state stay.
    """
    from thv_llm.service import autostart, background, network

    where, environ = context.paths, context.environ
    context.facts["removed"] = []
    saved = flags.readable(where.settings) or Settings()
    with contextlib.suppress(ThvLlmError):  # a store that cannot be read
        network.forget_password(saved, where, environ)
    session.end(context, saved)
    with contextlib.suppress(ThvLlmError):
        session.forget_secrets(context, saved)
    if where.home:
        manager = autostart.of(environ, context.platform)
        if background.unmanage(where, manager):
            context.say(f"Removed {manager.file}.")
            context.note("removed", path=manager.file)
    background.stop(where)
    locks = [where.lock(name) for name in paths.LOCKS]
    ours = [where.socket, f"{where.socket}.lock", *locks] if not environ.get("THV_LLM_SOCKET") else locks
    for path in (*where.files(), *(files.temporary_of(path) for path in where.files()), *ours):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            if path in where.files():
                context.say(f"Removed {path}.")
                context.note("removed", path=path)
    directories = [os.path.dirname(where.helper), where.directory, *_below(where.home, where.directory)]
    if not environ.get("THV_LLM_SOCKET"):
        directories.append(os.path.dirname(where.socket))
    files.remove_empty_directories(dict.fromkeys(directories))


def _below(home: str, directory: str) -> list[str]:
    """Return a directory and its parents up to, and without, the home directory; [] outside of it."""
    found = []
    while home and directory.startswith(os.path.join(home, "")):
        found.append(directory)
        directory = os.path.dirname(directory)
    return found
