"""`thv-llm teardown` and `thv-llm uninstall`: put back what setup changed; leave only the program.

Rule 1: what teardown could not put back keeps its record, and then uninstall removes nothing else.
Rule 2: only files whose names are ours go, and only directories that are empty.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import Sequence

from thv_llm import files, paths, settings, state
from thv_llm.commands import parser as flags
from thv_llm.commands import session, wiring
from thv_llm.commands.parser import Command
from thv_llm.context import Context
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.service import autostart, background, network
from thv_llm.settings import ROWS, Settings
from thv_llm.tools import engine
from thv_llm.tools.engine import Done, Mode, Place, Undone, Unrecorded


def _add_teardown(parser: argparse.ArgumentParser) -> None:
    """Declare which tools, and what else goes."""
    parser.add_argument("tools", metavar="TOOL", nargs="*", help="only these tools")
    parser.add_argument(
        "--client", metavar="TOOL", action="append", default=[], help="the same as naming TOOL"
    )
    parser.add_argument("--purge-tokens", action="store_true", help="revoke and delete the session, too")
    parser.add_argument("--dry-run", action="store_true", help="print a diff of every file, change nothing")
    flags.add_format(parser)


def _run_teardown(args: argparse.Namespace, context: Context) -> ExitCode:
    """Undo the named tools, or all; one failure never stops the others."""
    named = [*args.tools, *args.client] or None
    if args.dry_run:
        for one in _unrecorded(context, wiring.place(context), named):
            context.say(f"{one.tool.title}: settings without a record; teardown asks before it removes them")
        return _show(engine.revert(context.paths, wiring.place(context), named, dry_run=True), context)
    undone = _put_back(context, named)
    if args.purge_tokens:
        session.end(context, settings.load(context.paths.settings))
    return ExitCode.FAILED if any(one.error for one in undone) else ExitCode.DONE


TEARDOWN = Command("put back what setup changed", _add_teardown, _run_teardown)


def _put_back(context: Context, named: Sequence[str] | None = None) -> tuple[Undone, ...]:
    """Undo the named tools, or all, say what was done, and stop what no tool needs any more."""
    context.facts["files"] = []
    place = wiring.place(context)
    left = _adopt(context, place, named)
    names = None if named is None else [name for name in named if name not in {one.tool for one in left}]
    undone = () if names == [] else engine.revert(context.paths, place, names)
    for one in (*undone, *left):
        _tell(one, context)
    if not undone and not left:
        context.say("No tool is configured.")
    if named is None and not state.load(context.paths.state).wired:
        state.forget_keys(context.paths)
    background.renew_keys(context.paths)
    _narrow_service(context)
    if undone and not state.load(context.paths.state).wired:
        _forget_bedrock(context)
    return (*undone, *left)


def _forget_bedrock(context: Context) -> None:
    """Take out the options that no tool is left to use; another setup can be for another gateway."""
    saved = flags.readable(context.paths.settings)
    keys = [row.key for row in ROWS if row.key.startswith("bedrock.") and saved and saved.get(row)]
    try:
        after = settings.save(context.paths, dict.fromkeys(keys)) if keys else None
    except ThvLlmError as error:
        context.say(f"{', '.join(keys)} stays: {error.why or error.what}")
        return
    if after and not (after.bedrock_compat or after.bedrock_enable_1m):
        context.say(f"Forgot {', '.join(keys)}.")


def _adopt(context: Context, place: Place, named: Sequence[str] | None) -> list[Undone]:
    """Offer to take out values of ours that no record tells of; they are recorded then.

    Returns:
        What stays, because no user can be asked.
    """
    found = _unrecorded(context, place, named)
    files = [(one, file.path) for one in found for file in one.record.files if file not in one.recorded]
    if not context.has_terminal:
        error = ThvLlmError(
            "no record tells what was there before thv-llm", next_step="thv-llm teardown, at a terminal"
        )
        return [Undone(one.tool.id, path, Done.FAILED, error=error) for one, path in files if not one.foreign]
    if files:
        context.say("No record tells what was there before thv-llm. Its settings can be removed from:")
        for one, path in files:
            context.say(f"  {path} ({one.tool.title})")
        context.confirm("What was there before cannot be put back.")
    for one in found:
        state.update(context.paths, functools.partial(state.with_tool, tool=one.record))
    return []


def _unrecorded(context: Context, place: Place, named: Sequence[str] | None = None) -> list[Unrecorded]:
    """Return values of ours without a record; say so of those that another installation takes back."""
    known = state.load(context.paths.state)
    values = wiring.values(context, flags.readable(context.paths.settings) or Settings(), models=())
    tools = [tool for tool in engine.TOOLS if named is None or tool.id in named]
    found = [one for tool in tools if (one := engine.unrecorded(tool, place, values, known))]
    for one in found:
        if one.foreign:
            context.say(f"{one.foreign.what}: {one.foreign.why}")
            context.say(f"  next: {one.foreign.undo or 'thv-llm teardown in that installation'}")
    return [one for one in found if not (one.foreign and one.foreign.undo)]


def _narrow_service(context: Context) -> None:
    """Drop the proxy with the last proxy tool, and the service with the last tool."""
    known = state.load(context.paths.state)
    needs_proxy = any(tool.mode == Mode.PROXY.value for tool in known.wired)
    if not known.wired or (known.service.proxy and not needs_proxy):
        manager = autostart.of(context.environ, context.platform)
        if background.unmanage(context.paths, manager):
            context.say(f"Stopped the service and removed {manager.file}.")
    if not known.service.wanted:
        return
    state.update(context.paths, lambda known: wiring.with_service(known, wanted=known.service.wanted))
    line = background.match(context.paths, context.environ)
    if line:
        context.say(line)


def _show(undone: tuple[Undone, ...], context: Context) -> ExitCode:
    values = wiring.values(context, settings.load(context.paths.settings), models=())
    for one in undone:
        diff = engine.diff_of_undo(one, values)
        if diff and context.in_json:
            context.note("changes", tool=one.tool, path=one.path, diff=diff)
        elif diff:
            context.result(diff.rstrip("\n"))
        elif one.error or one.foreign:
            _tell(one, context)
    context.say("Nothing was changed (--dry-run).")
    return ExitCode.DONE


def _tell(one: Undone, context: Context) -> None:
    """Say what became of a file."""
    reason = str(one.error.why or one.error.what) if one.error else None
    if one.foreign:
        reason = f"it holds the settings of the thv-llm of {one.foreign}"
    left = [*one.left, *one.absent]
    context.note(
        "files", tool=one.tool, path=one.path, result=one.done.name.lower(), left=left, reason=reason
    )
    for line in one.lines():
        context.say(line[:1].upper() + line[1:])
    if one.error:
        context.say(f"{one.path}: {one.error}")


def _add_uninstall(parser: argparse.ArgumentParser) -> None:
    """Declare that the question can be left out."""
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags.add_format(parser)


def _run_uninstall(args: argparse.Namespace, context: Context) -> ExitCode:
    """Put everything back; FAILED, with the record kept, when something could not be."""
    wired = state.load(context.paths.state).wired
    names = ", ".join(tool.tool for tool in wired)
    if not args.yes:
        first = (
            f"This puts the files of {names} back, ends the session," if names else "This ends the session,"
        )
        context.confirm(f"{first}\nand removes settings, service and {context.paths.directory}.")
    undone = _put_back(context)
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


UNINSTALL = Command(
    "teardown, logout, and remove settings, service and helper", _add_uninstall, _run_uninstall
)


def remove_all(context: Context) -> None:
    """End the sessions, stop the service and its autostart, remove every file and directory of ours.

    Raises:
        ThvLlmError: a session could not be removed from its store; settings and state stay.
    """
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
        if path == where.socket and background.obstacle(where):
            context.say(f"Left {path}, which is no socket of thv-llm.")
            continue
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
