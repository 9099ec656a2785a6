"""Values of ours that no record tells of: never the user's, and never another installation's by force."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.machines import VALUES, Machine, succeeded
from thv_llm import system
from thv_llm.secret import Secret
from thv_llm.tools import engine
from thv_llm.tools.undo import ForeignError

TOOLS = tuple(tool for tool in engine.TOOLS if tool.edits)
KEY = Secret("thv-" + "k" * 43)
OTHER_KEY = Secret("thv-" + "o" * 43)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a local key of the true length, and the helper in place."""
    helper = tmp_path / "own/bin/thv-llm-token"
    machine = Machine(tmp_path, values=replace(VALUES, local_key=KEY, helper_path=str(helper)))
    machine.write({helper: "#!/bin/sh\n"})
    return machine


def forget(machine: Machine) -> None:
    """Lose the record, as when our directory is deleted or a tool writes old settings back."""
    Path(machine.paths.state).unlink()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_values_of_ours_without_a_record_are_never_previous_values(
    machine: Machine, tool: engine.Tool
) -> None:
    assert succeeded(machine.setup(tool))
    forget(machine)

    assert succeeded(machine.setup(tool, models=("model-2", "model-3")))
    assert succeeded(machine.teardown())

    left = b"".join(data for _, data in machine.snapshot().values())
    assert KEY.reveal().encode() not in left
    assert b"thv-llm" not in left


def test_what_the_user_has_beside_them_is_kept_and_restored(machine: Machine) -> None:
    codex = engine.by_name("codex")
    (path,) = machine.targets(codex)
    machine.write({path: 'model = "mine"  # comment\n'})
    machine.setup(codex)
    forget(machine)
    machine.setup(codex, gateway_url="https://other.example")
    assert "https://other.example/v1" in path.read_text()
    machine.teardown()
    assert path.read_text().rstrip() == 'model = "mine"  # comment'


def test_a_tool_that_writes_its_settings_back_after_teardown(machine: Machine) -> None:
    claude = engine.by_name("claude-code")
    (path,) = machine.targets(claude)
    machine.write({path: '{"theme": "dark"}'})
    machine.setup(claude)
    in_memory = path.read_bytes()
    machine.teardown()
    path.write_bytes(in_memory)

    machine.setup(claude)
    machine.teardown()

    assert json.loads(path.read_text()) == {"theme": "dark"}


@pytest.mark.parametrize(
    "helper",
    [
        "/home/of/another machine/bin/thv-llm-token",
        "/gone/bin/thv-llm-token.py",
        "C:/Users/me/AppData/Local/toolhive/bin/thv-llm-token.py",
    ],
)
def test_a_helper_that_is_not_there_is_of_an_installation_that_is_gone(machine: Machine, helper: str) -> None:
    for name in ("claude-code", "codex", "pi"):
        tool = engine.by_name(name)
        assert succeeded(machine.setup(tool, helper_path=helper))
    forget(machine)
    for name in ("claude-code", "codex", "pi"):
        assert succeeded(machine.setup(engine.by_name(name)))
    assert succeeded(machine.teardown())
    assert not any(b"thv-llm-token" in data for _, data in machine.snapshot().values())


def other_installation(machine: Machine, tool: engine.Tool) -> Path:
    """Configure a tool by another installation, whose record we do not have."""
    home = machine.top / "other dir"
    helper = home / "bin/thv-llm-token"
    machine.write({helper: "#!/bin/sh\n"})
    machine.setup(tool, helper_path=str(helper), local_key=OTHER_KEY, proxy_port=14999)
    forget(machine)
    return home


def test_another_installation_is_named_with_the_command_that_undoes_it(machine: Machine) -> None:
    claude = engine.by_name("claude-code")
    home = other_installation(machine, claude)
    before = machine.snapshot()

    with pytest.raises(ForeignError) as caught:
        machine.plan(claude)

    assert str(home) in caught.value.why
    undo = system.with_setting("THV_LLM_HOME", str(home), "thv-llm teardown")
    assert caught.value.next_step.startswith(f"{undo}, or ")
    assert "thv-llm setup --take-over" in caught.value.next_step
    assert machine.snapshot() == before


def test_another_installation_is_known_by_its_key_and_port(machine: Machine) -> None:
    opencode = engine.by_name("opencode")
    other_installation(machine, opencode)
    with pytest.raises(ForeignError, match="14999"):
        machine.plan(opencode)


@pytest.mark.parametrize("name", ["claude-code", "codex", "opencode", "aider", "llm", "vscode"])
def test_taking_over_makes_no_previous_values_of_theirs(machine: Machine, name: str) -> None:
    tool = engine.by_name(name)
    other_installation(machine, tool)
    planned = engine.plan(tool, machine.place, machine.values, machine.state, take_over=True)
    assert succeeded(engine.apply([planned], machine.paths))
    assert succeeded(machine.teardown())
    left = b"".join(data for _, data in machine.snapshot().values())
    assert OTHER_KEY.reveal().encode() not in left
    assert b"thv-llm-token" not in left


@pytest.mark.parametrize(
    "text",
    [
        '{"apiKeyHelper": "/home/me/bin/token.sh"}',
        '{"apiKeyHelper": "echo thv-llm-token"}',
        '{"apiKeyHelper": "/opt/notes/thv-llm-token"}',
        """{"apiKeyHelper": "sh -c 'don''t"}""",
    ],
)
def test_what_is_not_provably_ours_is_the_users(machine: Machine, text: str) -> None:
    claude = engine.by_name("claude-code")
    (path,) = machine.targets(claude)
    machine.write({path: text})
    machine.setup(claude)
    machine.teardown()
    assert path.read_text() == text


def test_a_key_alone_proves_nothing_without_a_loopback_url(machine: Machine) -> None:
    opencode = engine.by_name("opencode")
    text = json.dumps(
        {"provider": {"thv-llm": {"options": {"apiKey": KEY.reveal(), "baseURL": "https://x/v1"}}}}
    )
    path = machine.targets(opencode)[0]
    machine.write({path: text})
    machine.setup(opencode)
    machine.teardown()
    assert json.loads(path.read_text()) == json.loads(text)
