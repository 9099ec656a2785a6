"""What the first version wrote can be brought up to date and undone by every later one.

`record-0.1.0.json` holds files before and after its setup, and its undo record. It never changes:
people have such records.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.machines import Machine, succeeded
from thv_llm.tools import engine

RECORD = Path(__file__).parent.parent / "data" / "record-0.1.0.json"
TOOLS = ("claude-code", "codex", "pi", "opencode", "gemini-cli", "aider", "vscode", "llm")

Snapshot = dict[str, tuple[int, bytes]]


@pytest.fixture
def before(machine: Machine) -> Snapshot:
    """What the home was; now it is as the first version left it, record included."""
    left = json.loads(RECORD.read_text())
    machine.write({machine.home / name: text for name, text in left["before"].items()})
    before = machine.snapshot()
    machine.write({machine.home / name: text for name, text in left["wired"].items()})
    record = json.dumps(left["state"]).replace('"HOME/', f'"{machine.home}/')
    machine.write({Path(machine.paths.state): record})
    assert machine.snapshot() != before
    return before


def test_it_is_undone_byte_for_byte(machine: Machine, before: Snapshot) -> None:
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before
    assert machine.state.wired == ()


def test_it_is_brought_up_to_date_and_then_undone(machine: Machine, before: Snapshot) -> None:
    assert succeeded(machine.setup(*(engine.by_name(name) for name in TOOLS), proxy_port=14001))
    assert "14001" in (machine.home / ".config/opencode/opencode.jsonc").read_text()
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before
