"""What a user asks the built file after setup: is all well, what is where, and what is not."""

from __future__ import annotations

import json

from tests.e2e.machine import NewMachine
from tests.e2e.npm_provider import NpmProvider


def test_doctor_finds_nothing_after_setup_and_names_the_remedy_after_logout(
    new_machine: NewMachine, provider: NpmProvider
) -> None:
    machine = new_machine("claude", "opencode", keyring=True)
    machine.setup()

    well = machine.thv("doctor")
    assert "FAIL" not in well.out, well.said
    found = json.loads(machine.thv("status", "--format", "json").out)
    assert machine.gateway.url in json.dumps(found)

    machine.thv("logout")
    ill = machine.thv("doctor", fails=True)
    assert ill.code == 1, ill.said
    assert "thv-llm login" in ill.out + ill.err


def test_doctor_sees_that_a_tool_has_lost_its_settings_and_setup_fixes_it(new_machine: NewMachine) -> None:
    machine = new_machine("claude", keyring=True)
    machine.setup()
    settings = machine.home / ".claude" / "settings.json"
    wired = settings.read_bytes()
    settings.write_text('{"model": "opus"}\n')

    report = machine.thv("doctor", fails=True)
    assert "claude" in (report.out + report.err).lower(), report.said
    assert "thv-llm setup" in report.out + report.err, report.said

    machine.setup()
    held = json.loads(settings.read_bytes())
    assert held.pop("model") == "opus"
    assert held == json.loads(wired)
    machine.thv("teardown")
    assert settings.read_text() == '{"model": "opus"}\n'


def test_the_shell_lines_of_env_reach_the_gateway(new_machine: NewMachine) -> None:
    machine = new_machine("llm")
    machine.setup()

    typed = """
        eval "$(thv-llm env)"
        curl -sS -H "Authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/models"
    """
    asked = machine.run("sh", "-c", typed)

    assert "m-1" in asked.out, asked.said
    assert machine.gateway.served("/v1/models")
