"""One end of a connection that never blocks: the same calls for plain sockets and for TLS.

All sockets of the proxy are non-blocking at all times, so that a thread and the pump can hand
them to each other as they are. Who wants to wait calls `wait` (one wire) or polls (several).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time

READ_BYTES = 64 * 1024
"""Of one read. A TLS record holds 16 KB at most."""
WANTS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing says that something went wrong, not that all was sent."""


class Late(Exception):
    """A deadline passed."""


class Wire:
    """A non-blocking connection.

    Attributes:
        ahead: bytes that were read before somebody wanted them (pipelined requests).
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self.fd = sock.fileno()
        self.ahead = b""
        self._recv = sock.recv
        self._send = sock.send

    def read(self, size: int = READ_BYTES) -> bytes | None:
        """Return what is there, b"" at the end, None when there is nothing yet.

        Raises:
            OSError: the connection broke, or a TLS connection ended without saying so.
        """
        try:
            return self._recv(size)
        except WANTS:
            return None

    def write(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; return how much that was.

        After 0 the same bytes have to be tried again first (TLS may have sent a part of them).

        Raises:
            OSError: the connection broke.
        """
        try:
            return self._send(data)
        except WANTS:
            return 0

    def write_all(self, data: bytes, deadline: float) -> None:
        """Send all of it.

        Raises:
            OSError: the connection broke.
            Late: the other end did not take it in time.
        """
        sent = self.write(data)
        if sent == len(data):
            return
        left = memoryview(data)[sent:]
        while left:
            self.wait(select.POLLOUT, deadline)
            left = left[self.write(left) :]

    def wait(self, events: int, deadline: float) -> None:
        """Wait for one of these poll events, or for an error.

        Raises:
            Late: nothing happened by then.
        """
        poll = select.poll()
        poll.register(self.fd, events)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Late

    def close(self, *, broken: bool = False) -> None:
        """Close at once.

        Args:
            broken: let the other end see a broken connection, for a body that has no other mark
                of its end.
        """
        with contextlib.suppress(OSError):
            if broken:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with contextlib.suppress(OSError):
            self.sock.close()
