"""Ending a session when something around it is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.machine import Machine, machine
from tests.fakes.web import Answer


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.setup("--client", "claude-code")
        yield made


def test_a_provider_that_is_down_does_not_keep_the_session_here(here: Machine) -> None:
    Path(here.paths.discovery_cache).unlink(missing_ok=True)
    here.provider.alter["discovery"] = lambda answer: Answer(503, "down")

    done = here.run("logout")

    assert done.code == 0
    assert "Deleted the session." in done.err
    assert "could not be revoked" in done.err
    assert here.run("token").code == 4


def test_without_settings_there_is_nothing_to_end(tmp_path: Path) -> None:
    with machine(tmp_path) as made:
        done = made.run("logout")

    assert done.code == 0
    assert "not configured" in done.err


def test_no_token_is_shown(here: Machine) -> None:
    secret = here.run("token").out.strip()
    done = here.run("logout")

    assert secret
    assert secret not in done.err + done.out
