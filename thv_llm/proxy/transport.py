"""A transport: a byte stream over a socket that never blocks, plain or with TLS.

A caller that must wait says in `wants` what for, and yields to the event loop (see `event_loop`). Outside of
the loop `block` does the same by blocking.

TLS is worked out in memory, beside the socket, so that one system call moves many records;
`ssl.SSLSocket` makes three for each 16 KB.
"""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from thv_llm.system.peers import Peers

READ_BYTES = 64 * 1024
"""Of one read. From 128 KB on, C libraries ask the system for fresh memory each time."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing says that something went wrong, not that all was sent."""


KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence before the first probe (macOS has the second name for it), seconds between two,
and how many go without a response: a network that drops packets without a word (a VPN that went down, a
NAT entry that was forgotten) is noticed after 90 s, not after the idle limit."""
TUNED = (
    (int(socket.IPPROTO_TCP), int(socket.TCP_NODELAY), 1),
    (int(socket.SOL_SOCKET), int(socket.SO_KEEPALIVE), 1),
    *(
        (int(socket.IPPROTO_TCP), int(getattr(socket, name)), value)
        for name, value in KEEP_ALIVE.items()
        if hasattr(socket, name)
    ),
)

MAX_AHEAD_BYTES = 64 * 1024
"""Of pipelined requests, read only in order to notice that the client disconnects behind them."""
LOOK_S = 2.0
"""Between two looks whether a client that cannot be read from is still there."""

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class ClientDisconnected(Exception):
    """The client closed its connection."""


class DeadlineExceeded(TimeoutError):
    """A deadline of ours passed; a `TimeoutError` of the system is one of the connection."""


class Transport:
    """A non-blocking connection.

    Attributes:
        ahead: bytes that were read before they were wanted (pipelined requests).
        wants: READ, WRITE, both or 0: what its task waits for.
        ready: which of them has come, while the task runs because of it.
        pump: deals with an event without its task, and says whether the task can go on waiting.
        task, watched, unwatch: for the loop's use.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self.fd = sock.fileno()
        self.ahead = b""
        self.wants = READ
        self.ready = 0
        self.pump: Callable[[], bool] | None = None
        self.task: Any = None
        self.watched = 0
        self.unwatch: Callable[[Transport], None] | None = None

    def read(self, size: int = READ_BYTES) -> bytes | None:
        """Return what is there, b"" at the end, None when there is nothing yet.

        Raises:
            OSError: the connection broke.
        """
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None

    def write(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; return how much that was.

        Raises:
            OSError: the connection broke.
        """
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def write_all(self, data: bytes, deadline: float) -> Generator[float, Any, None]:
        """Send all of it, as steps of a task.

        Raises:
            OSError: the connection broke.
            DeadlineExceeded: the other end did not take it in time.
        """
        left = memoryview(data)[self.write(data) :]
        while left:
            self.wants = WRITE
            yield deadline
            left = left[self.write(left) :]
        self.wants = READ

    @property
    def is_over(self) -> bool:
        """Whether the end was seen already, so that nothing more can arrive."""
        return False

    def on_idle_event(self) -> None:
        """Take notice of an event while no task has this transport."""
        self.close()

    def close(self, *, broken: bool = False) -> None:
        """Close at once.

        Args:
            broken: let the other end see a broken connection, for a body that has no other mark
                of its end.
        """
        if self.watched and self.unwatch:
            self.unwatch(self)
        if broken:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with contextlib.suppress(OSError):
            self.sock.close()


RECORD_BYTES = 16 * 1024
"""Of the data in one TLS record, at most."""
WRITE_BYTES = 64 * 1024
"""Encrypted at a time. What a connection keeps for that stays with it."""


class ClientTransport(Transport):
    """A client's connection.

    Attributes:
        half_closed: the client sends nothing more, but reads what it gets.
    """

    def __init__(self, sock: socket.socket, peers: Peers) -> None:
        super().__init__(sock)
        self.half_closed = False
        self._peers = peers

    @property
    def has_room(self) -> bool:
        """Whether there is a use in reading ahead, so as to notice that the client disconnects."""
        return not self.half_closed and len(self.ahead) < MAX_AHEAD_BYTES

    def read_ahead(self) -> None:
        """Take what the client sends behind its request.

        Raises:
            ClientDisconnected: it closed the connection. Where that cannot be told from a client
                that only has nothing more to send, it counts as closed.
        """
        try:
            data = self.read()
        except OSError:
            raise ClientDisconnected from None
        if data:
            self.ahead += data
        elif data is not None:
            if not self._peers.is_open(self.sock):
                raise ClientDisconnected
            self.half_closed = True

    def wait(self, deadline: float) -> Generator[float, Any, None]:
        """Yield until something happens; for a client that cannot be read from meanwhile.

        Raises:
            ClientDisconnected: it closed the connection.
            DeadlineExceeded: nothing happened by then.
        """
        while True:
            try:
                yield min(deadline, time.monotonic() + LOOK_S)
                return
            except DeadlineExceeded:
                if time.monotonic() >= deadline:
                    raise
                if self.is_gone():
                    raise ClientDisconnected from None

    def is_gone(self) -> bool:
        """Look whether the client is known to have closed the connection."""
        return self._peers.is_open(self.sock) is False


class UpstreamConnection(Transport):
    """A secured connection.

    Attributes:
        reused: it has carried an exchange before, so it can have died meanwhile.
        idle_since: when it went into the pool (monotonic).
        keep_s: for how long the gateway keeps it idle.
        pool: where it is while it is idle.
    """

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLObject, received: ssl.MemoryBIO, to_send: ssl.MemoryBIO
    ) -> None:
        super().__init__(sock)
        self.reused = False
        self.idle_since = 0.0
        self.keep_s = math.inf
        self.pool: deque[UpstreamConnection] = deque()
        self._is_readable = _looking(self.fd)
        self._tls = tls
        self._received = received
        self._to_send = to_send
        self._unsent: bytes | memoryview = b""
        self._taken = 0
        self._ended = False
        self._failure: OSError | None = None

    def read(self, size: int = READ_BYTES) -> bytes | None:
        """Return what is there, b"" at the end, None when there is nothing yet.

        Raises:
            OSError: the connection broke, or ended without TLS saying so.
        """
        if not (self._ended or self._failure):
            try:
                arrived = self.sock.recv(size)
            except BlockingIOError:
                return None
            if arrived:
                self._received.write(arrived)
            else:
                self._received.write_eof()
            if found := self._decrypted():
                return found
        if self._failure:
            raise self._failure
        return b"" if self._ended else None

    def _decrypted(self) -> bytes:
        """Return what all whole records hold; how the connection ended is left for the next read."""
        pieces = []
        try:
            while piece := self._tls.read(RECORD_BYTES):
                pieces.append(piece)
                if not self._received.pending:  # the usual case; asking once more costs an exception
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._ended = True
        except ssl.SSLWantReadError:
            return b"".join(pieces)
        except OSError as error:
            self._failure = error
        if pieces:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RD)  # wakes the task that waits for more, but not on Windows
        return b"".join(pieces)

    def write(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; return how much that was.

        After 0 the same bytes must be tried again first: a part of them can have been sent.

        Raises:
            OSError: the connection broke.
        """
        if not self._taken:
            if len(data) <= RECORD_BYTES:
                self._taken = self._tls.write(data)
            else:
                with memoryview(data) as part:
                    while self._taken < min(len(part), WRITE_BYTES):
                        self._taken += self._tls.write(part[self._taken : WRITE_BYTES])
            self._unsent = self._to_send.read()
        sent = super().write(self._unsent)
        if sent < len(self._unsent):
            self._unsent = memoryview(self._unsent)[sent:]
            return 0
        taken, self._taken, self._unsent = self._taken, 0, b""
        return taken

    @property
    def is_over(self) -> bool:
        """Whether the end was seen already: it can come with the last bytes of a response."""
        return self._ended or self._failure is not None

    def on_idle_event(self) -> None:
        """Leave the pool when the gateway closes this idle connection."""
        if not self.is_alive():
            with contextlib.suppress(ValueError):
                self.pool.remove(self)
            self.close()

    def is_alive(self) -> bool:
        """Look whether the gateway closed this idle connection, or said something unasked."""
        if self.is_over:
            return False
        if not self._is_readable():
            return True
        try:
            return self.read() is None
        except OSError:
            return False


def _looking(fd: int) -> Callable[[], object]:
    """Return what tells at once whether a socket is readable. For each request, so without `selectors`."""
    if not hasattr(select, "poll"):
        return lambda: select.select([fd], (), (), 0)[0]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return partial(poll.poll, 0)


def tune(sock: socket.socket) -> None:
    """Have a TCP connection send small pieces at once, and notice a peer that cannot be reached."""
    for level, option, value in TUNED:
        try:
            sock.setsockopt(level, option, value)
        except OSError:  # one that this system names, and does not have
            continue


def secure(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> UpstreamConnection:
    """Make a connection a secured one. Blocks until `deadline` (monotonic) at most.

    Raises:
        TimeoutError: it took longer.
        OSError: the connection broke, or `ssl.SSLError`: the other end is not who it should be.
    """
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, to_send, server_hostname=host)
    shaken = False
    while not shaken:
        try:
            tls.do_handshake()
            shaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                sock.sendall(to_send.read())  # the alert that says why
            raise
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        sock.sendall(to_send.read())
        if not shaken:
            arrived = sock.recv(READ_BYTES)
            if arrived:
                received.write(arrived)
            else:
                received.write_eof()
    return UpstreamConnection(sock, tls, received, to_send)
