"""Canaries: tokens, codes and keys of a whole run are looked for wherever they must not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import canaries
from tests.e2e.machine import Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ask, prompt

PASSPHRASE = "seventeen green parrots in one test"
"""Without the canaries' mark: it stands in the environment, where its owner has put it."""


@contextmanager
def scanned(machine: Machine, provider: NpmProvider) -> Iterator[set[str]]:
    """Look at what processes show meanwhile, and at all files in the end; yields the former."""
    scan = canaries.Scan()
    with canaries.watched(machine.home, scan) as seen:
        yield seen
        given = provider.secrets()
    scan.files(machine.place)
    assert scan.hits == []
    assert all(given[kind] for kind in ("rt", "at", "id token", "code", "code verifier")), (
        "nothing was looked for"
    )
    # The helper lives for 20 ms, too short to be met each time; the service and `token` are always.
    assert any(str(machine.commands / "thv-llm") in line for line in seen), "nothing was watched"


def whole_run(machine: Machine) -> None:
    """Do everything once."""
    machine.setup()
    tokens = {machine.token()}
    ask(machine, prompt("claude-code"))
    ask(machine, prompt("llm"))
    tokens.add(machine.thv("--debug", "token", "--force-refresh").out.strip())
    for report in ("status", "doctor", "tools", "config show", "proxy status", "proxy logs", "env"):
        done = machine.run("thv-llm", "--debug", *report.split())
        assert not [token for token in tokens if token in done.out + done.err], report


def files_with(place: Path, secret: str) -> set[str]:
    """Return the files below a directory that have a secret in them."""
    found = (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(place)) for path in found if secret.encode() in path.read_bytes()}


def test_no_token_and_no_key_is_anywhere_else(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm", keyring=True)

    with scanned(machine, provider):
        whole_run(machine)

    assert files_with(machine.place, machine.local_key()) == {
        "home/.config/toolhive/llm-state.json",
        "home/.config/io.datasette.llm/extra-openai-models.yaml",
    }


def test_without_a_keyring_the_session_is_encrypted(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm")
    machine.environ["THV_LLM_PASSPHRASE"] = PASSPHRASE

    with scanned(machine, provider) as seen:
        whole_run(machine)

    assert not files_with(machine.place, PASSPHRASE)
    assert not [text for text in seen if PASSPHRASE in text.replace(f"THV_LLM_PASSPHRASE={PASSPHRASE}", "")]
    modes = {path.name: path.stat().st_mode & 0o777 for path in machine.ours.iterdir() if path.is_file()}
    assert "llm-session.enc" in modes
    assert {mode for name, mode in modes.items()} == {0o600}, modes
    assert machine.ours.stat().st_mode & 0o777 == 0o700
