"""A new file in the place of an old one, while the old service runs and the old file's wiring is in use."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.e2e.machine import PYZ, Machine, NewMachine, Snapshot
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, chat
from thv_llm import __version__

OLD_VERSION = "0.0.1"
DIFFERENCES = (
    ("LICENSES.txt", "Packages inside", "Inside are packages"),  # all that comes behind it moves
    ("thv_llm/__init__.py", f'__version__ = "{__version__}"', f'__version__ = "{OLD_VERSION}"'),
    ("thv_llm/tools/registry/direct.py", "HELPER_INTERVAL_S = 300", "HELPER_INTERVAL_S = 120"),
    ("thv_llm/tools/model.py", 'TITLE = "thv-llm gateway"', 'TITLE = "thv-llm way in"'),
    ("thv_llm/service/helper.py", "Prints one fresh", "Prints a fresh"),
)
"""Member of the file, what stands there, what the older one had: other values for tools, another helper."""

CLAUDE = b'{\r\n  "model": "opus",\r\n  "apiKeyHelper": "/mine",\r\n  "env": {"EDITOR": "vi"}\r\n}\r\n'
OPENCODE = b'\xef\xbb\xbf{\n  // mine\n  "theme": "gruvbox",\n}\n'


def write_older(program: Path) -> None:
    """Make an older file of today's."""
    with zipfile.ZipFile(PYZ) as today, program.open("wb") as raw:
        raw.write(PYZ.read_bytes().partition(b"\n")[0] + b"\n")
        with zipfile.ZipFile(raw, "w") as older:
            for name in today.namelist():
                text = today.read(name)
                for member, now, then in DIFFERENCES:
                    if name == member:
                        assert now.encode() in text, member
                        text = text.replace(now.encode(), then.encode())
                older.writestr(name, text)
    program.chmod(0o755)


@pytest.fixture
def machine(new_machine: NewMachine) -> Machine:
    machine = new_machine(keyring=True)
    for tool, name, data in (
        ("claude", ".claude/settings.json", CLAUDE),
        ("opencode", ".config/opencode/opencode.jsonc", OPENCODE),
    ):
        machine.command(tool, "#!/bin/sh\n")
        path = machine.home / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return machine


@pytest.fixture
def before(machine: Machine) -> Snapshot:
    """What the home was; now the old file has set it up, and the new one is in its place.

    Without a login, so that the old service has yet to need most of what it is made of.
    """
    program = machine.commands / "thv-llm"
    before = machine.snapshot()
    write_older(program)
    machine.setup("--lazy", "--models", "m-1")
    assert machine.thv("--version").out == f"thv-llm {OLD_VERSION}\n"
    assert machine.run("install", "-m", "755", str(PYZ), str(program)).code == 0
    assert machine.thv("--version").out == f"thv-llm {__version__}\n"
    return before


def serving(machine: Machine) -> str:
    """Return the version of the service that responds."""
    shown = json.loads(machine.thv("proxy", "status", "--format", "json").out)
    version: str = shown["version"]
    return version


def test_the_old_service_goes_on_until_setup_brings_everything_up_to_date(
    machine: Machine, provider: NpmProvider, before: Snapshot
) -> None:
    old = machine.snapshot()

    assert serving(machine) == OLD_VERSION
    machine.thv("login")
    machine.thv("token", "--force-refresh")
    assert provider.verify(machine.run(str(machine.helper)).out.strip())
    status, text = chat(machine)
    assert (status, ANSWER in text) == (200, True)
    assert "outdated" in machine.thv("status", fails=True).out  # both files would be written differently now
    doubts = machine.thv("doctor", fails=True).out
    assert f"it runs thv-llm {OLD_VERSION} from a file that was replaced since" in " ".join(doubts.split())
    assert "next: thv-llm setup" in doubts

    said = machine.thv("setup").err

    assert "Restarted the service" in said
    assert serving(machine) == __version__
    assert "All is well." in machine.thv("doctor").out
    assert len(machine.services()) == 1
    new = machine.snapshot()
    assert {name for name in new if new[name] != old[name]} == {
        ".claude/settings.json",
        ".config/opencode/opencode.jsonc",
    }
    assert chat(machine)[0] == 200
    machine.thv("teardown")
    assert machine.snapshot() == before
    assert not machine.services()


def test_the_new_file_undoes_what_the_old_one_did_and_ends_its_service(
    machine: Machine, before: Snapshot
) -> None:
    machine.thv("teardown")

    assert machine.snapshot() == before
    assert not machine.services()
