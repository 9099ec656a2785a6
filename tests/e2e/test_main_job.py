"""The main job: one file on PATH, `setup`, two real tools that work, `teardown`, every byte back."""

from __future__ import annotations

import json

from tests.e2e.machine import NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ask, prompt

COMMENTED = (
    b"\xef\xbb\xbf{\n  // mine\n"
    b'  "$schema": "https://opencode.ai/config.json",\n'  # else OpenCode itself rewrites the file
    b'  "theme": "gruvbox",\n}\n'
)


def test_claude_code_and_opencode_work_after_setup_and_every_byte_is_back_after_teardown(
    new_machine: NewMachine, provider: NpmProvider
) -> None:
    machine = new_machine("claude", "opencode", keyring=True)
    settings = machine.home / ".claude" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_bytes(b'{\r\n  "model": "opus",\r\n  "env": {"EDITOR": "vi"}\r\n}\r\n')
    mine = machine.home / ".config" / "opencode" / "opencode.jsonc"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(COMMENTED)
    mine.chmod(0o640)
    before = machine.snapshot()

    said = machine.setup().err
    assert str(settings) in said
    assert str(mine) in said
    again = machine.setup().err
    assert "already configured" in again
    wired = machine.snapshot()

    ask(machine, prompt("claude-code"))
    ask(machine, prompt("opencode"))
    shown = json.loads(machine.thv("config", "show", "--format", "json").out)
    assert {tool["tool"]: tool["mode"] for tool in shown["configured_tools"]} == {
        "claude-code": "direct",
        "opencode": "proxy",
    }

    machine.thv("teardown")
    after = machine.snapshot()
    assert {name: after.get(name) for name in before} == before
    assert not (set(wired) - set(before)) & set(after)
    assert not machine.services()


def test_one_trip_of_the_browser_brings_a_session_that_lasts(
    new_machine: NewMachine, provider: NpmProvider
) -> None:
    machine = new_machine("claude", keyring=True)
    codes = provider.seen()["codes"]

    machine.setup("--client", "claude-code", "--no-service")

    assert len((machine.place / "visited").read_text().split()) == 1
    assert provider.seen()["codes"] == codes + 2  # the first brought no refresh token: consent was missing
    refreshes = provider.seen()["refreshes"]
    assert provider.verify(machine.token())["sub"] == "dev"
    assert provider.seen()["refreshes"] == refreshes + 1
