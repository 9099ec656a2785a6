"""`login`: when it asks, when it does not, and what it says."""

from __future__ import annotations

import pytest

from tests.commands.machine import Machine
from tests.fakes.browser import broken_browser, no_browser


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
