"""`tools`: the table, one tool, and no secret in either."""

from __future__ import annotations

import json

import pytest

from tests.commands.machine import Machine
from thv_llm import state
from thv_llm.tools import engine
from thv_llm.tools.model import Value
from thv_llm.tools.values import leaves


def wiring_of(here: Machine, name: str) -> str:
    lines = here.run("tools").out.splitlines()
    line = next(line for line in lines if line.startswith(f"  {name} "))
    return line[28:39].strip()


@pytest.mark.posix
def test_every_tool_is_listed_with_how_it_was_found(here: Machine) -> None:
    out = here.run("tools").out

    assert all(tool.id in out for tool in engine.TOOLS)
    assert "  claude-code       direct  not configured program ~/bin/claude\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_wired_and_drifted_tools_are_told_apart(here: Machine) -> None:
    here.setup()
    assert wiring_of(here, "opencode") == "configured"
    assert max(map(len, here.run("tools").out.splitlines())) <= 80

    here.opencode.write_text("{}")

    assert wiring_of(here, "opencode") == "changed"
    assert wiring_of(here, "claude-code") == "configured"


@pytest.mark.posix
def test_one_tool_shows_what_setup_would_write(here: Machine) -> None:
    here.run("config", "set", "--gateway-url", "https://llm.example.com")

    out = here.run("tools", "claude-code").out

    assert str(here.claude) in out
    assert here.paths.helper in out
    assert "https://llm.example.com" in out


@pytest.mark.parametrize("name", [tool.id for tool in engine.TOOLS])
def test_every_tool_can_be_looked_at_and_shows_no_key(here: Machine, name: str) -> None:
    here.run("config", "set", "--gateway-url", "https://llm.example.com", "--models", "m-1")
    known = [state.local_key(here.paths), *state.keys(here.paths, [name, "env"]).values()]
    tool = engine.by_name(name)

    text = here.run("tools", name)
    document = here.run("tools", name, "--format", "json")

    assert text.code == document.code == 0
    shown = [key for key in known if key.reveal() in text.out]
    is_pasted = tool.snippet and Value.LOCAL_KEY in leaves(tool.snippet)
    assert shown == ([state.load(here.paths.state).keys[name]] if is_pasted else [])
    assert not [key for key in known if key.reveal() in document.out]
    parsed = json.loads(document.out)
    assert parsed["tool"] == name
    assert parsed["files"] or parsed["snippet"] or parsed["reason"]


@pytest.mark.posix
def test_a_snippet_can_be_pasted_as_it_is(here: Machine) -> None:
    here.setup("--client", "claude-code")

    out = here.run("tools", "continue").out

    key = state.load(here.paths.state).keys["continue"].reveal()
    assert f"apiKey: {key}\n" in out
    assert "model: m-1\n" in out  # as the gateway names it
    assert here.run("tools", "continue").out == out
    assert f"{here.paths.helper} --tool avante" in here.run("tools", "avante").out


def test_a_snippet_of_a_user_without_settings_has_words_in_their_place(here: Machine) -> None:
    done = here.run("tools", "continue")

    assert "apiKey: LOCAL-KEY\n" in done.out
    assert "model: MODEL\n" in done.out
    assert not state.load(here.paths.state).keys


def test_the_json_table_is_stable(here: Machine) -> None:
    rows = json.loads(here.run("tools", "--format", "json").out)["tools"]

    assert list(rows[0]) == [
        "tool",
        "title",
        "mode",
        "found",
        "where",
        "wired",
        "state",
        "next",
        "files",
        "left_to_do",
        "reason",
        "remedy",
    ]


def test_an_unknown_tool_lists_the_known_ones(here: Machine) -> None:
    done = here.run("tools", "notepad")

    assert done.code == 2
    assert "claude-code" in done.err
