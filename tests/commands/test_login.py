"""`login`: when it asks, when it does not, and what it says."""

from __future__ import annotations

import pytest

from tests.commands.machine import Machine
from tests.fakes.browser import broken_browser, no_browser
from tests.fakes.web import ServerResponse


@pytest.fixture
def here(here: Machine) -> Machine:
    here.setup("--lazy", "--models", "m")
    return here


def test_login_says_who_logged_in_and_where_the_session_is(here: Machine) -> None:
    done = here.run("login")

    assert done.code == 0, done.err
    assert done.out == ""
    assert "Logged in as 'dev@example.com'" in done.err
    assert "The session is in" in done.err
    assert here.run("token").code == 0


def test_a_good_session_is_not_asked_for_again_unless_forced(here: Machine) -> None:
    here.run("login")
    here.open_browser = no_browser
    assert "Already logged in" in here.run("login").err

    here.open_browser = here.browser.open
    assert "Logged in as" in here.run("login", "--force").err
    assert here.provider.count("authorize") == 2


def test_a_prompt_is_sent_and_means_a_new_login(here: Machine) -> None:
    here.run("login")
    here.run("login", "--prompt", "select_account")

    assert here.provider.last("authorize").query["prompt"] == "select_account"


def test_without_a_browser_the_url_is_printed(here: Machine) -> None:
    urls: list[str] = []

    def note(url: str) -> bool:
        urls.append(url)
        here.browser.open(url)
        return broken_browser(url)

    here.open_browser = note
    done = here.run("login")

    assert done.code == 0
    assert urls[0] in done.err


def test_an_unconfigured_login_names_the_command(here: Machine) -> None:
    here.run("teardown")
    here.run("config", "reset")

    done = here.run("login")

    assert done.code == 5
    assert "thv-llm setup" in done.err


def test_a_device_login_shows_the_code_large_and_clear(here: Machine) -> None:
    here.provider.device_errors = []
    here.provider.device_interval_s = 0
    here.open_browser = no_browser

    done = here.run("login", "--device-code")

    assert done.code == 0, done.err
    assert here.provider.count("device_token") >= 1


CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "interaction_required", "claims": CLAIMS}, 4),
        (400, {"error": "login_required"}, 4),
        (403, {"error": "mfa_required"}, 4),
        (400, {"error": "invalid_grant"}, 4),
        (401, {"error": "invalid_token"}, 1),
        (400, {"error": "invalid_request"}, 1),
        (400, {"error": "invalid_scope"}, 1),
        (500, {"error": "server_error"}, 6),
        (429, {"error": "slow"}, 6),
        (503, "<html>", 6),
    ],
)
def test_a_login_replaces_a_session_that_gives_no_token(
    here: Machine, status: int, body: object, code: int
) -> None:
    here.run("login")
    here.provider.alter["refresh"] = lambda _: ServerResponse(status, body, {"Retry-After": "250"})
    for _ in range(2):
        assert here.run("token").code == code

    done = here.run("login")

    assert done.code == 0, done.err
    assert here.provider.count("authorize") == 2
    sent = here.provider.last("authorize").query.get("claims")
    assert sent == (CLAIMS if isinstance(body, dict) and "claims" in body else None)
    here.provider.alter.clear()
    assert here.run("token").code == 0


def test_a_provider_that_is_away_keeps_the_session_and_says_so(here: Machine) -> None:
    here.run("login")
    here.provider.grants.rotates = False  # what is altered was not carried out
    here.provider.alter["discovery"] = here.provider.alter["refresh"] = lambda _: ServerResponse(503, "")
    here.open_browser = no_browser

    done = here.run("login")

    assert done.code == 6
    assert "HTTP 503" in done.err
    here.provider.alter.clear()
    assert "Already logged in" in here.run("login").err
