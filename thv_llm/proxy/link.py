"""A connection to the gateway: TLS that never blocks.

TLS is worked out in memory, beside the socket, so that one system call moves many records;
`ssl.SSLSocket` makes three for each 16 KB.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque

from thv_llm.proxy.wire import READ_BYTES, Wire

WRITE_BYTES = 64 * 1024
"""Encrypted at a time. What a connection keeps for that stays with it."""


class Link(Wire):
    """A secured connection.

    Attributes:
        reused: it has carried an exchange before, so it may have died meanwhile.
        idle_since: when it went into the pool (monotonic).
        pool: where it is while it is idle.
    """

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLObject, received: ssl.MemoryBIO, to_send: ssl.MemoryBIO
    ) -> None:
        super().__init__(sock)
        self.reused = False
        self.idle_since = 0.0
        self.pool: deque[Link] = deque()
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
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
            arrived = super().read(size)
            if arrived is None:
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
            while piece := self._tls.read(READ_BYTES):
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
                self.sock.shutdown(socket.SHUT_RD)  # wakes whoever waits for more
        return b"".join(pieces)

    def write(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; return how much that was.

        After 0 the same bytes have to be tried again first: a part of them may have gone out.

        Raises:
            OSError: the connection broke.
        """
        if not self._taken:
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

    def on_idle_event(self) -> None:
        """Leave the pool when the gateway closes this idle connection."""
        if not self.is_alive():
            with contextlib.suppress(ValueError):
                self.pool.remove(self)
            self.close()

    def is_alive(self) -> bool:
        """Look whether the gateway closed this idle connection, or said something unasked."""
        if not self._poll.poll(0):
            return True
        try:
            return self.read() is None
        except OSError:
            return False


def secure(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> Link:
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
    return Link(sock, tls, received, to_send)
