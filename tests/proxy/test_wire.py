"""Connections that never block."""

from __future__ import annotations

import select
import socket
import time

import pytest

from thv_llm.proxy.wire import READ, WRITE, Late, Wire


def test_reading_says_what_is_there_nothing_yet_or_the_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours)
        assert wire.read() is None
        theirs.send(b"hello")
        assert wire.read() == b"hello"
        theirs.shutdown(socket.SHUT_WR)
        assert wire.read() == b""
        wire.close()


def test_writing_stops_when_the_other_end_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours)
        data = b"x" * (16 << 20)
        assert 0 < wire.write(data) < len(data)
        assert wire.write(data) == 0
        wire.close()


def test_writing_all_asks_for_room_until_everything_is_sent() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours)
        data = b"x" * (4 << 20)
        got = 0
        for deadline in wire.write_all(data, 5.0):
            assert (deadline, wire.wants) == (5.0, WRITE)
            got += len(theirs.recv(1 << 20))
        assert wire.wants == READ
        while got < len(data):
            got += len(theirs.recv(1 << 20))
        assert wire.read() is None
        wire.close()


def test_waiting_ends_at_its_deadline_or_with_the_event() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours)
        with pytest.raises(Late):
            wire.wait(select.POLLIN, time.monotonic() + 0.01)
        with pytest.raises(Late):
            wire.wait(select.POLLOUT, time.monotonic() - 1)
        theirs.send(b"x")
        wire.wait(select.POLLIN, time.monotonic() + 5)
        wire.close()


def test_a_broken_end_can_be_told_from_a_clean_one() -> None:
    for broken in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
            with theirs:
                Wire(ours).close(broken=broken)
                if broken:
                    with pytest.raises(ConnectionResetError):
                        theirs.recv(1)
                else:
                    assert theirs.recv(1) == b""
