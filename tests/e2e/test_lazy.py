"""`setup --lazy` as a company's rollout runs it: no terminal, no browser, no D-Bus, no user."""

from __future__ import annotations

from tests.e2e.machine import NewMachine
from tests.e2e.prompts import ask, prompt


def test_everything_is_in_place_and_the_first_use_says_what_to_run(new_machine: NewMachine) -> None:
    machine = new_machine("claude", "llm")
    browser = machine.environ.pop("BROWSER")
    machine.environ.pop("XDG_RUNTIME_DIR")

    done = machine.run(
        "setsid", "-w", "thv-llm", "setup", "--lazy", "--yes", "--models", "m-1", *machine.connection()
    )

    assert done.code == 0, done.said
    assert (machine.home / ".claude" / "settings.json").is_file()
    assert (machine.home / ".config" / "io.datasette.llm" / "extra-openai-models.yaml").is_file()
    for command in (["thv-llm", "token"], [str(machine.helper)]):
        refused = machine.run(*command)
        assert (refused.code, refused.out) == (4, ""), refused.said
        assert "thv-llm login" in refused.err
        assert len(refused.err.splitlines()) <= 3
    told = machine.run(*prompt("llm").ask)
    assert "thv-llm login" in told.out + told.err, told.said

    machine.environ["BROWSER"] = browser
    login = machine.thv("login").err
    assert "encrypted file" in login
    ask(machine, prompt("llm"))
    # Without a token the gateway could not be asked where it serves Anthropic's API; now it could.
    assert f"Claude Code: changed {machine.home}/.claude/settings.json" in login, login
    ask(machine, prompt("claude-code"))
