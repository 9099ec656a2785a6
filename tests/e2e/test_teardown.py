"""`setup`, then `teardown`, of the built file: `diff -r` of the whole home finds nothing."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.machine import Machine, NewMachine

JSON = b'{\n    "mine" : [1, 2,\t3],\n    "env": {"A": "\\u00e9"}\n}\n'
COMMENTS = b'// mine\n{\n  /* "provider": {} */\n  "mine": true, // yes\n}\n'
STRICT_COMMENTS = b'// mine\n{\n  /* "security": {} */\n  "mine": true // yes\n}\n'
TOML = b'# mine\nmodel = "o5" # the large one\n\n[profiles.x]\n"a b" = 1\n# the end'
DOTENV = b"# mine\nOTHER='x y'\nexport GEMINI_MODEL=a\n"
YAML = b"# mine\ndark-mode: true\n"

FILES: dict[str, bytes] = {
    ".claude/settings.json": JSON,
    ".claude/projects/notes.md": b"not ours\n",
    ".codex/config.toml": TOML,
    ".pi/agent/models.json": STRICT_COMMENTS,
    ".pi/agent/settings.json": JSON,
    ".config/opencode/opencode.jsonc": COMMENTS,
    ".config/kilo/kilo.jsonc": COMMENTS,
    ".gemini/settings.json": STRICT_COMMENTS,
    ".gemini/.env": DOTENV,
    ".copilot/settings.json": JSON,
    ".aider.conf.yml": YAML,
    ".qwen/settings.json": STRICT_COMMENTS,
    ".factory/settings.json": STRICT_COMMENTS,
    ".kimi-code/config.toml": TOML,
    ".vibe/config.toml": TOML,
    ".config/zed/settings.json": COMMENTS,
    ".config/Code/User/chatLanguageModels.json": b"[\n  // mine\n]\n",
}
PROGRAMS: tuple[str, ...] = (
    "claude",
    "codex",
    "pi",
    "opencode",
    "kilo",
    "gemini",
    "copilot",
    "aider",
    "qwen",
    "droid",
)
PROGRAMS += ("kimi", "vibe", "zed", "code", "llm", "cline")


def plain(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def windows_lines(path: Path, data: bytes) -> None:
    path.write_bytes(data.replace(b"\n", b"\r\n"))


def byte_order_mark(path: Path, data: bytes) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + data)


def group_may_read(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o640)


def symlink(path: Path, data: bytes) -> None:
    target = path.parent / f"the real {path.name}"
    target.write_bytes(data)
    target.chmod(0o600)
    path.symlink_to(target.name)


def tree(home: Path) -> dict[str, tuple[int, bytes]]:
    """Return kind, mode and content of everything in a home but our own directory."""
    found = {}
    for path in sorted(home.rglob("*")):
        name, mode = str(path.relative_to(home)), path.lstat().st_mode
        if name.startswith(".config/toolhive"):
            continue
        if stat.S_ISLNK(mode):
            found[name] = (mode, os.readlink(path).encode())
        else:
            found[name] = (mode, path.read_bytes() if stat.S_ISREG(mode) else b"")
    return found


def with_programs(machine: Machine) -> Machine:
    """Put a program of each name on PATH; that is what a tool is found by."""
    for name in PROGRAMS:
        machine.command(name, "#!/bin/sh\necho 'GitHub Copilot CLI 1.0'\n")
    (machine.home / ".config").mkdir()
    return machine


@pytest.mark.parametrize("write", [plain, windows_lines, byte_order_mark, group_may_read, symlink])
def test_every_byte_is_back(new_machine: NewMachine, write: Callable[[Path, bytes], None]) -> None:
    machine = with_programs(new_machine())
    for name, data in FILES.items():
        path = machine.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)
    before = tree(machine.home)
    copy = machine.place / "copy"
    subprocess.run(["cp", "-a", machine.home, copy], check=True)

    machine.setup("--lazy", "--models", "m-1,m-2")
    wired = tree(machine.home)
    machine.setup("--lazy", "--models", "m-1,m-2")
    assert tree(machine.home) == wired, "the second setup changed something"
    machine.setup("--lazy", "--models", "m-9")  # other models, same undo
    machine.thv("teardown")

    changed = {name for name in wired if wired[name] != before.get(name)}
    assert len(changed) >= len(FILES) - 3  # notes.md, and what a byte order mark makes unreadable
    assert tree(machine.home) == before
    difference = subprocess.run(
        ["diff", "-r", "--no-dereference", "--exclude=toolhive", copy, machine.home],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (difference.returncode, difference.stdout) == (0, "")


def test_an_empty_home_is_empty_again(new_machine: NewMachine) -> None:
    machine = with_programs(new_machine())
    before = tree(machine.home)

    machine.setup("--lazy", "--models", "m-1")
    assert len(tree(machine.home)) > 2 * len(PROGRAMS)
    machine.thv("teardown")

    assert tree(machine.home) == before


def test_one_tool_after_the_other_and_the_service_ends_with_the_last(new_machine: NewMachine) -> None:
    machine = with_programs(new_machine())
    machine.setup("--lazy", "--models", "m-1", "--client", "codex", "--client", "opencode", "--client", "llm")

    wired = tree(machine.home)
    unknown = machine.thv("teardown", "zed", fails=True)
    assert unknown.code == 2, unknown.said
    assert "codex" in unknown.err
    assert tree(machine.home) == wired
    for tool in ("opencode", "codex", "llm"):
        assert machine.services(), tool
        machine.thv("teardown", tool)

    assert not machine.services()
    assert not (machine.home / ".codex").exists()


def test_a_dry_run_changes_nothing_and_shows_no_secret(new_machine: NewMachine) -> None:
    machine = with_programs(new_machine())

    shown = machine.setup("--lazy", "--models", "m-1", "--dry-run").out

    assert "+++ " in shown
    assert not (machine.home / ".codex").exists()
    assert not (machine.ours / "llm.toml").exists()
    machine.setup("--lazy", "--models", "m-1")
    assert machine.local_key() not in machine.thv("teardown", "--dry-run").out
