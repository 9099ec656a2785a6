"""What a user sees: the program run on a machine with two tools, its names and numbers made constant.

`screens()` is what README.md shows, and what scripts get; everything runs for real, on fakes of
provider and gateway.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.commands.machine import Machine, machine
from thv_llm import paths

HOME = "/home/alex"
COMMANDS = ("setup", "status", "doctor", "tools")
IN_JSON = (
    "config show",
    "status --check",
    "doctor",
    "tools",
    "tools codex",
    "models",
    "proxy status",
    "token",
)

IN_LINES = ("setup --yes", "login", "teardown", "logout", "uninstall --yes")
"""Commands that act: their last line is the result."""


def _broken(path: str) -> str:
    """Return the pattern of a path that can be broken into lines."""
    return r"\s+".join(map(re.escape, path.split(" ")))


NUMBERS = (
    (r"pid \d+", "pid 4711"),
    (r"\d+ s ago", "2 min ago"),
    (r"(good for|expires in) \d+ min( \d+ s)?", r"\1 60 min"),
    (r"responds in \d+ ms", "responds in 16 ms"),
    (rf"3\.\d+\.\d+\s+\({_broken(sys.executable)}\)", "3.13.0 (/usr/bin/python3)"),
    (rf"\s+\({_broken(paths.program())}\)", f" ({HOME}/.local/bin/thv-llm)"),
    (r"/authorize\?\S+", "/authorize?…"),
    # As on a machine with a user manager, which `tests.service.user_manager` brings.
    (
        r"The service will not start at login(?:.*\n){2}(Started the service .*)\.",
        r"\1, now and at every login.",
    ),
    (
        r"Stopped the service\.",
        f"Stopped the service and removed\n{HOME}/.config/systemd/user/thv-llm.service.",
    ),
)


class Screens(NamedTuple):
    """What commands print, by command.

    Attributes:
        texts: for people.
        documents: with `--format json`, parsed.
    """

    texts: dict[str, str]
    documents: dict[str, Any]


def screens() -> Screens:
    """Run every command."""
    home = Path(f"/tmp/s{secrets.token_hex(2)}")  # as long as HOME, so that lines break where they would
    home.mkdir(mode=0o700)
    try:
        with machine(home) as here:
            here.provider.user["email"] = "alex@example.com"
            texts = {command: _shown(here, command) for command in COMMANDS}
            documents = {
                command: json.loads(here.run(*command.split(), "--format", "json").out) for command in IN_JSON
            }
            texts["teardown"] = _shown(here, "teardown")
            for command in IN_LINES:
                verb, *options = command.split()
                words = [*options, "--format", "json"]
                done = here.setup(*words) if verb == "setup" else here.run(verb, *words)
                documents[command] = json.loads(done.out.splitlines()[-1])
            return Screens(texts, documents)
    finally:
        shutil.rmtree(home)


def _shown(here: Machine, command: str) -> str:
    if command == "setup":
        done = here.setup(with_service=True)
        here.run("token")  # from now on the service has one
    else:
        done = here.run(command)
    typed = f"$ thv-llm {command}"
    if command == "setup":
        typed += " --gateway-url https://llm.example.com --issuer https://id.example.com --client-id thv-llm"
    return f"{typed}\n{_constant(here, done.err + done.out)}".rstrip()


def _constant(here: Machine, text: str) -> str:
    names = {
        here.gateway.url: "https://llm.example.com",
        here.provider.issuer: "https://id.example.com",
        str(here.home): HOME,
        f"127.0.0.1:{here.port}": "127.0.0.1:14000",
        f"{here.port} is used": "14000 is used",
    }
    for found, shown in names.items():
        text = text.replace(found, shown)
    for pattern, shown in NUMBERS:
        text = re.sub(pattern, shown, text)
    return text
