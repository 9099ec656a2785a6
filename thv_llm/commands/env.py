"""`thv-llm env` and `thv-llm run`: the variables that configure tools and scripts, for a shell or a command.

Rule 1: what would override our configuration of a direct tool is left out, address and key together,
        and said: that tool would send the proxy's key to the gateway.
Rule 2: the command of `run` takes the place of our process, so its exit code is ours.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

from thv_llm import settings, state, system
from thv_llm.commands import wiring
from thv_llm.commands.parser import Command
from thv_llm.context import Context
from thv_llm.errors import ExitCode, NotFoundError, ThvLlmError, UsageError, did_you_mean, shown
from thv_llm.settings import Settings
from thv_llm.system import processes
from thv_llm.tools import engine
from thv_llm.tools.engine import Mode
from thv_llm.tools.model import Binary, IfAbsent, Template, Value
from thv_llm.tools.registry.proxy import CLIENTS
from thv_llm.tools.values import leaves, resolve

VARIABLES = tuple(name for names in CLIENTS.values() for name in names)


def _add_env(parser: argparse.ArgumentParser) -> None:
    """Declare the shell, the tool, and the reverse."""
    parser.add_argument("--shell", choices=tuple(DIALECTS), help="whose lines to print; else $SHELL's")
    _add_tool(parser)
    parser.add_argument("--unset", action="store_true", help="lines that take the variables away again")


def _add_tool(parser: argparse.ArgumentParser) -> None:
    """Add `--tool NAME`."""
    parser.add_argument(
        "--tool", metavar="NAME", help=f"only the variables of one kind of client: {', '.join(by_name())}"
    )


def _run_env(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print one line per variable; the local key in them is good on this machine only."""
    shell = DIALECTS[args.shell] if args.shell else _own_shell(context)
    if args.unset:
        for name in _named(args.tool) if args.tool else VARIABLES:
            context.result(shell.unset.format(name=name))
        return ExitCode.DONE
    found = settings.load(context.paths.settings)
    found.require_configured()
    for name, value in _variables(context, found, args.tool, command="env").items():
        context.result(shell.assignment(name, value))
    _warn(context, found.proxy_port)
    return ExitCode.DONE


ENV = Command("shell lines (export …) for tools set up by variables", _add_env, _run_env)


def _variables(context: Context, found: Settings, tool: str | None, *, command: str) -> dict[str, str]:
    """Return what clients of that name look for; without a name, what all the common SDKs do.

    They hold the key of `command`, `env` or `run`.
    """
    if tool:
        templates = _named(tool)
    else:
        left_out = _overriding(context)
        for kind, title in left_out.items():
            names = ", ".join(CLIENTS[kind])
            context.say(f"Without {names}: {title} is configured without them and would use them.")
            context.say(f"  next: thv-llm run --tool {kind} -- CMD, for a program that needs them")
        templates = {
            name: template
            for kind, members in CLIENTS.items()
            for name, template in members.items()
            if kind not in left_out
        }
    templates = {
        name: template
        for name, template in templates.items()
        if not (isinstance(template, IfAbsent) and name in context.environ)
    }
    # A tool that variables configure has a key of its own, as one has that files configure.
    name = tool if tool in {one.id for one in engine.TOOLS} else command
    state.keys(context.paths, [name])
    needs_models = any(Value.MODEL in leaves(template) for template in templates.values())
    models = wiring.known_models(context, found) if needs_models else ()
    values = wiring.values(context, found, models=models).of(name)
    return {name: str(resolve(template, values)) for name, template in templates.items()}


def _overriding(context: Context) -> dict[str, str]:
    """Return the kinds of clients whose variables a configured direct tool would obey, and its title."""
    configured = {tool.tool for tool in state.load(context.paths.state).wired}
    return {
        kind: tool.title
        for tool in engine.TOOLS
        if tool.id in configured and engine.mode(tool) is Mode.DIRECT
        for kind, names in CLIENTS.items()
        if names.keys() & tool.overridden_by.keys()
    }


def by_name() -> dict[str, Mapping[str, Template]]:
    """Return the variables of each kind of client."""
    return {**CLIENTS, **{tool.id: tool.variables for tool in engine.TOOLS if tool.variables}}


def _named(name: str) -> Mapping[str, Template]:
    known = by_name()
    if name in known:
        return known[name]
    why = did_you_mean(name, known) or f"it is one of: {', '.join(known)}"
    next_step = "thv-llm tools"
    if any(tool.id == name for tool in engine.TOOLS):
        why, next_step = "it is configured by its own files", f"thv-llm setup --client {name}"
    raise UsageError(f"no environment variables configure {shown(name)}", why=why, next_step=next_step)


class Dialect(NamedTuple):
    """How a shell sets a variable, takes it away, and quotes a value."""

    set: str
    unset: str
    quoted: Callable[[str], str]

    def assignment(self, name: str, value: str) -> str:
        """Return the line that sets a variable."""
        return self.set.format(name=name, value=self.quoted(value))


def in_fish(text: str) -> str:
    """Return a text in quotes for fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SH = Dialect("export {name}={value}", "unset {name}", shlex.quote)
POWERSHELL = Dialect(
    "$env:{name} = {value}", "Remove-Item Env:{name} -ErrorAction SilentlyContinue", system.in_powershell
)
DIALECTS = {
    "sh": SH,
    "fish": Dialect("set -gx {name} {value}", "set -e {name}", in_fish),
    "powershell": POWERSHELL,
    # Nothing is escaped between cmd's quotes: they end with the last one of the line.
    "cmd": Dialect('set "{name}={value}"', 'set "{name}="', str),
    **dict.fromkeys(("bash", "zsh"), SH),
    "pwsh": POWERSHELL,
}


def _own_shell(context: Context) -> Dialect:
    # Windows has no such variable, but what was made for Unix sets it there, too.
    usual = "powershell" if context.platform == "win32" else "sh"
    name = os.path.basename(context.environ.get("SHELL", usual)).removesuffix(".exe")
    return DIALECTS.get(name, SH)


def _warn(context: Context, port: int) -> None:
    """Say what keeps the variables from working."""
    from thv_llm.service import background

    found = background.find(context.paths)
    if found is None or found.record.port != port:
        context.say(
            f"thv-llm: the proxy does not run on port {port}; thv-llm proxy start --background starts it"
        )
    for warning in engine.loopback_through_proxy(context.environ):
        context.say(f"thv-llm: {warning}")


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the tool and the command line."""
    _add_tool(parser)
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command to run")


def _run_run(args: argparse.Namespace, context: Context) -> ExitCode:
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

    cold_token.token(context.paths, context.environ)
    tool = args.tool or _own_name(command[0])
    environ = {**context.environ, **_variables(context, found, tool, command="run")}
    environ |= _direct_loopback(environ)
    _require_proxy(context, found.proxy_port)
    context.stdout.flush()
    try:
        processes.become(program, command, environ)
    except OSError as error:
        raise ThvLlmError(
            f"cannot run {shown(program)}", why=error.strerror or "it cannot be started"
        ) from error


RUN = Command("run a command with the proxy's environment variables", _add_run, _run_run)


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
    if found is None or not found.responds or found.record.port != port:
        proxy.start_background(context)
