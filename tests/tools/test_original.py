"""What a file was before us, from its bytes now and the record."""

from __future__ import annotations

import pytest

from thv_llm.edit.formats import Format, editor
from thv_llm.errors import ThvLlmError
from thv_llm.state import Edition, WiredFile
from thv_llm.tools.original import Original, decoded, digest, lost_keys, original

THEIRS = b'{\n  "theirs": 1\n}\n'


def written(data: bytes | None, **keys: str) -> tuple[bytes, Edition]:
    """Write keys into a file, as setup would."""
    wanted = {f"/{name}": value for name, value in keys.items()}
    text, changes = editor(Format.JSON).apply((data or b"").decode(), wanted)
    return text.encode(), Edition(changes, digest(text.encode()), done=True)


def record(*editions: Edition, created: bool = False) -> WiredFile:
    return WiredFile("/x/settings.json", Format.JSON.value, editions, created=created)


def test_no_file_has_nothing_of_ours() -> None:
    _, edition = written(THEIRS, a="1")
    assert original(None, record(edition)) == Original(None)


def test_what_we_wrote_is_taken_out_byte_for_byte() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    assert original(data, record(edition)) == Original(THEIRS, found=True)


def test_a_file_that_we_made_is_gone_when_nothing_else_is_in_it() -> None:
    data, edition = written(None, a="1")
    was = original(data, record(edition, created=True))
    assert (was.gone, was.before_us) == (True, None)
    assert not original(data, record(edition)).gone


def test_a_file_that_we_made_stays_when_somebody_else_wrote_into_it() -> None:
    data, edition = written(None, a="1")
    was = original(data.replace(b"{", b'{"b": 2,', 1), record(edition, created=True))
    assert was.gone is False
    assert was.before_us is not None
    assert b'"b": 2' in was.before_us


def test_a_file_that_is_ours_alone_goes_with_what_others_wrote_into_it() -> None:
    data, edition = written(None, a="1")
    data = data.replace(b"{", b'{"b": 2,', 1)
    assert original(data, record(edition, created=True), ours_alone=True).gone
    assert not original(b'{"b": 2}', record(edition, created=True), ours_alone=True).gone


def test_a_change_that_was_about_to_be_written_is_recognised_either_way() -> None:
    old, first = written(THEIRS, a="1", b="2")
    new, second = written(THEIRS, a="3", c="4")
    pending = Edition(second.changes, second.after)
    for data in (old, new, THEIRS):
        was = original(data, record(first, pending))
        assert (was.data, was.left) == (THEIRS, ())


def test_keys_that_somebody_changed_are_left_unless_they_were_never_written() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    changed = data.replace(b'"1"', b'"mine"')
    assert original(changed, record(edition)).left == ("/a",)
    assert original(changed, record(Edition(edition.changes, edition.after))).left == ()


def test_lost_keys_are_those_that_hold_something_else() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    assert lost_keys(data, record(edition)) == ()
    assert lost_keys(data.replace(b'"2"', b"2"), record(edition)) == ("/b",)
    assert lost_keys(None, record(edition)) == ("/a", "/b")


def test_what_is_not_utf_8_is_named_by_its_line() -> None:
    with pytest.raises(ThvLlmError, match="line 2 is not UTF-8"):
        decoded(b"a\n\xff\n", "/x")


def test_a_format_that_is_not_known_is_an_error() -> None:
    _, edition = written(THEIRS, a="1")
    with pytest.raises(ThvLlmError, match="not known to this version"):
        original(THEIRS, WiredFile("/x", "ini", (edition,)))
