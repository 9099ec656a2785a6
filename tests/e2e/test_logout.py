"""Logging out: at the provider, in the keyring, and in the service that is running."""

from __future__ import annotations

import time

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, ask, chat, prompt

SOON_S = 2.0


def entries(machine: Machine) -> str:
    """Return what the keyring has of ours."""
    found = machine.run("secret-tool", "search", "--all", "service", "thv-llm")
    return found.out + found.err


def test_logout_is_seen_by_the_provider_the_keyring_the_proxy_and_the_tool(
    new_machine: NewMachine, provider: NpmProvider
) -> None:
    machine = new_machine("llm", keyring=True)
    machine.setup()
    ask(machine, prompt("llm"))
    assert chat(machine)[0] == 200
    refresh_token = provider.refresh_tokens()[-1]
    assert refresh_token in entries(machine)
    before = provider.seen()["revocations"]

    machine.thv("logout")
    ended_at = time.monotonic()

    while (found := chat(machine))[0] != 401:
        assert time.monotonic() < ended_at + SOON_S, found
    assert "thv-llm login" in found[1]
    assert provider.seen()["revocations"] > before
    assert provider.spend(refresh_token) == 400
    assert refresh_token not in entries(machine)
    assert "secret = " not in entries(machine)
    refused = machine.thv("token", fails=True)
    assert (refused.code, refused.out) == (4, "")
    done = machine.run(*prompt("llm").ask)
    assert "thv-llm login" in done.out + done.err, done.said

    machine.thv("login")
    assert ANSWER in chat(machine)[1]


def test_teardown_with_purge_logs_out_as_well(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", keyring=True)
    machine.setup()
    before = provider.seen()["revocations"]

    machine.thv("teardown", "--purge-tokens")

    assert provider.seen()["revocations"] > before
    assert "secret = " not in entries(machine)
    assert not machine.services()
