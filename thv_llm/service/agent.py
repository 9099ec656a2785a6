"""The socket that serves the helper: a token from memory in well under a millisecond.

Rule 1: only processes of the same user are served. The directory is private, the socket 0600,
        and the system is asked who is there.
Rule 2: no token in any log; of a bug only its type and place.
Rule 3: one agent at a time listens on a socket: the one that holds the lock beside it (`claim`). A
        short-lived one (`cold_token`) makes room when it is asked to `yield`.
Rule 4: `stop` waits for the responses that are under way, so that no refresh is cut off.

`service.agent_protocol` describes the protocol. The agent serves `token`; every other verb goes to
`control`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from thv_llm import files, paths
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.secret import Secret
from thv_llm.service.agent_protocol import call, failure_line
from thv_llm.system.file_system import claim, listen

READ_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 5.0
LONGEST_LINE_BYTES = 65536
"""A token can be in it, and some providers write every group of a user into theirs."""
MAX_CONNECTIONS = 512
WISH = re.compile(r"(?P<seconds>[0-9]{1,9})( newer (?P<age_ms>[0-9]{1,9}))?( for (?P<tool>[a-z0-9-]{1,60}))?")
TAKE_OVER_S = 5.0
TAKE_OVER_POLL_S = 0.02
MOMENTARY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED})
"""How accepting a connection fails when the next one can be accepted."""


class Token(Protocol):
    """What `get_token` returns: `tokens.AccessToken`."""

    @property
    def value(self) -> Secret:
        """The token itself."""

    @property
    def expires_at(self) -> float:
        """Seconds since the epoch."""


class GetToken(Protocol):
    """`tokens.TokenSource.get`, or what stands in front of it."""

    def __call__(self, min_valid_s: float, *, newer_than: float | None = None) -> Token:
        """Return a fresh token, perhaps only one that arrived after a moment of the monotonic clock."""


class Agent:
    """Serves one socket, from `start` to `stop`.

    Args:
        control: serves every verb but `token` (verb, rest), or raises ThvLlmError.
        told: told of each call by a named tool, and how it failed, if it did.
        claimed: the caller holds the `claim` on the socket already.
    """

    def __init__(
        self,
        socket_path: str,
        get_token: GetToken,
        control: Callable[[str, str], str],
        *,
        told: Callable[[str, ThvLlmError | None], None] = lambda _tool, _error: None,
        claimed: bool = False,
    ) -> None:
        self._path = socket_path
        self._get_token = get_token
        self._control = control
        self._told = told
        self._claimed = claimed
        self._claim: int | None = None
        self._listener: socket.socket | None = None
        self._bound: os.stat_result | None = None
        self._acceptor: threading.Thread | None = None
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._last_response = time.monotonic()

    def start(self) -> None:
        """Listen.

        Raises:
            ThvLlmError: another agent listens, or there can be no socket at this path.
        """
        paths.require_socket(self._path)
        files.private_directory(os.path.dirname(self._path))
        if not self._claimed:
            self._claim = _take_over(self._path)
        try:
            self._listener = listen(self._path)
            self._bound = os.stat(self._path)
        except OSError as error:
            self._release()
            why = error.strerror or type(error).__name__
            raise ThvLlmError(f"there can be no socket at {self._path}", why=why) from None
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="agent")
        self._acceptor.start()

    def listen_again(self, socket_path: str) -> bool:
        """Listen anew if the socket was removed, perhaps with its directory, or belongs elsewhere now.

        The end of a login session removes $XDG_RUNTIME_DIR under services that go on.

        Returns:
            Whether it was necessary.

        Raises:
            ThvLlmError: there can be no socket at this moment; call it again later.
        """
        is_there = self._listener and self._bound and files.is_still(self._path, self._bound)
        if is_there and socket_path == self._path:
            return False
        self.close()
        self._path = socket_path
        self.start()
        return True

    def close(self) -> None:
        """Take no more requests; another agent can listen from now on."""
        if self._listener is None or self._acceptor is None:
            return
        if self._bound and files.is_still(self._path, self._bound):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self._listener = None
        self._release()

    def stop(self) -> None:
        """Take no more requests, and finish the responses that are under way."""
        self.close()
        with self._lock:
            still_open = dict(self._open)
        for sock in still_open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # a client that has sent nothing yet is not served
        for thread in still_open.values():
            thread.join()

    def idle_s(self) -> float:
        """Return for how long there was no client."""
        with self._lock:
            return 0.0 if self._open else time.monotonic() - self._last_response

    def response_to(self, line: str) -> str:
        """Return the response to one line; never raises."""
        try:
            verb, _, rest = line.partition(" ")
            text = self._token(rest) if verb == "token" else self._control(verb, rest)
            return f"ok {text}".rstrip()
        except Exception as error:  # the other side gets the type and place of a bug
            return failure_line(error)
        finally:
            self._last_response = time.monotonic()

    def _token(self, rest: str) -> str:
        wish = WISH.fullmatch(rest)
        if wish is None:
            raise UsageError("token takes a number of seconds")
        newer_than = time.monotonic() - int(wish["age_ms"]) / 1000 if wish["age_ms"] else None
        try:
            token = self._get_token(float(wish["seconds"]), newer_than=newer_than)
        except ThvLlmError as error:
            if wish["tool"]:
                self._told(wish["tool"], error)
            raise
        if wish["tool"]:
            self._told(wish["tool"], None)
        return f"{token.expires_at:.0f} {token.value.reveal()}"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if listener.fileno() < 0 or error.errno not in MOMENTARY:
                    return
                time.sleep(TAKE_OVER_POLL_S)  # no descriptors left for a moment
                continue
            self._room.acquire()
            thread = threading.Thread(target=self._serve, args=(sock,), name="agent-response")
            with self._lock:
                self._open[sock] = thread
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left for a moment
                sock.close()
                self._done_with(sock)
                time.sleep(TAKE_OVER_POLL_S)

    def _serve(self, sock: socket.socket) -> None:
        from thv_llm.system import peers  # a worker's first caller does not wait for it

        try:
            with sock, contextlib.suppress(OSError):
                if peers.is_own_user(sock):
                    line = _read_line(sock)
                    if line is not None:
                        sock.settimeout(WRITE_TIMEOUT_S)
                        sock.sendall(self.response_to(line).encode("utf-8", "replace") + b"\n")
        finally:
            self._done_with(sock)

    def _done_with(self, sock: socket.socket) -> None:
        with self._lock:
            del self._open[sock]
        self._room.release()

    def _release(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None


def _take_over(socket_path: str) -> int:
    """Claim the socket; a short-lived agent that has it makes room."""
    deadline = time.monotonic() + TAKE_OVER_S
    while True:
        try:
            return claim(socket_path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ThvLlmError(
                    f"another process responds at {socket_path}", next_step="thv-llm proxy stop"
                ) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ThvLlmError(f"there can be no socket at {socket_path}", why=why) from None
        with contextlib.suppress(OSError, ThvLlmError):
            call(socket_path, "yield", timeout_s=1.0)
        time.sleep(TAKE_OVER_POLL_S)


def _read_line(sock: socket.socket) -> str | None:
    deadline = time.monotonic() + READ_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or len(line) > LONGEST_LINE_BYTES:
            return None
        sock.settimeout(left_s)
        more = sock.recv(LONGEST_LINE_BYTES)
        if not more:
            return None
        line += more
    return line[:-1].decode("utf-8", "replace")
