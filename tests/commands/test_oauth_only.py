"""A gateway that is its own authorization server: plain OAuth, gateway and provider are one party."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.commands.homes import Run
from tests.commands.machine import Machine
from tests.fakes.apps_gateway import apps_gateway
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from thv_llm import checks, settings

YES = "y\n"


@pytest.fixture
def server(here: Machine) -> Iterator[FakeProvider]:
    """The machine's gateway, which has a login by code alone."""
    with apps_gateway() as (gateway, server):
        here.gateway = gateway
        yield server


def setup(here: Machine, *words: str) -> Run:
    own = ("--ca-file", str(here.gateway.ca_file), "--proxy-port", str(here.port), "--no-service")
    return here.run("setup", here.gateway.url, *own, *words, stdin=YES * 2, is_terminal=True)


def token(here: Machine) -> str:
    found = here.run("token")
    assert found.code == 0, found.err
    return found.out.strip()


def test_one_url_sets_up_without_an_id_token(here: Machine, server: FakeProvider) -> None:
    done = setup(here)

    assert done.code == 0, done.err
    saved = settings.load(here.paths.settings)
    assert saved.oidc.issuer == here.gateway.url
    assert saved.oidc.client_id == "claude-code"
    assert saved.oidc.scopes == ("offline_access",)
    assert "WDJB-MJHT" in done.err
    assert here.browser.urls == [f"{here.gateway.url}/device?user_code=WDJB-MJHT"]
    assert "Logged in." in done.err
    assert here.provider.requests == []  # the machine's other provider
    claude = json.loads(here.claude.read_text())
    assert claude["env"]["ANTHROPIC_BASE_URL"] == here.gateway.url
    assert any(one.header("authorization") and one.path == "/v1/messages" for one in here.gateway.requests)


def test_its_login_by_browser_is_used_where_there_is_one(here: Machine) -> None:
    with apps_gateway(has_browser_login=True) as (gateway, server):
        here.gateway = gateway
        done = setup(here, "--client-id", "typed")

        assert done.code == 0, done.err
        assert server.count("authorize") == 1
        assert server.count("device") == 0
        assert "nonce" not in server.last("authorize").fields
        assert token(here) in server.grants.access_tokens


def test_a_program_is_told_of_that_login_once_with_the_code(here: Machine, server: FakeProvider) -> None:
    done = setup(here, "--yes", "--format", "json")

    assert done.code == 0, done.err
    (login,) = [one for one in map(json.loads, done.out.splitlines()) if one["event"] == "login"]
    assert login["user_code"] == "WDJB-MJHT"
    assert login["url"] in done.err


def test_no_browser_is_opened_for_the_code_when_none_is_wanted(here: Machine, server: FakeProvider) -> None:
    done = setup(here, "--skip-browser")

    assert done.code == 0, done.err
    assert here.browser.urls == []
    assert f"{here.gateway.url}/device" in done.err


def test_a_refreshed_token_is_one_that_the_gateway_accepts(here: Machine, server: FakeProvider) -> None:
    assert setup(here).code == 0

    fresh = token(here)

    assert server.count("refresh") == 1
    assert server.last("refresh").form["client_id"] == "claude-code"
    request = urllib.request.Request(
        f"{here.gateway.url}/v1/messages",
        json.dumps({"model": "m-1", "messages": []}).encode(),
        {"Authorization": f"Bearer {fresh}", "Content-Type": "application/json"},
    )
    here.browser._opener.open(request, timeout=10).close()
    assert here.gateway.served("/v1/messages")


def test_a_dead_session_is_401_invalid_grant_and_requires_a_login_once(
    here: Machine, server: FakeProvider
) -> None:
    assert setup(here).code == 0
    server.grants._live.clear()
    refreshes = server.count("refresh")

    ended, again = here.run("token"), here.run("token")

    assert (ended.code, again.code) == (4, 4)
    assert "the stored session has ended (invalid_grant)" in ended.err
    assert "thv-llm login" in ended.err
    assert server.count("refresh") == refreshes + 1
    assert here.run("login").code == 0
    assert token(here)


def test_status_doctor_and_logout_know_no_name_and_no_revocation(here: Machine, server: FakeProvider) -> None:
    assert setup(here, "--client", "claude-code").code == 0

    shown = here.run("status")
    look = checks.Installation(here.environ, here.paths, "linux", time.time)
    found = list(checks.run(look, only=("provider", "session", "token", "published", "gateway")))
    ended = here.run("logout")

    assert "logged in" in shown.out
    assert "''" not in shown.out
    assert [check for check in found if check.level is not checks.Level.OK] == []
    assert ended.code == 0
    assert "the provider offers no revocation" in ended.err


def test_an_endpoint_elsewhere_is_refused(here: Machine, server: FakeProvider) -> None:
    metadata = here.gateway.published["/.well-known/oauth-authorization-server"]
    assert isinstance(metadata, ServerResponse)
    metadata.body["token_endpoint"] = "https://evil.example/token"

    done = setup(here)

    assert done.code == 6
    assert "an endpoint on another host: 'https://evil.example/token'" in done.err
    assert server.requests == []
