"""`logout`: gone here in any case, and at the provider if it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.machine import Machine
from tests.fakes.web import Answer


@pytest.fixture
def here(here: Machine) -> Machine:
    here.setup("--client", "claude-code")
    return here


def test_logout_revokes_and_deletes(here: Machine) -> None:
    done = here.run("logout")

    assert done.code == 0
    assert "Deleted the session." in done.err
    assert "Revoked" in done.err
    assert here.provider.count("revoke") == 1
    assert here.run("token").code == 4


def test_a_provider_that_refuses_to_revoke_does_not_keep_the_session_here(here: Machine) -> None:
    here.provider.alter["revoke"] = lambda answer: Answer(401, {"error": "invalid_client"})

    done = here.run("logout")

    assert done.code == 0
    assert "did not revoke" in done.err
    assert here.run("token").code == 4


def test_a_proxy_that_cannot_be_used_does_not_keep_the_session_here(here: Machine) -> None:
    here.environ["HTTPS_PROXY"] = "socks5://127.0.0.1:1"
    Path(here.paths.discovery_cache).unlink()

    done = here.run("logout")

    assert done.code == 0
    assert "It could not be revoked at the provider: only http:// proxies" in done.err
    assert here.run("token").code == 4


def test_a_second_logout_says_that_there_was_no_session(here: Machine) -> None:
    here.run("logout")

    assert "There was no session" in here.run("logout").err
