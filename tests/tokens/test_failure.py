from __future__ import annotations

import json
from pathlib import Path

import pytest

from thv_llm.errors import LoginRequiredError, UnreachableError
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


def test_a_passing_failure_is_of_those_who_waited_for_it_and_of_nobody_later(path: Path) -> None:
    memory(path, NOW).remember(RT, UnreachableError("no answer"))

    with pytest.raises(UnreachableError, match="no answer"):
        memory(path, NOW + 0.1).check(RT, since=NOW - 0.1)
    memory(path, NOW + 0.1).check(RT, since=NOW + 0.1)
    assert memory(path, NOW).why_ended() is None


def test_a_pause_that_was_asked_for_holds_for_a_minute_at_most(path: Path) -> None:
    memory(path, NOW).remember(RT, UnreachableError("busy", retry_after_s=3600))

    with pytest.raises(UnreachableError) as caught:
        memory(path, NOW + 20).check(RT, since=NOW + 20)
    assert caught.value.retry_after_s == 40
    memory(path, NOW + 61).check(RT, since=NOW + 61)


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
    [("text", ["what", "why"]), ("text", []), ("text", None), ("at", "soon"), ("until", [])],
)
def test_a_member_that_is_not_as_we_write_it_makes_it_none(path: Path, name: str, value: object) -> None:
    memory(path, NOW).remember(RT, ENDED)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    memory(path, NOW).check(RT, since=NOW)
    assert memory(path, NOW).why_ended() is None


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    memory(tmp_path / "missing" / "failure.json", NOW).remember(RT, ENDED)
