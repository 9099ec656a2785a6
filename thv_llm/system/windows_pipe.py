"""A named pipe of Windows, as far as the agent needs a socket: a listener, and its connections.

Rule 1: a pipe's name is random, and is written into a private file at the path where other systems
        have a socket. A name that is known beforehand could be taken by another user's program.
Rule 2: the pipe lets this user alone in, and no other machine. The client lets no server act as its user.
Rule 3: every wait ends: by its timeout, or when another thread calls `shutdown` or `close`.

A client imports nothing for it but `_winapi`, which is built in.

Source: Microsoft, CreateNamedPipe, "Impersonation Levels"; CPython's multiprocessing.connection.
"""

from __future__ import annotations

import _winapi
import contextlib
import os
import sys
import time
from typing import Any

assert sys.platform == "win32"

PREFIX = "\\\\.\\pipe\\thv-llm-"
NAME_BYTES = 32
"""Of randomness, written in hex."""
BUFFER_BYTES = 65536
ANONYMOUS_CLIENT = 0x00100000  # SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS
DUPLEX, FIRST, OVERLAPPED, LOCAL_ONLY = 3, 0x00080000, 0x40000000, 8
BUSY, IO_PENDING, NO_DATA, ABORTED = 231, 997, 232, 995
GONE = frozenset({109, 232, 233})
"""The pipe has been ended, is being closed, no process is at the other end."""
FOREVER = 0xFFFFFFFF
BUSY_WAIT_MS = 50


class Connection:
    """One end of a connection; it has the methods of a socket that the agent and its clients use."""

    def __init__(self, handle: int, *, is_server: bool) -> None:
        self._handle = handle
        self._is_server = is_server
        self._timeout_ms = FOREVER
        self._pending: Any = None
        self._is_shut = False

    def settimeout(self, timeout_s: float) -> None:
        """Have each call from now on raise TimeoutError after that long."""
        self._timeout_ms = max(1, int(timeout_s * 1000))

    def recv(self, size: int) -> bytes:
        """Return what has come; b"" at the end, or after `shutdown`."""
        try:
            pending, code = _winapi.ReadFile(self._handle, size, overlapped=True)
            count = self._done(pending, code)
        except OSError as error:
            if error.winerror in GONE or (self._is_shut and error.winerror == ABORTED):
                return b""
            raise
        return bytes(pending.getbuffer() or b"")[:count]

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            pending, code = _winapi.WriteFile(self._handle, data, overlapped=True)
            data = data[self._done(pending, code) :]

    def _done(self, pending: Any, code: int) -> int:
        self._pending = pending
        if self._is_shut:
            pending.cancel()
        if code == IO_PENDING:
            waited = _winapi.WaitForMultipleObjects([pending.event], False, self._timeout_ms)
            if waited == _winapi.WAIT_TIMEOUT:
                pending.cancel()
        count, failed = pending.GetOverlappedResult(True)
        self._pending = None
        if failed == ABORTED and not self._is_shut:
            raise TimeoutError
        if failed:
            raise OSError(0, "", None, failed)
        return int(count)

    def shutdown(self, _how: int) -> None:
        """End a `recv` that waits in another thread, and those to come."""
        self._is_shut = True
        if pending := self._pending:
            pending.cancel()

    def close(self) -> None:
        """Close it; the other end still gets what was sent."""
        if self._handle:
            _winapi.CloseHandle(self._handle)
            self._handle = 0

    def is_own_user(self) -> bool:
        """Tell whether a process of this user is at the other end."""
        import ctypes

        from thv_llm.system import windows

        pid = ctypes.c_ulong()
        side = "Client" if self._is_server else "Server"
        ask = getattr(windows.library("kernel32"), f"GetNamedPipe{side}ProcessId")
        is_known = ask(ctypes.c_void_p(self._handle), ctypes.byref(pid))
        return bool(is_known) and windows.sid_of(pid.value) == windows.own_sid()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(path: str, timeout_s: float) -> Connection:
    """Connect to the agent that has left its pipe's name at this path.

    Raises:
        TimeoutError: the pipe is there, and has no room for that long.
        OSError: no agent is there.
    """
    with open(path, encoding="ascii", errors="replace") as file:
        name = file.read(len(PREFIX) + 2 * NAME_BYTES)
    if not name.startswith(PREFIX):
        raise ConnectionRefusedError
    until = time.monotonic() + timeout_s
    while True:
        try:
            access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
            flags = OVERLAPPED | ANONYMOUS_CLIENT
            handle = _winapi.CreateFile(name, access, 0, 0, _winapi.OPEN_EXISTING, flags, 0)
        except OSError as error:
            if error.winerror != BUSY:
                raise
        else:
            connection = Connection(handle, is_server=False)
            connection.settimeout(timeout_s)
            return connection
        if time.monotonic() > until:
            raise TimeoutError
        with contextlib.suppress(OSError):  # no room within that time: once more
            _winapi.WaitNamedPipe(name, BUSY_WAIT_MS)


class Listener:
    """Waits for connections to one pipe.

    Raises:
        OSError: the pipe cannot be made, or its name cannot be written to `path`.
    """

    def __init__(self, path: str) -> None:
        from thv_llm.system import windows

        self._name = PREFIX + os.urandom(NAME_BYTES).hex()
        self._attributes = windows.private_descriptor()
        self._is_closed = False
        self._pending: Any = None
        self._next = self._instance(FIRST)
        temporary = f"{path}.new"
        try:
            with open(temporary, "w", encoding="ascii") as file:
                file.write(self._name)
            windows.patient(lambda: os.replace(temporary, path))
        except OSError:
            self.close()
            raise

    def accept(self) -> tuple[Connection, None]:
        """Return the next connection.

        Raises:
            OSError: the listener was closed.
        """
        while not self._is_closed:
            handle = self._next
            try:
                pending = self._pending = _winapi.ConnectNamedPipe(handle, overlapped=True)
                if self._is_closed:
                    pending.cancel()
                _winapi.WaitForMultipleObjects([pending.event], False, FOREVER)
                _, code = pending.GetOverlappedResult(True)
            except OSError as error:  # it came, and went at once
                code = error.winerror or NO_DATA
            if self._is_closed:
                break
            self._next = self._instance(0)
            if not code:
                return Connection(handle, is_server=True), None
            _winapi.CloseHandle(handle)
        raise OSError(9, "the listener is closed")

    def _instance(self, first: int) -> int:
        import ctypes

        from thv_llm.system import windows

        # FIRST: another process that has made a pipe of this name makes this call fail.
        handle = windows.library("kernel32").CreateNamedPipeW(
            ctypes.c_wchar_p(self._name),
            DUPLEX | OVERLAPPED | first,
            LOCAL_ONLY,
            255,  # PIPE_UNLIMITED_INSTANCES
            BUFFER_BYTES,
            BUFFER_BYTES,
            0,
            ctypes.byref(self._attributes),
        )
        if handle == windows.INVALID_HANDLE:
            raise windows.failure(self._name)
        return int(handle)

    def fileno(self) -> int:
        """Return -1 when it is closed, as a socket does."""
        return -1 if self._is_closed else 0

    def shutdown(self, _how: int) -> None:
        """Make `accept` end, in whatever thread it waits."""
        self._is_closed = True
        if pending := self._pending:
            pending.cancel()

    def close(self) -> None:
        """End it."""
        self.shutdown(0)
        if self._next:
            _winapi.CloseHandle(self._next)
            self._next = 0
