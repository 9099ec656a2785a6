"""What is known of sessions without opening a store: logins, logouts, and the file that tells of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from thv_llm import paths, sessions, state
from thv_llm.errors import ThvLlmError
from thv_llm.sessions import SessionFacts, Sessions, StoredSession


@pytest.fixture
def ours(tmp_path: Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "own"), str(tmp_path), str(tmp_path / "s"))


def test_without_a_file_there_are_none(ours: paths.Paths) -> None:
    assert sessions.load(ours.state) == Sessions()
    assert sessions.load(ours.state).stored == ()


def test_what_the_state_keeps_of_them_is_read_without_the_rest(ours: paths.Paths) -> None:
    facts = SessionFacts("keyring", "second", "sub", "me@example", 12.5, 3, 99.5, True)
    state.update_sessions(ours, lambda known: known.after_login(SessionFacts("file", "first")))
    state.update_sessions(ours, lambda known: known.after_login(facts))
    document = json.loads(Path(ours.state).read_text())
    del document["checksum"]
    Path(ours.state).write_bytes(sessions.encoded({**document, "wired": "no record at all"}))

    assert sessions.load(ours.state) == Sessions(facts, (StoredSession("file", "first"),))


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 2}',
        '{"version": 1, "session": []}',
        '{"version": 1, "session": {"expires_at": "soon"}}',
        '{"version": 1, "earlier_sessions": [{"store": "file"}]}',
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(ours: paths.Paths, text: str) -> None:
    Path(ours.directory).mkdir()
    Path(ours.state).write_text(text)

    with pytest.raises(ThvLlmError, match=r"cannot understand .*llm-state\.json"):
        sessions.load(ours.state)


NOW, DAY_S = 1_800_000_000.0, 86400.0


@pytest.mark.parametrize(
    ("ends", "ending_s"),
    [
        ([2 * DAY_S], None),
        ([DAY_S - 1], DAY_S - 1),
        ([3600], 3600),
        ([3600, 3600, 3601], 3600),
        ([-5], -5),
        ([math.inf], None),
        ([3600, math.inf], None),
        ([1800, 1800 + 70], None),  # each refresh moves it
        ([1800, 1800 + 600, 1800 + 1200], None),
        ([1800, 1800 + 600, 1800 + 600], 2400),  # no further: some limit was reached
        ([30 * DAY_S, 600], 600),
    ],
)
def test_the_end_that_a_provider_has_said_is_near(ends: list[float], ending_s: float | None) -> None:
    facts = SessionFacts("file", "a")
    for end_s in ends:
        facts = facts.with_end(NOW + end_s, NOW)

    assert facts.ending_s(NOW) == ending_s
    assert SessionFacts("file", "a").ending_s(NOW) is None


def test_an_end_that_moves_with_each_refresh_changes_the_file_now_and_then() -> None:
    facts, changes = SessionFacts("file", "a").with_end(NOW + 1800, NOW), 0
    for minute in range(5, 105, 5):
        later = facts.with_end(NOW + 60 * minute + 1800, NOW + 60 * minute)
        changes += later != facts
        facts = later

    assert changes <= 11
    assert facts.ends_at is not None
    assert facts.ends_at > NOW + 100 * 60


def test_an_end_is_of_the_latest_session_alone() -> None:
    known = Sessions(SessionFacts("file", "b"))

    assert known.with_end("a", NOW, NOW) == known
    assert known.with_end("b", NOW, NOW).latest.ends_at == NOW


def test_a_login_with_other_settings_leaves_the_session_before_on_record() -> None:
    first, second = SessionFacts("keyring", "first", who="me"), SessionFacts("file", "second", who="me")

    known = Sessions().after_login(first).after_login(second)

    assert known.latest == second
    assert known.stored == (StoredSession("file", "second"), StoredSession("keyring", "first"))
    assert known.of("second") == second
    assert known.of("first") == SessionFacts("keyring", "first")  # its user is not known any more
    assert known.of("third") == SessionFacts()
    assert known.after_login(first).stored == (
        StoredSession("keyring", "first"),
        StoredSession("file", "second"),
    )


def test_a_session_that_ended_is_off_the_record() -> None:
    known = Sessions(SessionFacts("file", "b", who="me"), (StoredSession("keyring", "a"),))

    assert known.without(StoredSession("keyring", "a")) == Sessions(known.latest)
    assert known.without(StoredSession("file", "b")) == Sessions(earlier=known.earlier)
    assert known.without(StoredSession("file", "c")) == known


def test_a_session_that_moves_is_on_record_in_both_places_until_the_old_one_is_empty() -> None:
    moving = Sessions().after_login(SessionFacts("file", "a")).after_login(SessionFacts("keyring", "a"))

    assert moving.stored == (StoredSession("keyring", "a"), StoredSession("file", "a"))
    assert moving.of("a").store == "keyring"
    assert moving.without(StoredSession("file", "a")).stored == (StoredSession("keyring", "a"),)
