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
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from thv_llm.proxy import error_responses
from thv_llm.proxy.access import Keys, Rules
from thv_llm.proxy.connection import DEFAULT_TIMING, Connection, Shared, Timing
from thv_llm.proxy.event_loop import EventLoop, Steps
from thv_llm.proxy.forward import Credentials, GetToken
from thv_llm.proxy.http1 import Field, Rejected
from thv_llm.proxy.stats import Figures, LogEntry, Stats, ToolStats
from thv_llm.proxy.transport import READ, DeadlineExceeded, Transport
from thv_llm.proxy.upstream import Gateway
from thv_llm.secret import Secret

BACKLOG = 256
"""Connections that wait to be accepted; an agent may open dozens at once."""
RESERVED, EACH, FEWEST = 64, 3, 16
"""Descriptors that are for other things; those of a connection, an upstream one and an idle one included."""
FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
FULL_PAUSE_S = 0.05
"""When the process has no descriptor left: waiting is better than asking again at once."""


Serve = Callable[[socket.socket], None]
"""What is done with an accepted connection."""


class Proxy:
    """The reverse proxy.

    Args:
        port: to listen on; 0 for any free one.
        get_token: called from several threads.
        local_key: what /healthz proves to know; None for nothing.
        report: called with each request that has ended, by the thread that serves all of them, so it
            must be quick.
        token_at_hand: returns a fresh token if one is in memory, without ever waiting; None has
            get_token asked, in a thread, which costs each request a little.
        keys: see `access.Keys`; without it the clients have to know the local key.
        no_token: see `connection.Shared`.
        require_key: False when clients need not know a key.
        tools: where each tool's requests are counted.
        descriptors: how many this process may have; more connections than they allow get a 503.
    """

    def __init__(
        self,
        port: int,
        gateway: Gateway,
        get_token: GetToken,
        local_key: Secret | None,
        report: Callable[[LogEntry], None],
        *,
        token_at_hand: Callable[[], Secret | None] = lambda: None,
        keys: Callable[[], Mapping[bytes, str]] | None = None,
        headers: Callable[[], Sequence[Field]] = tuple,
        no_token: Mapping[str, int] | None = None,
        require_key: bool = True,
        tools: ToolStats | None = None,
        timing: Timing = DEFAULT_TIMING,
        descriptors: int = 2048,
    ) -> None:
        self.port = port
        own = local_key.reveal().encode() if local_key else b""
        self.keys = Keys(keys or (lambda: {own: ""} if own else {}), also_secret=own)
        self._rules = partial(Rules, keys=self.keys, require_key=require_key and bool(keys or own))
        self._max_connections = max((descriptors - RESERVED) // EACH, FEWEST)
        self._listeners: list[_Listener] = []
        self._loop = EventLoop()
        self._shared = Shared(
            gateway=gateway,
            credentials=Credentials(get_token, token_at_hand, self._loop.background, self.keys, headers),
            rules=self._rules(port),
            key=local_key,
            report=report,
            timing=timing,
            stats=Stats(tools),
            no_token=no_token or {},
        )

    def start(self) -> None:
        """Bind and serve, in a thread.

        Raises:
            OSError: it cannot be had; most likely the port is taken.
        """
        try:
            first = _Listener(socket.AF_INET, "127.0.0.1", self.port, self._serve)
        except OSError:
            self._loop.close()
            raise
        self.port = first.port
        self._shared.rules = self._rules(self.port)
        self._listeners = [first]
        # Clients are told 127.0.0.1. A foreign process on ::1 must not keep us from serving them.
        with contextlib.suppress(OSError):
            self._listeners.append(_Listener(socket.AF_INET6, "::1", self.port, self._serve))
        for listener in self._listeners:
            self._loop.add(listener)
        self._loop.start()

    def stop(self, drain_s: float = 10.0) -> None:
        """Take nothing new, give running exchanges time to end, end the others, and the thread."""
        self._shared.stopping = True
        if self._listeners:
            self._loop.stop(drain_s)
        else:
            self._loop.close()
        self._listeners = []
        self._shared.peers.close()
        self._shared.gateway.close()

    def stats(self) -> Figures:
        """Return what has been served so far."""
        tasks = self._loop.tasks
        running = sum(not task.idle for task in tasks)
        return self._shared.stats.figures(running=running, connections=len(tasks) - len(self._listeners))

    def _serve(self, sock: socket.socket) -> None:
        """Serve an accepted connection; 503 when there are too many."""
        with contextlib.suppress(OSError):  # it is gone already
            if self._loop.count - len(self._listeners) < self._max_connections:
                self._loop.begin(Connection(sock, self._shared))
                return
            sock.settimeout(0)
            sock.send(error_responses.error(Rejected(503, "too many connections")))
        sock.close()


class _Listener:
    """A listening socket as a task of the loop: accepts whatever waits, and hands each on."""

    idle = True
    """It is ended first, and its port with it."""

    def __init__(self, family: socket.AddressFamily, host: str, port: int, serve: Serve) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        self.port: int = sock.getsockname()[1]
        self.transports = [Transport(sock)]
        self.deadline = math.inf
        self.steps = self._run(serve)

    def _run(self, serve: Serve) -> Steps[None]:
        (transport,) = self.transports
        try:
            while True:
                yield math.inf
                try:
                    while True:
                        serve(transport.sock.accept()[0])
                except BlockingIOError:
                    continue
                except OSError as error:  # some other one: the peer is gone again
                    if error.errno in FULL:
                        transport.wants = 0
                        with contextlib.suppress(DeadlineExceeded):
                            yield time.monotonic() + FULL_PAUSE_S
                        transport.wants = READ
        finally:
            transport.close()
