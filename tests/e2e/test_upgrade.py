"""A new file in the place of an old one, while the old service runs and the old file's wiring is in use.

The old one is today's with other values in it, and where the history goes back that far also 0.1.0 itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.machine import PYZ, Machine, NewMachine, Snapshot
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, chat
from tests.matrix import TOP
from thv_llm import __version__

OLD_VERSION = "0.0.1"
RELEASED = "7e61067"
"""The commit of 0.1.0, which an archive of the sources or a shallow clone does not have."""
RELEASED_SHA256 = "cb6ea063e8868018c47c1352cc1d00286c82e8cb2be36ef06f4ebf127018e423"
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


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=TOP, capture_output=True, check=False)


def write_released(program: Path) -> None:
    """Build 0.1.0 by its own recipe; what is inside of both files comes from today's cache."""
    with tempfile.TemporaryDirectory() as sources:
        with zipfile.ZipFile(io.BytesIO(git("archive", "--format=zip", RELEASED).stdout)) as archive:
            archive.extractall(sources)
        recipe = [sys.executable, "zipapp.spec", "--cache", str(TOP / ".cache" / "wheels")]
        subprocess.run(recipe, cwd=sources, capture_output=True, check=True)
        data = Path(sources, "dist", PYZ.name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == RELEASED_SHA256
    program.write_bytes(data)
    program.chmod(0o755)


class Old(NamedTuple):
    """A file of an older version."""

    version: str
    write: Callable[[Path], None]


OLD = {"changed": Old(OLD_VERSION, write_older)}
if git("cat-file", "-e", f"{RELEASED}^{{commit}}").returncode == 0:
    OLD["0.1.0"] = Old("0.1.0", write_released)


@pytest.fixture(params=list(OLD.values()), ids=list(OLD))
def old(request: pytest.FixtureRequest) -> Old:
    found: Old = request.param
    return found


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
def before(machine: Machine, old: Old) -> Snapshot:
    """What the home was; now the old file has set it up, and the new one is in its place.

    Without a login, so that the old service has yet to need most of what it is made of.
    """
    program = machine.commands / "thv-llm"
    before = machine.snapshot()
    old.write(program)
    machine.setup("--lazy", "--models", "m-1")
    assert machine.thv("--version").out == f"thv-llm {old.version}\n"
    assert machine.run("install", "-m", "755", str(PYZ), str(program)).code == 0
    assert machine.thv("--version").out == f"thv-llm {__version__}\n"
    return before


def serving(machine: Machine) -> str:
    """Return the version of the service that responds."""
    shown = json.loads(machine.thv("proxy", "status", "--format", "json").out)
    version: str = shown["version"]
    return version


def test_the_old_service_goes_on_until_setup_brings_everything_up_to_date(
    machine: Machine, provider: NpmProvider, old: Old, before: Snapshot
) -> None:
    wired = machine.snapshot()

    assert serving(machine) == old.version
    assert "outdated" in machine.thv("status", fails=True).out  # both files would be written differently now
    doubts = machine.thv("doctor", fails=True).out
    assert f"it runs thv-llm {old.version} from a file that was replaced since" in " ".join(doubts.split())
    assert "next: thv-llm setup" in doubts
    machine.thv("login")  # the first one after a lazy setup; what today's file set up, it brings up to date
    machine.thv("token", "--force-refresh")
    assert provider.verify(machine.run(str(machine.helper)).out.strip())
    status, text = chat(machine)
    assert (status, ANSWER in text) == (200, True)

    machine.thv("setup")

    assert serving(machine) == __version__
    assert "All is well." in machine.thv("doctor").out
    assert len(machine.services()) == 1
    new = machine.snapshot()
    assert {name for name in new if new[name] != wired[name]} == {
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
