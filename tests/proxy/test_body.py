"""Request bodies: decoded, encoded, kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from thv_llm.proxy.body import MAX_KEPT_BYTES, RequestBody
from thv_llm.proxy.framing import Chunked, Counted
from thv_llm.proxy.http1 import Refused
from thv_llm.proxy.wire import Wire

MANY = 1 << 30


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    yield wire, theirs
    wire.close()
    theirs.close()


def test_no_body_is_done_and_says_nothing(ends: tuple[Wire, socket.socket]) -> None:
    body = RequestBody(ends[0], Counted(0), MANY)

    assert (body.done, body.framing, body.from_start()) == (True, None, b"")


def test_what_came_with_the_head_is_taken_and_what_follows_it_left(ends: tuple[Wire, socket.socket]) -> None:
    tool, _ = ends
    tool.ahead = b"helloNEXT"
    body = RequestBody(tool, Counted(5), MANY)

    assert (body.done, body.from_start(), tool.ahead) == (True, b"hello", b"NEXT")
    assert body.framing == (b"Content-Length", b"5")


def test_parts_are_passed_on_and_kept_for_a_repeat(ends: tuple[Wire, socket.socket]) -> None:
    tool, other = ends
    tool.ahead = b"2\r\nhe\r\n"
    body = RequestBody(tool, Chunked(), MANY)
    other.send(b"3\r\nllo\r\n0\r\nX: 1\r\nHost: evil\r\n\r\n")

    assert body.read() == b"3\r\nllo\r\n0\r\nX: 1\r\n\r\n"
    assert body.from_start() == b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX: 1\r\n\r\n"
    assert (body.done, body.size, body.framing) == (True, 5, (b"Transfer-Encoding", b"chunked"))


def test_nothing_there_is_not_the_end_and_the_end_is_an_error(ends: tuple[Wire, socket.socket]) -> None:
    tool, other = ends
    body = RequestBody(tool, Counted(5), MANY)

    assert body.read() is None
    other.close()
    with pytest.raises(ConnectionError):
        body.read()


def test_a_body_too_large_to_keep_cannot_be_repeated(ends: tuple[Wire, socket.socket]) -> None:
    tool, _ = ends
    tool.ahead = b"x" * (MAX_KEPT_BYTES + 1)

    body = RequestBody(tool, Counted(MAX_KEPT_BYTES + 1), MANY)

    assert not body.can_repeat


def test_chunks_that_add_up_to_too_much_are_refused(ends: tuple[Wire, socket.socket]) -> None:
    tool, _ = ends
    tool.ahead = b"5\r\nhello\r\n6\r\n world\r\n"

    with pytest.raises(Refused) as caught:
        RequestBody(tool, Chunked(), 10)

    assert caught.value.status == 413
