"""`logout`: gone here in any case, and at the provider if it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.machine import Machine
from tests.fakes.web import ServerResponse


@pytest.fixture
def here(here: Machine) -> Machine:
    here.setup("--client", "claude-code")
    return here


def test_logout_revokes_and_deletes(here: Machine) -> None:
    done = here.run("logout")

    assert done.code == 0
    assert "Logged out." in done.err
    assert "The session was revoked at the provider." in done.err
    assert "stays valid" not in done.err
    assert here.provider.count("revoke") == 1
    assert here.run("token").code == 4


def test_a_provider_that_refuses_to_revoke_does_not_keep_the_session_here(here: Machine) -> None:
    here.provider.alter["revoke"] = lambda response: ServerResponse(401, {"error": "invalid_client"})

    done = here.run("logout")

    assert done.code == 0
    assert "not revoked at the provider: 127.0.0.1 returned HTTP 401 'invalid_client'." in done.err
    assert "stays valid until it expires" in done.err
    assert here.run("token").code == 4


def test_a_proxy_that_cannot_be_used_does_not_keep_the_session_here(here: Machine) -> None:
    here.environ["HTTPS_PROXY"] = "socks5://127.0.0.1:1"
    Path(here.paths.discovery_cache).unlink()

    done = here.run("logout")

    assert done.code == 0
    assert "The session was not revoked at the provider: it is a SOCKS proxy" in done.err
    assert here.run("token").code == 4


def test_a_second_logout_says_that_there_was_no_session(here: Machine) -> None:
    here.run("logout")

    assert "Not logged in" in here.run("logout").err
