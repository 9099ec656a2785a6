"""A cable to a server on loopback that can be pulled: its users lose the connection at once.

    with Cable(server.port) as cable:
        # connect to cable.port
        cable.pull()   # connections are reset, new ones are refused
        cable.plug()

One thread moves the bytes, and blocks while the other side does not take them: for small messages.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

READ_BYTES = 65536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes `close` send RST."""


class Cable:
    """Plugged in while the context lasts.

    Attributes:
        port: of loopback, the same each time it is plugged in.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        self._wake, self._woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pull()
        self._wake.close()
        self._woken.close()

    def plug(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener,), name="cable")
        self._thread.start()

    def pull(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._thread:
            self._wake.send(b".")
            self._thread.join()
            self._thread = None

    def _run(self, listener: socket.socket) -> None:
        ends: dict[socket.socket, socket.socket] = {}
        with selectors.DefaultSelector() as waiting, listener:
            waiting.register(listener, selectors.EVENT_READ)
            waiting.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(1)
                        for end in ends:
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                            end.close()
                        return
                    if key.fileobj is listener:
                        for end, other in self._pair(listener):
                            ends[end] = other
                            waiting.register(end, selectors.EVENT_READ)
                    elif key.fileobj in ends:  # not closed a moment ago with its other end
                        _move(key.fileobj, ends, waiting)

    def _pair(self, listener: socket.socket) -> list[tuple[socket.socket, socket.socket]]:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            near.close()
            return []
        return [(near, far), (far, near)]


def _move(
    end: socket.socket, ends: dict[socket.socket, socket.socket], waiting: selectors.BaseSelector
) -> None:
    """Pass on what came in at one end; when that is the end, end both."""
    data = b""
    with contextlib.suppress(OSError):
        data = end.recv(READ_BYTES)
        ends[end].sendall(data)
    if not data:
        for one in (end, ends[end]):
            waiting.unregister(one)
            del ends[one]
            one.close()
