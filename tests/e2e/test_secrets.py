"""Canaries: tokens and keys of a whole run are looked for wherever they must not be."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ask, prompt

EACH_S = 0.01


@contextlib.contextmanager
def watched(machine: Machine) -> Iterator[set[str]]:
    """Collect every command line and environment that this machine's processes have meanwhile."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EACH_S):
            for _, line, environ in machine.processes():
                seen.update((line, environ))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def files_with(place: Path, secret: str) -> set[str]:
    """Return the files below a directory that have a secret in them."""
    found = set()
    for directory, _, names in os.walk(place):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and secret.encode() in path.read_bytes():
                found.add(str(path.relative_to(place)))
    return found


def sent_tokens(machine: Machine) -> set[str]:
    """Return the access tokens that the gateway was sent."""
    sent = {request.header("authorization") for request in machine.gateway.requests if request.admitted}
    return {value.removeprefix("Bearer ") for value in sent}


def whole_run(machine: Machine, provider: NpmProvider) -> tuple[set[str], set[str]]:
    """Do everything once; return what processes showed, and the access tokens."""
    with watched(machine) as seen:
        machine.setup()
        tokens = {machine.token()}
        ask(machine, prompt("claude-code"))
        ask(machine, prompt("llm"))
        machine.thv("--debug", "token", "--force-refresh")
        for report in ("status", "doctor", "tools", "config show", "proxy status", "proxy logs", "env"):
            done = machine.run("thv-llm", "--debug", *report.split())
            assert not [token for token in tokens if token in done.out + done.err], report
    return seen, tokens | sent_tokens(machine)


def test_no_token_and_no_key_is_anywhere_else(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm", keyring=True)
    given_before = set(provider.refresh_tokens())

    seen, access_tokens = whole_run(machine, provider)

    refresh_tokens = set(provider.refresh_tokens()) - given_before
    key = machine.local_key()
    assert len(access_tokens) >= 1
    assert len(refresh_tokens) >= 2
    assert any(str(machine.helper) in line for line in seen), "nothing was watched"
    for secret in access_tokens | refresh_tokens:
        assert not files_with(machine.place, secret)
        assert not [text for text in seen if secret in text]
    assert not [text for text in seen if key in text]
    assert files_with(machine.place, key) == {
        "home/.config/toolhive/llm-state.json",
        "home/.config/io.datasette.llm/extra-openai-models.yaml",
    }


def test_without_a_keyring_the_session_is_encrypted(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm")
    given_before = set(provider.refresh_tokens())

    seen, access_tokens = whole_run(machine, provider)

    for secret in access_tokens | (set(provider.refresh_tokens()) - given_before):
        assert not files_with(machine.place, secret)
        assert not [text for text in seen if secret in text]
    modes = {path.name: path.stat().st_mode & 0o777 for path in machine.ours.iterdir() if path.is_file()}
    assert "llm-session.enc" in modes
    assert {mode for name, mode in modes.items()} == {0o600}, modes
    assert machine.ours.stat().st_mode & 0o777 == 0o700
