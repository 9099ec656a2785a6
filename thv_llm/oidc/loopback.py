"""The listener to which the browser brings the answer of a login.

Rule 1: bound before anybody learns its address, on loopback only, closed when the login ends.
Rule 2: whatever is not the answer we wait for is told so and forgotten: a favicon, another
        page, a wrong `state`, silence. Only the answer, or the end of the time, ends the wait.
Rule 3: the answer's connection is held until the login has worked or failed, so that the page
        says what is true.

One thread, no blocking read: browsers open connections in advance and leave them silent.

Source: RFC 8252 sections 7.3 and 8.3.
"""

from __future__ import annotations

import contextlib
import errno
import re
import selectors
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType

from thv_llm.errors import ThvLlmError
from thv_llm.oidc import page

PATH = "/callback"
MAX_HEAD_BYTES = 65536  # cookies of every other program on this host come along
MAX_CONNECTIONS = 64  # the oldest silent one makes room
BACKLOG = 128
SILENCE_S = 15.0
SEND_S = 5.0
LINGER_S = 1.0
POLL_S = 0.2
EPHEMERAL_TRIES = 5

_REQUEST_LINE = re.compile(rb"GET (/[^ ?#]*)(?:\?([^ #]*))? HTTP/1\.[01]\r?\n")


class Answer:
    """The browser's request that ends the wait. Reply to it once; the listener closes it."""

    def __init__(self, query: str, connection: socket.socket) -> None:
        self.query = query
        self._connection = connection

    def __repr__(self) -> str:
        return "Answer(***)"  # the query holds the code

    def show(self, body: bytes) -> None:
        """Send a page."""
        _reply(self._connection, HTTPStatus.OK, body)
        self._linger()

    def go_on(self, url: str) -> None:
        """Send the browser to another URL, for a second round of the login."""
        _reply(self._connection, HTTPStatus.SEE_OTHER, b"", location=url)
        self._linger()

    def _linger(self) -> None:
        """Let the browser take the page: closing with unread bytes in hand would throw it away."""
        until = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError):
            self._connection.settimeout(LINGER_S)
            while time.monotonic() < until and self._connection.recv(16384):
                pass


class Listener:
    """Wait for one answer on a loopback port. Use as a context manager.

    Args:
        host: `127.0.0.1`, or `localhost` for providers that register only that.
        port: 0 takes any free one.

    Raises:
        ThvLlmError: the fixed port is taken.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listeners = _bind(host, port)
        self._waiting: dict[socket.socket, tuple[bytearray, float]] = {}
        self._answered: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self.port: int = self._listeners[0].getsockname()[1]
        self.redirect_uri = f"http://{host}:{self.port}{PATH}"

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the port and every connection."""
        self._selector.close()
        for each in [*self._listeners, *self._waiting, *self._answered]:
            each.close()

    def wait(self, timeout_s: float, is_ours: Callable[[str], bool]) -> Answer | None:
        """Return the request whose query `is_ours`, None when there is none in time."""
        until = time.monotonic() + timeout_s
        while True:
            rest_s = until - time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(rest_s, POLL_S))):
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj in self._listeners:
                    self._accept(key.fileobj)
                    continue
                query = self._read(key.fileobj)
                if query is None:
                    continue
                if is_ours(query):
                    return self._hold(key.fileobj, query)
                self._refuse(key.fileobj, HTTPStatus.BAD_REQUEST)
            self._drop_silent()
            if rest_s <= 0:
                return None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the peer may be gone already
            connection, _ = listener.accept()
            connection.setblocking(False)
            self._waiting[connection] = bytearray(), time.monotonic() + SILENCE_S
            self._selector.register(connection, selectors.EVENT_READ)
        if len(self._waiting) > MAX_CONNECTIONS:
            self._drop(next(iter(self._waiting)))

    def _read(self, connection: socket.socket) -> str | None:
        """Take in what has come; return the query once a request for the callback is whole."""
        if connection not in self._waiting:  # dropped a moment ago to make room
            return None
        head, _ = self._waiting[connection]
        try:
            data = connection.recv(16384)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        head += data
        if not data or len(head) > MAX_HEAD_BYTES:
            self._drop(connection)
            return None
        if b"\r\n\r\n" not in head and b"\n\n" not in head:
            return None
        request = _REQUEST_LINE.match(head)
        if request is None or request[1] != PATH.encode():
            self._refuse(connection, HTTPStatus.NOT_FOUND if request else HTTPStatus.BAD_REQUEST)
            return None
        return (request[2] or b"").decode("latin-1")

    def _hold(self, connection: socket.socket, query: str) -> Answer:
        self._release(connection)
        self._answered.append(connection)
        return Answer(query, connection)

    def _refuse(self, connection: socket.socket, status: HTTPStatus) -> None:
        self._release(connection)
        _reply(connection, status, page.stray())
        connection.close()

    def _drop(self, connection: socket.socket) -> None:
        self._release(connection)
        connection.close()

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for connection in [each for each, (_, until) in self._waiting.items() if until < now]:
            self._drop(connection)

    def _release(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._waiting[connection]


def _reply(connection: socket.socket, status: HTTPStatus, body: bytes, *, location: str = "") -> None:
    headers = [*page.HEADERS, ("Content-Length", str(len(body)))]
    if location:
        headers.append(("Location", location))
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    with contextlib.suppress(OSError):  # a browser that went away misses only the page
        connection.settimeout(SEND_S)
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)


def _bind(host: str, port: int) -> list[socket.socket]:
    for _ in range(EPHEMERAL_TRIES):
        first = _listen(socket.AF_INET, "127.0.0.1", port)
        if host != "localhost":
            return [first]
        # Browsers may take `localhost` for ::1, where somebody else could be listening.
        try:
            return [first, _listen(socket.AF_INET6, "::1", first.getsockname()[1])]
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return [first]
            first.close()
        except ThvLlmError:
            first.close()
            if port:
                raise
    raise ThvLlmError("cannot listen for the login's answer", why="no port is free on both 127.0.0.1 and ::1")


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a login a minute ago is no hindrance
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise ThvLlmError(
                "cannot listen for the login's answer",
                why=f"port {port} on {address} is taken by another program",
                next_step="end that program, or choose another port with --callback-port",
            ) from None
        raise
    return listener
