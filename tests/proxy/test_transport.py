"""Byte streams that never block, plain and with TLS."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.hostile_gateway import CA, TLS
from tests.proxy.running import PATIENCE_S, until
from thv_llm.net import tls
from thv_llm.proxy.event_loop import _Selector
from thv_llm.proxy.transport import (
    READ,
    WRITE,
    WRITE_BYTES,
    Transport,
    UpstreamConnection,
    secure,
)

Other = Callable[[ssl.SSLSocket], object]


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


@contextmanager
def link_to(other: Other) -> Iterator[UpstreamConnection]:
    """Yield our end of a connection whose other end does this after the handshake, in a thread."""
    ours, theirs = connected()

    def serve() -> None:
        with server_context().wrap_socket(theirs, server_side=True) as secured:
            secured.settimeout(PATIENCE_S)
            with contextlib.suppress(OSError):
                other(secured)

    thread = threading.Thread(target=serve)
    thread.start()
    upstream = secure(ours, tls.client_context(CA, environ={}), "localhost", time.monotonic() + PATIENCE_S)
    yield upstream
    upstream.close()
    thread.join()


def wait(transport: Transport, events: int) -> None:
    """Wait as the loop does for one of these events, or an error."""
    with selectors.DefaultSelector() as selector:
        selector.register(transport.fd, events)
        assert selector.select(PATIENCE_S)


def next_read(upstream: UpstreamConnection) -> bytes:
    """Wait, and read."""
    while True:
        wait(upstream, READ)
        data = upstream.read()
        if data is not None:
            return data


def test_an_end_that_came_with_the_last_bytes_needs_no_word_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Windows, too, wakes nobody for a socket that was only shut down on this side.
    monkeypatch.setattr(socket.socket, "shutdown", lambda *_: None)
    said, closed = threading.Event(), threading.Event()

    def say_and_end(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"hello")
        with contextlib.suppress(OSError):
            secured.settimeout(0.1)
            secured.unwrap()  # the end of TLS, which waits for ours; the TCP connection stays open
        said.set()
        closed.wait(PATIENCE_S)

    with link_to(say_and_end) as upstream:
        assert said.wait(PATIENCE_S)
        assert upstream.read() == b"hello"
        assert upstream.is_over
        assert not upstream.is_alive()
        selector = _Selector()
        selector.register(upstream.fd, READ, upstream)
        upstream.watched = READ
        assert selector.ready(PATIENCE_S) == [(upstream, READ)]
        selector.close()
        upstream.watched = 0
        closed.set()


def test_what_came_before_the_end_is_read_before_it() -> None:
    def say_and_close(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"hello")
        secured.unwrap()

    with link_to(say_and_close) as upstream:
        time.sleep(0.1)  # so that all of it comes at once
        found = b""
        while data := next_read(upstream):
            found += data
        assert (found, upstream.read()) == (b"hello", b"")


def test_a_cut_is_an_error_again_and_again_after_what_came_before_it() -> None:
    def say_and_cut(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"hello")
        secured.shutdown(socket.SHUT_RDWR)

    with link_to(say_and_cut) as upstream:
        assert next_read(upstream) == b"hello"
        for _ in range(2):
            with pytest.raises(OSError):
                next_read(upstream)


def test_bytes_that_are_no_tls_are_an_error_after_what_came_before_them() -> None:
    def say_and_spoil(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"hello")
        with socket.socket(fileno=secured.detach()) as plain:
            plain.sendall(b"garbage" * 100)

    with link_to(say_and_spoil) as upstream:
        assert next_read(upstream) == b"hello"
        with pytest.raises(OSError):
            next_read(upstream)


def test_large_responses_arrive_whole() -> None:
    sent = bytes(range(256)) * 20_000

    def say_much(secured: ssl.SSLSocket) -> None:
        secured.sendall(sent)
        secured.recv(1)

    with link_to(say_much) as upstream:
        found = b""
        while len(found) < len(sent):
            found += next_read(upstream)
        assert found == sent
        upstream.write(b"x")


def test_writing_goes_on_where_it_had_to_stop() -> None:
    data = bytes(range(251)) * WRITE_BYTES + b"end"
    found = bytearray()
    read_now = threading.Event()

    def take_later(secured: ssl.SSLSocket) -> None:
        read_now.wait(PATIENCE_S)
        while len(found) < len(data):
            found.extend(secured.recv(65536))

    with link_to(take_later) as upstream:
        left = memoryview(data)
        stopped = 0
        while left:
            written = upstream.write(left)
            left = left[written:]
            if not written:
                stopped += 1
                read_now.set()
                wait(upstream, WRITE)
        until(lambda: len(found) == len(data))
    assert stopped
    assert found == data


def test_session_tickets_are_no_sign_of_death_but_an_end_and_unasked_bytes_are() -> None:
    go_on = threading.Event()

    def wait_and_speak(secured: ssl.SSLSocket) -> None:
        go_on.wait(PATIENCE_S)
        secured.sendall(b"unasked")

    with link_to(wait_and_speak) as upstream:
        wait(upstream, READ)  # the tickets
        assert upstream.is_alive()
        go_on.set()
        wait(upstream, READ)
        assert not upstream.is_alive()

    with link_to(lambda secured: secured.shutdown(socket.SHUT_RDWR)) as upstream:
        until(lambda: not upstream.is_alive())


def test_another_servers_certificate_ends_the_handshake() -> None:
    ours, theirs = connected()
    alerts: list[str] = []

    def serve() -> None:
        try:
            server_context().wrap_socket(theirs, server_side=True).close()
        except ssl.SSLError as error:
            alerts.append(error.reason)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(ours, tls.client_context(CA, environ={}), "elsewhere.example", time.monotonic() + PATIENCE_S)
    ours.close()
    thread.join()
    theirs.close()
    assert "ALERT" in alerts[0]


def test_a_handshake_has_a_deadline() -> None:
    ours, theirs = connected()
    with ours, theirs, pytest.raises(TimeoutError):
        secure(ours, tls.client_context(CA, environ={}), "localhost", time.monotonic() + 0.05)


def test_reading_says_what_is_there_nothing_yet_or_the_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours)
        assert transport.read() is None
        theirs.send(b"hello")
        assert transport.read() == b"hello"
        theirs.shutdown(socket.SHUT_WR)
        assert transport.read() == b""
        transport.close()


def test_writing_stops_when_the_other_end_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours)
        data = b"x" * (16 << 20)
        assert 0 < transport.write(data) < len(data)
        assert transport.write(data) == 0
        transport.close()


def test_writing_all_asks_for_room_until_everything_is_sent() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours)
        data = b"x" * (4 << 20)
        got = 0
        for deadline in transport.write_all(data, 5.0):
            assert (deadline, transport.wants) == (5.0, WRITE)
            got += len(theirs.recv(1 << 20))
        assert transport.wants == READ
        while got < len(data):
            got += len(theirs.recv(1 << 20))
        assert transport.read() is None
        transport.close()


@pytest.mark.posix
def test_a_broken_end_can_be_told_from_a_clean_one() -> None:
    for broken in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
            with theirs:
                Transport(ours).close(broken=broken)
                if broken:
                    with pytest.raises(ConnectionResetError):
                        theirs.recv(1)
                else:
                    assert theirs.recv(1) == b""
