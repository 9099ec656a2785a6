from __future__ import annotations

import json
from pathlib import Path

import pytest

from thv_llm.errors import (
    InteractionRequiredError,
    LoginRequiredError,
    NoResponseError,
    RefusedError,
    ThvLlmError,
    UnreachableError,
)
from thv_llm.secret import Secret
from thv_llm.tokens.failure import FailureMemory

RT = Secret("rt-canary")
ENDED = LoginRequiredError("cannot get an access token", why="ended", next_step="thv-llm login")
NOW = 1_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failure.json"


def memory(path: Path, at: float, key: str = "key") -> FailureMemory:
    return FailureMemory(str(path), key, now=lambda: at)


def test_the_end_of_a_session_holds_for_five_seconds_in_every_process(path: Path) -> None:
    memory(path, NOW).remember(RT, ENDED)

    with pytest.raises(LoginRequiredError) as caught:
        memory(path, NOW + 4.9).check(RT, since=NOW + 4.9)
    memory(path, NOW + 5.1).check(RT, since=NOW + 5.1)

    assert str(caught.value) == str(ENDED)


def test_it_holds_for_that_token_and_that_session_only(path: Path) -> None:
    memory(path, NOW).remember(RT, ENDED)

    memory(path, NOW).check(Secret("rt-2"), since=NOW)
    memory(path, NOW, key="other").check(RT, since=NOW)
    assert memory(path, NOW, key="other").why_ended() is None


def test_why_a_session_ended_is_told_until_it_is_forgotten(path: Path) -> None:
    memory(path, NOW).remember(RT, ENDED)
    assert str(memory(path, NOW + 9e5).why_ended()) == str(ENDED)

    memory(path, NOW).clear()
    memory(path, NOW).clear()
    assert memory(path, NOW).why_ended() is None


def test_a_passing_failure_is_of_those_who_waited_for_it(path: Path) -> None:
    memory(path, NOW).remember(RT, UnreachableError("no answer"))

    with pytest.raises(UnreachableError, match="no answer"):
        memory(path, NOW + 0.1).check(RT, since=NOW - 0.1, is_patient=False)
    memory(path, NOW + 0.1).check(RT, since=NOW + 0.1, is_patient=False)
    assert memory(path, NOW).why_ended() is None


@pytest.mark.many_files
@pytest.mark.parametrize(
    ("error", "longest_s"),
    [
        (UnreachableError("HTTP 503"), 60),
        (RefusedError("invalid_client"), 60),
        (NoResponseError("lost", maybe_sent=True), 60),
        (NoResponseError("no network"), 10),
    ],
)
def test_the_pauses_grow_and_are_never_the_same_for_two_machines(
    path: Path, error: ThvLlmError, longest_s: float
) -> None:
    at, pauses = NOW, []
    for _ in range(12):
        memory(path, at).remember(RT, error)
        assert _holds(path, at)
        pause_s = next(s / 10 for s in range(2000) if not _holds(path, at + s / 10))
        pauses.append(pause_s)
        at += pause_s

    assert 1.5 <= pauses[0] <= 2.6
    assert all(longest_s * 0.75 <= pause_s <= longest_s * 1.26 for pause_s in pauses[-4:])
    assert len(set(pauses[-4:])) > 1
    assert sum(pauses[:4]) > (22 if longest_s > 10 else 15)


def _holds(path: Path, at: float) -> bool:
    try:
        memory(path, at).check(RT, since=at)
    except ThvLlmError:
        return True
    return False


def test_after_a_quiet_time_the_pauses_begin_anew(path: Path) -> None:
    for _ in range(12):
        memory(path, NOW).remember(RT, UnreachableError("HTTP 503"))
    memory(path, NOW + 3600).remember(RT, UnreachableError("HTTP 503"))

    assert not _holds(path, NOW + 3603)


@pytest.mark.parametrize(("asked_s", "kept_s"), [(42, 42), (299, 299), (3600, 300), (0, 2)])
def test_a_requested_pause_is_kept_up_to_five_minutes_and_counted_down(
    path: Path, asked_s: float, kept_s: float
) -> None:
    told = memory(path, NOW).remember(RT, UnreachableError("busy", retry_after_s=asked_s))
    assert told.next_step == f"retry in {kept_s} s"

    with pytest.raises(UnreachableError) as caught:
        memory(path, NOW + kept_s - 1).check(RT, since=NOW + 20)
    assert caught.value.retry_after_s == 1
    assert caught.value.next_step == "retry in 1 s"
    memory(path, NOW + kept_s).check(RT, since=NOW + kept_s)


def test_a_user_who_waits_does_not_keep_the_pause(path: Path) -> None:
    memory(path, NOW).remember(RT, UnreachableError("busy", retry_after_s=42))

    memory(path, NOW + 1).check(RT, since=NOW + 1, is_patient=False)


def test_what_the_user_must_do_at_the_provider_is_remembered_until_the_next_login(path: Path) -> None:
    wanted = InteractionRequiredError("no token", why="mfa", next_step="thv-llm login", claims='{"a":1}')
    memory(path, NOW).remember(RT, wanted)

    with pytest.raises(InteractionRequiredError) as caught:
        memory(path, NOW + 9e6).check(RT, since=NOW + 9e6, is_patient=False)
    assert caught.value.claims == '{"a":1}'
    assert str(caught.value) == str(wanted)
    memory(path, NOW + 1).check(Secret("rt-2"), since=NOW + 1)
    assert memory(path, NOW).why_ended() is None


def test_a_memory_from_the_future_is_none_because_the_clock_was_set_back(path: Path) -> None:
    memory(path, NOW).remember(RT, UnreachableError("busy", retry_after_s=3600))

    memory(path, NOW - 3600).check(RT, since=NOW - 3600)


def test_there_is_no_token_in_the_file(path: Path) -> None:
    memory(path, NOW).remember(RT, ENDED)

    assert b"canary" not in path.read_bytes()


@pytest.mark.parametrize(
    "text", ["", "null", "{", "[]", "{}", '{"at":"x"}', "[" * 5000, '{"token":1,"at":1,"until":null}']
)
def test_a_broken_file_is_no_memory(path: Path, text: str) -> None:
    path.write_text(text)

    memory(path, NOW).check(RT, since=NOW)
    assert memory(path, NOW).why_ended() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("text", ["what", "why"]), ("text", []), ("text", None), ("at", "soon"), ("until", []), ("times", "x")],
)
def test_a_member_that_is_not_as_we_write_it_makes_it_none(path: Path, name: str, value: object) -> None:
    memory(path, NOW).remember(RT, ENDED)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    memory(path, NOW).check(RT, since=NOW)
    assert memory(path, NOW).why_ended() is None


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    memory(tmp_path / "missing" / "failure.json", NOW).remember(RT, ENDED)
