from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.web import ServerResponse
from tests.tokens.rig import Rig, broken, login_result, rigged
from thv_llm import sessions, tokens
from thv_llm.errors import LoginRequiredError, RefusedError, ThvLlmError, UnreachableError
from thv_llm.secret import Secret
from thv_llm.sessions import Sessions
from thv_llm.store import StoreError
from thv_llm.store.encrypted_file import EncryptedFile

HOUR_S = 3600.0


# When the provider fails


@pytest.mark.parametrize(
    "response",
    [
        broken(500),
        broken(503),
        broken(429),
        ServerResponse(
            status=401, body="<!doctype html><p>who are you", headers={"Content-Type": "text/html"}
        ),
        ServerResponse(status=200, body="<html>Wi-Fi login", headers={"Content-Type": "text/html"}),
        ServerResponse(status=200, body=""),
        ServerResponse(status=200, body="{]"),
        ServerResponse(status=200, body={"access_token": 5, "token_type": "Bearer"}),
        ServerResponse(status=302, body="", headers={"Location": "https://portal.example/"}),
        ServerResponse(status=400, body={"error": "temporarily_unavailable"}),
    ],
    ids=lambda response: f"{response.status}-{str(response.body)[:12]}",
)
def test_a_response_that_is_no_token_and_no_end_keeps_the_session(rig: Rig, response: ServerResponse) -> None:
    before = rig.refresh_token
    rig.provider.alter["refresh"] = lambda _: response
    rig.provider.grants.rotates = False  # what is altered was not carried out

    with pytest.raises(UnreachableError):
        rig.source.get()

    assert rig.refresh_token == before
    assert rig.provider.count("refresh") <= 3
    rig.provider.alter.clear()
    with pytest.raises(UnreachableError, match=r"retry in [123] s"):
        rig.another().get()
    rig.clock.pass_(3)
    assert rig.source.get()


def test_what_the_settings_ask_for_and_the_provider_refuses_keeps_the_session(rig: Rig) -> None:
    before = rig.refresh_token
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=401, body={"error": "invalid_client"})
    rig.provider.grants.rotates = False

    for _ in range(12):
        with pytest.raises(RefusedError, match=r"oidc\.client_id"):
            rig.another().get()

    assert rig.refresh_token == before
    assert rig.provider.count("refresh") == 1


def test_no_listener_keeps_the_session_and_is_told_soon(rig: Rig) -> None:
    rig.source.get()
    before = rig.refresh_token
    rig.provider.close()

    with pytest.raises(UnreachableError):
        rig.another().get()

    assert rig.refresh_token == before
    assert sum(rig.clock.slept) <= 5


def test_a_lost_response_is_requested_once_more_with_the_same_token_within_five_seconds(
    tmp_path: Path,
) -> None:
    with rigged(tmp_path, reuse_grace_s=5) as rig:
        rig.provider.lost_responses = 1

        token = rig.source.get()

        assert rig.provider.verify_access_token(token.value.reveal())
        assert rig.provider.count("refresh") == 2
        assert rig.is_alive
        assert sum(rig.clock.slept) < 5


def test_a_lost_response_without_grace_ends_in_one_clear_sentence(rig: Rig) -> None:
    rig.provider.lost_responses = 1

    with pytest.raises(LoginRequiredError, match="thv-llm login"):
        rig.source.get()

    assert rig.provider.count("refresh") == 2


def test_two_lost_responses_in_a_row_are_not_followed_by_a_third_try(tmp_path: Path) -> None:
    with rigged(tmp_path, reuse_grace_s=60) as rig:
        rig.provider.lost_responses = 2

        with pytest.raises(UnreachableError):
            rig.source.get()

        assert rig.provider.count("refresh") == 2
        rig.clock.pass_(3)
        assert rig.source.get()


def test_a_pause_that_the_provider_requests_is_kept_if_it_is_short(rig: Rig) -> None:
    responses = [broken(429, **{"Retry-After": "7"})]
    rig.provider.alter["refresh"] = lambda good: responses.pop() if responses else good
    rig.provider.grants.rotates = False

    assert rig.source.get()

    assert rig.clock.slept == [7.0]


def test_a_long_pause_is_not_waited_for_but_kept_by_other_processes_too(rig: Rig) -> None:
    rig.provider.alter["refresh"] = lambda _: broken(429, **{"Retry-After": "1800"})
    rig.provider.grants.rotates = False

    for source in (rig.source, rig.another(), rig.another()):
        with pytest.raises(UnreachableError, match="retry in 300 s"):
            source.get()
    assert rig.provider.count("refresh") == 1
    assert rig.clock.slept == []

    rig.clock.pass_(301)  # bounded: the user can have fixed it
    rig.provider.alter.clear()
    assert rig.another().get()


def test_the_pause_is_not_for_a_user_who_waits(rig: Rig) -> None:
    rig.provider.alter["refresh"] = lambda _: broken(429, **{"Retry-After": "1800"})
    rig.provider.grants.rotates = False
    with pytest.raises(UnreachableError):
        rig.source.get()

    rig.provider.alter.clear()
    assert tokens.open(
        rig.settings, rig.paths, rig.environ, clock=rig.clock_as_value(), is_patient=False
    ).get()


@pytest.mark.parametrize("status", [500, 429])
def test_a_minute_of_an_outage_costs_the_provider_few_requests(rig: Rig, status: int) -> None:
    """It was 12 requests in 45 s with one tool, and 32 in 33 s with several."""
    rig.provider.alter["refresh"] = lambda _: broken(status)
    rig.provider.grants.rotates = False

    until = rig.clock.now() + 60
    while rig.clock.now() < until:
        for source in (rig.source, rig.another()):
            with pytest.raises(UnreachableError):
                source.get()
        rig.clock.pass_(0.5)

    assert rig.provider.count("refresh") <= 9


def test_an_outage_does_not_take_away_a_token_that_is_still_good(rig: Rig) -> None:
    first = rig.source.get()
    rig.clock.pass_(HOUR_S - 300)
    rig.provider.alter["refresh"] = lambda _: broken()
    rig.provider.grants.rotates = False

    for _ in range(10):
        assert rig.source.get() == first
    assert rig.provider.count("refresh") <= 4

    rig.clock.pass_(280)
    with pytest.raises(UnreachableError):
        rig.source.get()


# When the user must come


def test_a_provider_that_wants_its_user_keeps_the_session_and_gets_no_more_requests(rig: Rig) -> None:
    before, claims = rig.refresh_token, '{"access_token":{"acrs":{"essential":true}}}'
    body = {"error": "interaction_required", "error_description": "AADSTS50076: MFA", "claims": claims}
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body=body)

    for number in range(12):
        with pytest.raises(LoginRequiredError, match="AADSTS50076") as caught:
            (rig.source if number % 2 else rig.another()).get()
        assert caught.value.next_step == "thv-llm login"
        rig.clock.pass_(60)

    assert rig.refresh_token == before
    assert rig.provider.count("refresh") == 1
    assert rig.another().claims() == claims


def test_a_token_that_is_still_valid_outlives_the_wish_to_see_the_user(rig: Rig) -> None:
    first = rig.source.get()
    rig.clock.pass_(HOUR_S - 300)
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=403, body={"error": "mfa_required"})

    assert rig.source.get() == first
    rig.clock.pass_(290)
    with pytest.raises(LoginRequiredError, match="mfa_required"):
        rig.source.get()


def test_a_login_that_the_provider_wanted_counts_at_once(rig: Rig) -> None:
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "login_required"})
    with pytest.raises(LoginRequiredError):
        rig.source.get()
    rig.provider.alter.clear()

    rig.log_in()

    assert rig.another().get()
    assert rig.source.get()
    assert rig.another().claims() == ""


# When the session ends


def test_an_ended_session_is_removed_and_eleven_calls_cost_the_provider_one_request(rig: Rig) -> None:
    body = {"error": "invalid_grant", "error_description": "inactive"}
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body=body)

    for number in range(11):
        with pytest.raises(
            LoginRequiredError, match=r"the stored session has ended \(invalid_grant\): 'inactive'"
        ):
            (rig.source if number % 2 else rig.another()).get()
        rig.clock.pass_(1)

    assert rig.refresh_token is None
    assert rig.provider.count("refresh") == 1


def test_an_ended_session_is_off_the_record(rig: Rig) -> None:
    rig.source.adopt(login_result("at", rig.refresh_token, rig.clock.now()))
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})

    with pytest.raises(LoginRequiredError):
        rig.source.get()

    assert sessions.load(rig.paths.state) == Sessions()


@pytest.mark.parametrize("kind", [StoreError, ThvLlmError])
def test_an_ended_session_that_cannot_be_removed_is_not_tried_again_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, kind: type[ThvLlmError]
) -> None:
    def locked(self: EncryptedFile, key: str) -> None:
        raise kind("locked")

    monkeypatch.setattr(EncryptedFile, "delete", locked)
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})

    for _ in range(11):
        with pytest.raises(LoginRequiredError):
            rig.another().get()
        rig.clock.pass_(0.4)

    assert rig.provider.count("refresh") == 1
    rig.clock.pass_(5)
    with pytest.raises(LoginRequiredError):
        rig.another().get()
    assert rig.provider.count("refresh") == 2


def test_a_login_after_the_end_counts_at_once(rig: Rig) -> None:
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})
    with pytest.raises(LoginRequiredError):
        rig.source.get()
    rig.provider.alter.clear()

    rig.log_in()

    assert rig.another().get()
    assert rig.source.get()


def test_only_what_failed_is_removed_not_what_a_login_stored_meanwhile(rig: Rig) -> None:
    newer = rig.provider.issue_refresh_token()

    def refuse(_: ServerResponse) -> ServerResponse:
        rig.store.save(rig.key, Secret(newer))  # a login of an older version
        return ServerResponse(status=400, body={"error": "invalid_grant"})

    rig.provider.alter["refresh"] = refuse
    with pytest.raises(LoginRequiredError):
        rig.source.get()

    assert rig.refresh_token == newer
    rig.provider.alter.clear()
    assert rig.another().get()


def test_not_logged_in_is_said_without_a_request_to_the_provider(rig: Rig) -> None:
    rig.store.delete(rig.key)

    with pytest.raises(LoginRequiredError, match="not logged in"):
        rig.source.get()

    assert rig.provider.requests == []
