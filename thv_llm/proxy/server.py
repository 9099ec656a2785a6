"""The listener on 127.0.0.1, and on ::1 where there is one: limits, start and stop.

`http.server` gives the listener; its request parser is not used, `proxy.http1` is, and the
listener and each connection are tasks of `proxy.loop` rather than threads.
"""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler
from typing import Any

from thv_llm.proxy import replies
from thv_llm.proxy.access import Rules
from thv_llm.proxy.connection import DEFAULT_TIMING, Connection, Shared, Timing
from thv_llm.proxy.forward import Credentials
from thv_llm.proxy.http1 import Refused
from thv_llm.proxy.loop import Loop, Steps
from thv_llm.proxy.stats import Exchange, Figures
from thv_llm.proxy.upstream import Gateway
from thv_llm.proxy.wire import READ, Late, Wire
from thv_llm.secret import Secret

BACKLOG = 256
"""Connections that wait to be accepted; an agent may open dozens at once."""
MAX_CONNECTIONS = 512
"""At a time, each with up to two descriptors; more are answered 503."""
FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
FULL_PAUSE_S = 0.05
"""When the process has no descriptor left: waiting is better than asking again at once."""


class Proxy:
    """The reverse proxy.

    Args:
        port: to listen on; 0 for any free one.
        get_token: returns a token; its argument is one that the gateway refused, or None. Called
            from several threads. Raises ThvLlmError when there is none.
        local_key: what the tools have to know, and what /healthz proves to know; None for neither.
        report: called with each exchange that ended, by the thread that serves all of them, so it
            must be quick.
        token_at_hand: returns a fresh token if one is in memory, without ever waiting; None has
            get_token asked, in a thread, which costs each request a little.
        require_key: False when tools need not know the key.
    """

    def __init__(
        self,
        port: int,
        gateway: Gateway,
        get_token: Callable[[Secret | None], Secret],
        local_key: Secret | None,
        report: Callable[[Exchange], None],
        *,
        token_at_hand: Callable[[], Secret | None] = lambda: None,
        require_key: bool = True,
        timing: Timing = DEFAULT_TIMING,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.port = port
        self._required = local_key if require_key else None
        self._max_connections = max_connections
        self._doors: list[_Door] = []
        self._loop = Loop()
        self._shared = Shared(
            gateway=gateway,
            credentials=Credentials(get_token, token_at_hand),
            rules=Rules(port, self._required),
            key=local_key,
            report=report,
            timing=timing,
        )

    def start(self) -> None:
        """Bind and serve, in a thread.

        Raises:
            OSError: it cannot be had; most likely the port is taken.
        """
        try:
            first = _Listener("127.0.0.1", self.port, self._serve)
        except OSError:
            self._loop.close()
            raise
        self.port = first.server_address[1]
        self._shared.rules = Rules(self.port, self._required)
        self._doors = [_Door(first)]
        # Tools are told 127.0.0.1. Somebody else on ::1 must not keep us from serving them.
        with contextlib.suppress(OSError):
            self._doors.append(_Door(_Listener6("::1", self.port, self._serve)))
        for door in self._doors:
            self._loop.add(door)
        self._loop.start()

    def stop(self, drain_s: float = 10.0) -> None:
        """Take nothing new, give running exchanges time to end, end the others, and the thread."""
        self._shared.stopping = True
        if self._doors:
            self._loop.stop(drain_s)
        else:
            self._loop.close()
        self._doors = []
        self._shared.peers.close()
        self._shared.gateway.close()

    def stats(self) -> Figures:
        """Return what has been served so far."""
        tasks = self._loop.tasks
        running = sum(not task.idle for task in tasks)
        return self._shared.stats.figures(running=running, connections=len(tasks) - len(self._doors))

    def _serve(self, sock: socket.socket) -> None:
        """Serve an accepted connection; 503 when there are too many."""
        with contextlib.suppress(OSError):  # it is gone already
            if self._loop.count - len(self._doors) < self._max_connections:
                self._loop.begin(Connection(sock, self._shared))
                return
            sock.settimeout(0)
            sock.send(replies.error(Refused(503, "too many connections")))
        sock.close()


class _Door:
    """A listener as a task of the loop: accepts whatever waits, and hands each on."""

    idle = True
    """It is ended first, and its port with it."""

    def __init__(self, listener: _Listener) -> None:
        self.listener = listener
        self.wires = [Wire(listener.socket)]
        self.deadline = math.inf
        self.steps = self._run()

    def _run(self) -> Steps[None]:
        (wire,) = self.wires
        try:
            while True:
                yield math.inf
                try:
                    while True:
                        self.listener.process_request(*self.listener.get_request())
                except BlockingIOError:
                    continue
                except OSError as error:  # some other one: the peer is gone again
                    if error.errno in FULL:
                        wire.wants = 0
                        with contextlib.suppress(Late):
                            yield time.monotonic() + FULL_PAUSE_S
                        wire.wants = READ
        finally:
            wire.close()
            self.listener.server_close()


class _Listener(ThreadingHTTPServer):
    """Binds and accepts; its loop and its threads are not used."""

    request_queue_size = BACKLOG

    def __init__(self, host: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        super().__init__((host, port), BaseRequestHandler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks DNS for our own name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        self._serve(request)


class _Listener6(_Listener):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
