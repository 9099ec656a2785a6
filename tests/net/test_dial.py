"""One of several addresses that is dead must not cost the others their time."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from thv_llm.net.dial import dial


def addresses(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have every name stand for 127.0.0.1 at these ports."""
    found: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


class Listening:
    """A listener, with room for so many connections."""

    def __init__(self, room: int) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=room)
        self.port: int = self.sock.getsockname()[1]
        self.waiting: list[socket.socket] = []

    def fill(self) -> None:
        """Leave no room: the system lets further ones wait without a word, as a dead network does."""
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))
            self.waiting.append(sock)
        time.sleep(0.05)

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self.sock, *self.waiting]:
            sock.close()


def test_a_dead_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listening(0) as dead, Listening(5) as alive:
        dead.fill()
        addresses(monkeypatch, dead.port, alive.port)
        began = time.monotonic()

        with dial("gateway.example", 443, 1.5) as sock:
            assert sock.getpeername()[1] == alive.port
            assert sock.gettimeout() == 1.5
        assert time.monotonic() - began < 1.2  # the rest is for what comes behind the connection


def test_what_the_first_address_said_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listening(0) as closed:
        port = closed.port
    addresses(monkeypatch, port, port)

    with pytest.raises(ConnectionRefusedError):
        dial("gateway.example", 443, 1.0)


def test_all_dead_ends_within_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listening(0) as dead:
        dead.fill()
        addresses(monkeypatch, dead.port, dead.port)
        began = time.monotonic()

        with pytest.raises(TimeoutError):
            dial("gateway.example", 443, 0.6)
        assert time.monotonic() - began < 1.2
