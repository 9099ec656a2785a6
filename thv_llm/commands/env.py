"""`thv-llm env`: shell lines for tools and scripts that are configured by environment variables."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from thv_llm import settings, state
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.secret import Secret
    from thv_llm.settings import Settings
    from thv_llm.world import World

SUMMARY = "shell lines (export …) for tools set up by variables"
EXAMPLES = """
eval "$(thv-llm env)"                 for this shell
thv-llm env --shell fish | source     the same in fish
thv-llm env --shell powershell | Out-String | Invoke-Expression
eval "$(thv-llm env --unset)"         the reverse
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell, and the reverse."""
    parser.add_argument(
        "--shell", choices=sorted(SET), help="sh (bash, zsh, …), fish or powershell; else $SHELL"
    )
    parser.add_argument("--unset", action="store_true", help="lines that take the variables away again")


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Print one line per variable; the local key in them is good on this machine only."""
    shell = args.shell or _own_shell(world)
    if args.unset:
        for name in VARIABLES:
            world.answer(UNSET[shell].format(name=name))
        return ExitCode.DONE
    found = settings.load(world.paths.settings)
    found.require_configured()
    for name, value in variables(found, state.local_key(world.paths)).items():
        world.answer(SET[shell](name, value))
    _warn(world, found.proxy_port)
    return ExitCode.DONE


def variables(found: Settings, key: Secret) -> dict[str, str]:
    """Return what programs built on the vendors' libraries look for."""
    origin = f"http://127.0.0.1:{found.proxy_port}"
    parts = {"origin": origin, "anthropic": found.anthropic_path_prefix or "", "key": key.reveal()}
    return {name: value.format(**parts) for name, value in VARIABLES.items()}


VARIABLES = {
    "OPENAI_BASE_URL": "{origin}/v1",
    "OPENAI_API_KEY": "{key}",
    "ANTHROPIC_BASE_URL": "{origin}{anthropic}",
    "ANTHROPIC_AUTH_TOKEN": "{key}",
    "GOOGLE_GEMINI_BASE_URL": "{origin}",
    "GEMINI_API_KEY": "{key}",
}


def _posix(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str) -> str:
    # PowerShell takes typographic quotes for quotes, too.
    quoted = "".join(character * 2 if character in "'‘’‚‛" else character for character in value)
    return f"$env:{name} = '{quoted}'"


SET: dict[str, Callable[[str, str], str]] = {"sh": _posix, "fish": _fish, "powershell": _powershell}
UNSET = {
    "sh": "unset {name}",
    "fish": "set -e {name}",
    "powershell": "Remove-Item Env:{name} -ErrorAction SilentlyContinue",
}


def _own_shell(world: World) -> str:
    name = os.path.basename(world.environ.get("SHELL", ""))
    return {"fish": "fish", "pwsh": "powershell"}.get(name, "sh")


def _warn(world: World, port: int) -> None:
    """Say what keeps the variables from working."""
    from thv_llm.service import background
    from thv_llm.tools import engine

    found = background.find(world.paths)
    if found is None or found.record.port != port:
        world.say(
            f"thv-llm: the proxy does not run on port {port}; thv-llm proxy start --background starts it"
        )
    for warning in engine.loopback_through_proxy(world.environ):
        world.say(f"thv-llm: {warning}")
