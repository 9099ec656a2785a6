"""`thv-llm run -- CMD…`: a command with the proxy's environment, whose exit code becomes ours."""

from __future__ import annotations

import argparse
import os
import shutil
from typing import TYPE_CHECKING

from thv_llm import settings
from thv_llm.checks.model import MIN_VALID_S
from thv_llm.commands import env
from thv_llm.errors import NotFoundError, ThvLlmError, UsageError, shown
from thv_llm.system import processes
from thv_llm.tools import engine
from thv_llm.tools.model import Binary

if TYPE_CHECKING:
    from thv_llm.context import Context
    from thv_llm.errors import ExitCode

SUMMARY = "run a command with the proxy's environment variables"
EXAMPLES = """
thv-llm run -- python script.py       for an OpenAI or Gemini SDK
thv-llm run --tool anthropic -- python script.py
                                      for Anthropic's
thv-llm run -- openhands --override-with-envs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the tool and the command line."""
    env.add_tool(parser)
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command to run")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Become the command.

    Raises:
        LoginRequiredError: before the command starts.
        NotFoundError: no program has that name.
        ThvLlmError: it cannot be started.
    """
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("no command was given", next_step="thv-llm run -- python script.py")
    found = settings.load(context.paths.settings)
    found.require_configured()
    program = shutil.which(command[0], path=context.environ.get("PATH", os.defpath))
    if program is None:
        raise NotFoundError(f"cannot run {shown(command[0])}", why="no program on PATH has that name")
    from thv_llm.service import cold_token

    cold_token.token(context.paths, context.environ, MIN_VALID_S)
    tool = args.tool or _own_name(command[0])
    environ = {**context.environ, **env.variables(context, found, tool, command="run")}
    environ |= _direct_loopback(environ)
    _require_proxy(context, found.proxy_port)
    context.stdout.flush()
    try:
        processes.become(program, command, environ)
    except OSError as error:
        raise ThvLlmError(
            f"cannot run {shown(program)}", why=error.strerror or "it cannot be started"
        ) from error


def _own_name(program: str) -> str | None:
    """Return the tool that a program belongs to, if environment variables configure it."""
    name = os.path.basename(program)
    return next((tool.id for tool in engine.TOOLS if tool.variables and Binary(name) in tool.found_by), None)


def _direct_loopback(environ: dict[str, str]) -> dict[str, str]:
    """Return what keeps requests to our proxy from going to another one."""
    if not engine.loopback_through_proxy(environ):
        return {}
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = ",".join(filter(None, (exempt, "127.0.0.1")))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def _require_proxy(context: Context, port: int) -> None:
    from thv_llm.commands import proxy
    from thv_llm.service import background

    found = background.find(context.paths)
    if found is None or not found.answers or found.record.port != port:
        proxy.start_background(context)
