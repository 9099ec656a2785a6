"""A provider that gives no refresh token: all there is of a session is one access token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.machine import Machine, machine

SETUP = ("--scopes", "openid", "--models", "m")
NOT_KEPT = "ends with this command"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.environ["THV_LLM_SOCKET"] = str(tmp_path / "s")
        yield made
        made.run("proxy", "stop")


def test_setup_hands_the_token_to_the_service_which_serves_it(here: Machine) -> None:
    done = here.setup(*SETUP, with_service=True)

    assert done.code == 0, done.err
    assert "the session will end with the access token" in done.err
    assert "The background service keeps it for " in done.err
    assert "The session is in" not in done.err
    for _ in range(2):
        assert here.provider.verify_access_token(here.run("token").out.strip())
    assert here.provider.count("refresh") == 0


def test_status_and_doctor_tell_of_a_token_and_of_no_session(here: Machine) -> None:
    here.setup(*SETUP, with_service=True)

    out = here.run("status").out
    assert "kept in" not in out
    assert "session   logged in without a refresh token\n          access token expires in " in out
    document = json.loads(here.run("status", "--format", "json").out)
    assert document["session"]["exists"] is False
    assert document["session"]["token_expires_at"]
    assert "kept in" not in here.run("config", "show").out
    found = {one["name"]: one for one in json.loads(here.run("doctor", "--format", "json").out)["checks"]}
    assert found["session"]["level"] == "warn"
    assert found["token"]["level"] == "ok"


def test_login_hands_it_to_a_service_that_runs_and_logout_takes_it_back(here: Machine) -> None:
    here.setup(*SETUP, "--lazy", with_service=True)
    done = here.run("login")

    assert "The background service keeps it for " in done.err
    assert here.run("token").code == 0

    here.run("logout")
    assert here.run("token").code == 4


@pytest.mark.parametrize("words", [("login",), ("setup", "--no-service", "--yes")])
def test_without_the_service_it_says_that_nothing_keeps_it(here: Machine, words: tuple[str, ...]) -> None:
    here.setup(*SETUP, "--lazy")

    done = here.run(*words)

    assert done.code == 0, done.err
    assert NOT_KEPT in done.err
    assert "next: thv-llm proxy start --background, then thv-llm login" in done.err
    assert "kept in" not in here.run("status").out
    assert here.run("token").code == 4


def test_a_login_for_one_token_prints_it_and_needs_no_refresh(here: Machine) -> None:
    here.setup(*SETUP, "--lazy")

    done = here.run("token", "--login")

    assert here.provider.verify_access_token(done.out.strip())
    assert NOT_KEPT in done.err
