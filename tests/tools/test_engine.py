"""The face of the engine: finding, names, previews, snippets, drift."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tools.machines import KEY, VALUES, Machine
from thv_llm.errors import UsageError
from thv_llm.tools import engine

CLAUDE, OPENCODE = (engine.by_name(name) for name in ("claude-code", "opencode"))


def test_tools_are_found_in_the_order_of_the_table(machine: Machine) -> None:
    for name in ("opencode", "claude"):
        machine.program(name)
    assert [found.tool.id for found in engine.find(machine.place)] == ["claude-code", "opencode"]


def test_a_wrong_name_is_an_error_that_lists_the_right_ones() -> None:
    with pytest.raises(UsageError, match="Did you mean `claude-code` or `claude-desktop`"):
        engine.by_name("claude")


def test_a_tool_says_what_it_needs_of_the_gateway() -> None:
    assert engine.takes_models(OPENCODE)
    assert engine.takes_models(engine.by_name("codex"))
    assert not engine.takes_models(CLAUDE)


def test_a_preview_has_the_real_paths_and_touches_nothing(machine: Machine) -> None:
    machine.write({machine.home / ".claude/settings.json": "not read"})
    before = machine.snapshot()
    ((path, text),) = engine.preview(CLAUDE, machine.place, VALUES)
    assert path == str(machine.home / ".claude/settings.json")
    assert VALUES.helper_path in text
    assert machine.snapshot() == before


def test_a_snippet_has_the_real_paths_and_a_word_for_unknown_models() -> None:
    avante = engine.by_name("avante")
    assert VALUES.helper_path in engine.snippet(avante, VALUES)
    assert "model = 'MODEL'" in engine.snippet(avante, replace(VALUES, models=()))
    assert engine.snippet(CLAUDE, VALUES) == ""


def test_a_file_that_cannot_be_looked_at_is_drift_with_the_reason(machine: Machine) -> None:
    machine.setup(CLAUDE, OPENCODE)
    (path,) = machine.targets(CLAUDE)
    path.write_text("{\n]")
    (opencode,) = machine.targets(OPENCODE)
    opencode.unlink()
    opencode.mkdir()
    broken, odd = engine.drift(machine.state)
    assert (broken.tool, broken.path) == ("claude-code", str(path))
    assert "line 2" in broken.why
    assert odd.why == "it is not a regular file"


def test_a_missing_file_has_lost_every_key(machine: Machine) -> None:
    machine.setup(OPENCODE)
    machine.targets(OPENCODE)[0].unlink()
    (found,) = engine.drift(machine.state)
    assert found.keys == ("/$schema", "/provider/thv-llm")


def test_the_diff_of_nothing_is_nothing(machine: Machine) -> None:
    machine.setup(CLAUDE)
    assert engine.diff(machine.plan(CLAUDE)) == ""
    assert KEY.reveal() not in engine.diff(machine.plan(OPENCODE))
