from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.web import ServerResponse
from tests.tokens.rig import Rig, broken, login_result, rigged
from thv_llm import files, sessions
from thv_llm.errors import LoginRequiredError, ThvLlmError, UnreachableError
from thv_llm.oidc.id_token import unchecked_claims
from thv_llm.secret import Secret
from thv_llm.settings import ROWS
from thv_llm.store import StoreError
from thv_llm.store.encrypted_file import EncryptedFile

HOUR_S = 3600.0


# From memory, else by refresh


def test_the_first_token_costs_one_refresh_and_the_next_ones_none(rig: Rig) -> None:
    first = rig.source.get()
    assert rig.provider.verify_access_token(first.value.reveal())

    rig.clock.pass_(HOUR_S - 601)

    assert rig.source.get() == first
    assert rig.provider.count("refresh") == 1


def test_a_token_with_less_than_the_asked_life_is_replaced(rig: Rig) -> None:
    first = rig.source.get()
    rig.clock.pass_(HOUR_S - 599)

    assert rig.source.get() != first
    assert rig.source.get(60) is not first
    assert rig.provider.count("refresh") == 2


@pytest.mark.parametrize("lifetime_s", [2.0, 10.0, 300.0, 599.0, 1200.0])
def test_a_token_shorter_than_the_asked_life_is_used_for_half_of_it_not_refreshed_at_each_call(
    rig: Rig, lifetime_s: float
) -> None:
    rig.provider.access_lifetime_s = lifetime_s
    first = rig.source.get(600)

    for _ in range(9):
        rig.clock.pass_(lifetime_s / 20)
        assert rig.source.get(600) == first
    rig.clock.pass_(lifetime_s / 10)

    assert rig.source.get(600) != first
    assert rig.provider.count("refresh") == 2


def test_discovery_is_requested_once_by_many_processes(rig: Rig) -> None:
    for _ in range(3):
        rig.another().get()

    assert rig.provider.count("discovery") == 1
    assert rig.provider.count("refresh") == 3


def test_after_forget_the_store_is_read_again(rig: Rig) -> None:
    first = rig.source.get()
    rig.store.delete(rig.key)

    rig.source.forget()

    with pytest.raises(LoginRequiredError):
        rig.source.get()
    rig.log_in()
    assert rig.source.get() != first


def test_a_refresh_sends_what_distinguishes_the_session_and_nothing_else(rig: Rig) -> None:
    for row in ROWS:
        if row.parameter and not row.required:
            rig.settings = rig.settings.with_value(row, f"urn:{row.parameter}")
    rig.key = rig.settings.session_id
    rig.log_in()

    rig.another().get()

    form = rig.provider.last("refresh").form
    sent = {name: value for name, value in form.items() if name not in ("grant_type", "refresh_token")}
    assert sent == rig.settings.oidc.parameters


# Clocks


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0, 3e9])
def test_a_jump_of_the_wall_clock_neither_serves_dead_tokens_nor_refreshes_for_ever(
    rig: Rig, jump_s: float
) -> None:
    rig.source.get()

    rig.clock.wall += jump_s  # the machine's date was set
    for _ in range(5):
        rig.source.get()
        rig.clock.pass_(60)
    assert rig.provider.count("refresh") <= 2

    rig.clock.pass_(HOUR_S)
    before = rig.provider.count("refresh")
    rig.source.get()
    assert rig.provider.count("refresh") == before + 1


def test_sleep_counts_although_the_monotonic_clock_stands_still(rig: Rig) -> None:
    first = rig.source.get()

    rig.clock.wall += HOUR_S

    assert rig.source.get() != first


# Rotation and the store


def test_a_rotated_refresh_token_is_stored_before_the_access_token_is_given_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rig.refresh_token

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rig.source, "_hold", killed)  # from here on the caller could have the token
    with pytest.raises(KeyboardInterrupt):
        rig.source.get()

    assert rig.refresh_token != before
    assert rig.is_alive


def test_a_provider_that_does_not_rotate_keeps_the_old_one(tmp_path: Path) -> None:
    with rigged(tmp_path, rotates=False) as rig:
        before = rig.refresh_token

        rig.source.get()
        rig.another().get()

        assert rig.refresh_token == before


def test_a_store_that_fails_is_an_error_and_the_rotated_token_is_stored_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: EncryptedFile, key: str, value: object) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(EncryptedFile, "save", full)
        for _ in range(2):
            with pytest.raises(StoreError, match="disk full"):
                rig.source.get()
    assert rig.provider.count("refresh") == 1
    assert not rig.is_alive  # what is stored was rotated away

    assert rig.provider.verify_access_token(rig.source.get().value.reveal())
    assert rig.is_alive


def test_a_store_that_is_sure_to_fail_is_found_before_the_refresh_token_is_used_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, data: bytes, **options: object) -> None:
        raise ThvLlmError("cannot write", why="No space left on device")

    monkeypatch.setattr(files, "replace", full)

    with pytest.raises(ThvLlmError, match="No space left"):
        rig.source.get()

    assert rig.provider.count("refresh") == 0
    assert rig.is_alive


# What the gateway refuses


def test_a_rejected_token_is_replaced_once(rig: Rig) -> None:
    first = rig.source.get()

    second = rig.source.get(rejected=first.value)
    assert second != first
    assert rig.source.get(rejected=first.value) == second  # another caller's complaint about the same one

    assert rig.source.get(rejected=second.value) == second  # it is not its age
    assert rig.provider.count("refresh") == 2
    rig.clock.pass_(11)
    assert rig.source.get(rejected=second.value) != second


def test_a_rejected_token_is_no_spare_one(rig: Rig) -> None:
    first = rig.source.get()
    rig.provider.alter["refresh"] = lambda _: broken()
    rig.provider.grants.rotates = False

    with pytest.raises(UnreachableError):
        rig.source.get(rejected=first.value)


def test_a_rejected_token_is_given_to_no_other_caller(rig: Rig) -> None:
    first = rig.source.get()
    rig.provider.alter["refresh"] = lambda _: broken()
    rig.provider.grants.rotates = False

    with pytest.raises(UnreachableError):
        rig.source.get(rejected=first.value)
    with pytest.raises(UnreachableError):  # the helper's call
        rig.source.get()
    assert rig.source.at_hand() is None

    del rig.provider.alter["refresh"]
    rig.clock.pass_(60)
    assert rig.source.get() != first


# Who insists on a new one


def test_a_new_token_can_be_insisted_on_again_and_again(rig: Rig) -> None:
    first = rig.source.get()
    found = [rig.source.get(newer_than=rig.clock.monotonic()) for _ in range(3)]

    assert len({token.value for token in (first, *found)}) == 4
    assert rig.provider.count("refresh") == 4


def test_a_token_that_arrived_since_the_caller_began_is_new(rig: Rig) -> None:
    began = rig.clock.monotonic()

    def slow(response: ServerResponse) -> ServerResponse:
        rig.clock.pass_(1)
        return response

    rig.provider.alter["refresh"] = slow
    token = rig.source.get()

    assert rig.source.get(newer_than=began + 0.5) == token
    assert rig.source.get(newer_than=began + 1) != token
    assert rig.provider.count("refresh") == 2


def test_a_caller_that_insists_on_a_new_token_is_told_why_there_is_none(rig: Rig) -> None:
    first = rig.source.get()
    rig.provider.alter["refresh"] = lambda _: broken()
    rig.provider.grants.rotates = False

    with pytest.raises(UnreachableError):
        rig.source.get(newer_than=rig.clock.monotonic())
    assert rig.source.get() == first


def test_a_lock_that_is_held_too_long_names_its_holder_and_nothing_is_refreshed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thv_llm.tokens.source.DEADLINE_S", 0.1)

    with files.lock(rig.paths.lock("session"), timeout_s=1, what="the session"):
        with pytest.raises(ThvLlmError, match=r"process [0-9]+"):
            rig.source.get()

    assert rig.provider.count("refresh") == 0


# Login and logout


def test_a_login_is_stored_used_and_recorded(rig: Rig) -> None:
    rig.source.adopt(login_result("at-new", "rt-new", rig.clock.now() + HOUR_S))

    assert rig.refresh_token == "rt-new"
    assert rig.source.get().value.reveal() == "at-new"
    assert rig.source.has_session()
    facts = sessions.load(rig.paths.state).latest
    assert (facts.store, facts.subject, facts.who) == ("file", "user-1", "dev@example.com")
    assert rig.provider.requests == []


def test_a_login_without_a_refresh_token_lasts_as_long_as_its_access_token(rig: Rig) -> None:
    rig.source.adopt(login_result("at-new", None, rig.clock.now() + HOUR_S))

    assert rig.source.get().value.reveal() == "at-new"
    assert rig.refresh_token is None
    rig.clock.pass_(HOUR_S)
    with pytest.raises(LoginRequiredError):
        rig.source.get()


def test_no_token_is_ever_on_disk(rig: Rig) -> None:
    rig.source.get()
    rig.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})
    rig.source.adopt(login_result("at-canary", "rt-canary", rig.clock.now()))
    with pytest.raises(LoginRequiredError):
        rig.source.get()

    secrets = [text.encode() for text in rig.provider.grants.given_out] + [b"canary"]
    for path in Path(rig.paths.directory).rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_bytes()], path


# A login that brought no session


def test_a_token_without_a_session_serves_to_its_end_and_then_asks_for_a_login(rig: Rig) -> None:
    rig.store.delete(rig.key)
    rig.source.hold(Secret("at-last"), rig.clock.now() + HOUR_S)

    rig.clock.pass_(HOUR_S - 1)
    assert rig.source.get().value.reveal() == "at-last"
    assert rig.source.at_hand() == Secret("at-last")
    rig.clock.pass_(2)

    with pytest.raises(LoginRequiredError) as caught:
        rig.source.get()
    assert caught.value.next_step == "thv-llm login"
    assert rig.source.at_hand() is None
    assert rig.provider.count("refresh") == 0


def test_a_caller_that_insists_on_another_token_takes_it_from_no_other(rig: Rig) -> None:
    rig.store.delete(rig.key)
    rig.source.hold(Secret("at-last"), rig.clock.now() + HOUR_S)

    with pytest.raises(LoginRequiredError):
        rig.source.get(rejected=Secret("at-last"))
    with pytest.raises(LoginRequiredError):
        rig.source.get(newer_than=rig.clock.monotonic())

    assert rig.source.get().value.reveal() == "at-last"


def test_a_login_with_a_session_takes_the_place_of_the_last_token(rig: Rig) -> None:
    rig.source.hold(Secret("at-last"), rig.clock.now() + HOUR_S)
    rig.source.forget()  # as a login tells the service

    assert rig.provider.verify_access_token(rig.source.get().value.reveal())


def test_the_end_of_the_session_that_the_provider_says_is_on_record(rig: Rig) -> None:
    rig.source.adopt(login_result("at", rig.refresh_token, rig.clock.now()))

    def with_end(seconds: int) -> None:
        def alter(response: ServerResponse) -> ServerResponse:
            response.body["refresh_expires_in"] = seconds
            return response

        rig.provider.alter["refresh"] = alter
        rig.another().get()

    with_end(7200)
    assert sessions.load(rig.paths.state).latest.ends_at == rig.clock.now() + 7200
    rig.clock.pass_(1800)
    with_end(5400)
    assert sessions.load(rig.paths.state).latest.ending_s(rig.clock.now()) == 5400
    with_end(0)
    assert sessions.load(rig.paths.state).latest.ends_at is None


def test_a_gateway_that_wants_the_id_token_gets_it_and_a_new_one_in_time(tmp_path: Path) -> None:
    with rigged(tmp_path, id_token_on_refresh=True) as rig:
        rig.configure(gateway_token="id_token")
        first = rig.another().get()
        claims = unchecked_claims(first.value)

        assert (claims["aud"], claims["email"]) == ("cli", "dev@example.com")
        assert first.expires_at == claims["exp"]
        source = rig.another()
        source.get()
        rig.clock.pass_(200)
        assert source.get().expires_at > first.expires_at


def test_a_provider_that_renews_no_id_token_ends_such_a_session(tmp_path: Path) -> None:
    with rigged(tmp_path) as rig:
        rig.configure(gateway_token="id_token")
        for _ in range(3):
            with pytest.raises(LoginRequiredError, match="renews no ID token"):
                rig.another().get()

        assert rig.provider.count("refresh") == 1
        assert rig.refresh_token is None


def test_an_id_token_serves_until_it_expires(tmp_path: Path) -> None:
    with rigged(tmp_path) as rig:
        rig.configure(gateway_token="id_token")
        source = rig.another()
        source.adopt(login_result("id", rig.refresh_token, rig.clock.now() + 300))
        rig.clock.pass_(100)

        assert source.get().value == Secret("id")
