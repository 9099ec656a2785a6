"""One end of a connection that never blocks. A plain one here; `link` has the same calls over TLS.

Who has to wait says in `wants` what for, and yields to the loop (see `loop`). Outside of the
loop `wait` does the same by blocking.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
import time
from collections.abc import Callable, Generator
from typing import Any

READ_BYTES = 64 * 1024
"""Of one read. From 128 KB on, C libraries ask the system for fresh memory each time."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing says that something went wrong, not that all was sent."""


READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Late(Exception):
    """A deadline passed."""


class Wire:
    """A non-blocking connection.

    Attributes:
        ahead: bytes that were read before somebody wanted them (pipelined requests).
        wants: READ, WRITE, both or 0: what its task waits for.
        ready: which of them has come, while the task runs because of it.
        task, watched, unwatch: for the loop's use.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self.sock = sock
        self.fd = sock.fileno()
        self.ahead = b""
        self.wants = READ
        self.ready = 0
        self.task: Any = None
        self.watched = 0
        self.unwatch: Callable[[Wire], None] | None = None

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
            Late: the other end did not take it in time.
        """
        left = memoryview(data)[self.write(data) :]
        while left:
            self.wants = WRITE
            yield deadline
            left = left[self.write(left) :]
        self.wants = READ

    def wait(self, events: int, deadline: float) -> None:
        """Block until one of these poll events comes, or an error; never in the loop.

        Raises:
            Late: nothing happened by then.
        """
        poll = select.poll()
        poll.register(self.fd, events)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Late

    def on_idle_event(self) -> None:
        """Take notice of an event while no task has this wire."""
        self.close()

    def close(self, *, broken: bool = False) -> None:
        """Close at once.

        Args:
            broken: let the other end see a broken connection, for a body that has no other mark
                of its end.
        """
        if self.watched and self.unwatch:
            self.unwatch(self)
        with contextlib.suppress(OSError):
            if broken:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with contextlib.suppress(OSError):
            self.sock.close()
