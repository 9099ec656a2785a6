"""What is known of sessions without opening a store: logins, logouts, and the file that tells of them."""

from __future__ import annotations

import json
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
    facts = SessionFacts("keyring", "second", "sub", "me@example", 12.5, 3)
    state.update_sessions(ours, lambda known: known.after_login(SessionFacts("file", "first")))
    state.update_sessions(ours, lambda known: known.after_login(facts))
    document = json.loads(Path(ours.state).read_text())
    Path(ours.state).write_text(json.dumps({**document, "wired": "no record at all"}))

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


def test_a_login_with_other_settings_leaves_the_session_before_on_record() -> None:
    first, second = SessionFacts("keyring", "first", who="me"), SessionFacts("file", "second", who="me")

    known = Sessions().after_login(first).after_login(second)

    assert known.latest == second
    assert known.stored == (StoredSession("file", "second"), StoredSession("keyring", "first"))
    assert known.of("second") == second
    assert known.of("first") == SessionFacts("keyring", "first")  # of whom, nobody knows any more
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
