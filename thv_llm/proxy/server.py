"""The listener on 127.0.0.1, and on ::1 where there is one, and the connections of the clients.

Listener and connections are tasks of `event_loop`, not threads. A connection serves request after
request, until one side closes. For each: read the head under one deadline, apply the access rules,
forward it, or respond with an error of our own and close.
"""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from thv_llm import log
from thv_llm.proxy import access, error_responses, framing, headers, http1
from thv_llm.proxy.access import Keys, Rules
from thv_llm.proxy.event_loop import EventLoop, Steps
from thv_llm.proxy.exchange import Request, RequestBody
from thv_llm.proxy.forward import Credentials, Forwarder, GetToken
from thv_llm.proxy.http1 import Field, HeadReader, Rejected, RequestHead, parse_request
from thv_llm.proxy.relay import CLIENT_DISCONNECTED, wanted_protocol
from thv_llm.proxy.stats import Figures, LogEntry, Outcome, Stats, ToolStats, shown_agent, shown_path
from thv_llm.proxy.transport import (
    READ,
    ClientDisconnected,
    ClientTransport,
    DeadlineExceeded,
    Transport,
    tune,
)
from thv_llm.proxy.upstream import Gateway, GatewayError
from thv_llm.secret import Secret
from thv_llm.system import peers
from thv_llm.system.peers import Peers

BACKLOG = 256
"""Connections that wait to be accepted; an agent can open dozens at once."""
RESERVED, EACH, FEWEST = 64, 3, 16
"""Descriptors that are for other things; those of a connection, an upstream one and an idle one included."""
FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
FULL_PAUSE_S = 0.05
"""When the process has no descriptor left: waiting is better than asking again at once."""
WITH_CONTENT = (b"POST", b"PUT", b"PATCH")
MAX_PASSED = 64
"""Heads of requests that are remembered: each agent's few, which come again all day."""
SPECIAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Fields of requests that are not remembered."""


@dataclass(frozen=True)
class Timing:
    """Limits towards the clients, in seconds and bytes; tests shorten them.

    Attributes:
        head: for a whole head from its first byte; for the first one from the connection's beginning.
        keep: between two requests. Longer than clients keep theirs (Go: 90 s), so that they close, not we.
        respond: for the client to take a response of the proxy.
        linger: for what a client is still sending when it has been refused; without it, closing would
            reset the connection and the refusal be lost.
        max_body: of one request: a prompt with many images, or a file to be uploaded.
    """

    head: float = 30.0
    keep: float = 120.0
    respond: float = 10.0
    linger: float = 2.0
    max_body: int = 1024 * 1024 * 1024


DEFAULT_TIMING = Timing()


@dataclass
class Shared:
    """What all connections use.

    Attributes:
        key: what /healthz proves to know.
        no_token: the status of a response of ours that there is no token, by client, where it is not 401.
        stopping: no further request is taken.
    """

    gateway: Gateway
    credentials: Credentials
    rules: access.Rules
    key: Secret | None
    report: Callable[[LogEntry], None]
    timing: Timing
    no_token: Mapping[str, int] = field(default_factory=dict)
    stats: Stats = field(default_factory=Stats)
    peers: Peers = field(default_factory=Peers)
    stopping: bool = False
    passed: dict[bytes, access.Passed] = field(default_factory=dict)

    def known(self, like: bytes) -> access.Passed | None:
        """Return the request with this head that has passed under the keys that are valid now."""
        passed = self.passed.get(like)
        return passed if passed and passed.known is self.credentials.keys.known else None

    def remember(self, like: bytes, length: bytes | None, passed: access.Passed) -> None:
        """Have requests pass that are like this one, if what was looked at is all in these bytes."""
        named = passed.head.fields.named
        if len(like) > http1.MAX_REMEMBERED_BYTES or not SPECIAL.isdisjoint(named):
            return
        if (length is None) is (b"content-length" in named):  # written in a way that is not taken out
            return
        if len(self.passed) >= MAX_PASSED:
            self.passed.clear()
        self.passed[like] = passed


class ClientConnection:
    """A client's connection.

    Attributes:
        busy: a request has begun to arrive, or its response is under way.
        steps, transports, deadline: see `event_loop.Task`.
    """

    def __init__(self, sock: socket.socket, shared: Shared) -> None:
        tune(sock)
        self.client = ClientTransport(sock, shared.peers)
        self.busy = False
        self.transports: list[Transport] = [self.client]
        self.deadline = math.inf
        self.steps = self._run()
        self._shared = shared
        self._timing = shared.timing
        self._forwarder = Forwarder(
            shared.gateway, shared.credentials, self.transports, lambda: shared.stopping
        )
        self._entry = LogEntry()
        self._path = b""
        self._with_body = True
        self._unread = False

    @property
    def idle(self) -> bool:
        """Whether ending it now would lose nothing."""
        return not self.busy

    def _run(self) -> Steps[None]:
        wait = self._timing.head
        broken = False
        try:
            if self._shared.peers.is_foreign(self.client.sock):
                return
            while (yield from self._serve(wait)):
                self.busy = False
                wait = self._timing.keep
            if self._unread:
                yield from self._linger()
        except (OSError, DeadlineExceeded):
            broken = self._forwarder.broken
        finally:
            for transport in self.transports:
                transport.close(broken=broken)

    def _serve(self, wait: float) -> Steps[bool]:
        """Serve one request; False when it was the last one."""
        reader = HeadReader()
        self._path, self._with_body, self._unread = b"", True, False
        try:
            if not (yield from self._read_head(reader, wait)):
                return False
            self._entry = LogEntry()
            self._unread = True
            like, length = http1.without_length(reader.head)
            passed = self._shared.known(like)
            head = passed.head if passed else parse_request(reader.head)
        except Rejected as refused:  # before there was a request to speak of
            self._entry = LogEntry()
            self._unread = True
            try:
                yield from self._refuse(refused)
            finally:
                self._report()
            return False
        try:
            return (yield from self._answer(head, like, length, passed))
        except (OSError, DeadlineExceeded):
            raise
        except Exception as defect:
            self._entry.failed(Outcome.PROXY, f"a defect in the proxy: {log.place(defect)}")
            raise
        finally:
            self._report()

    def _report(self) -> None:
        entry = self._entry
        entry.finish()
        self._shared.stats.count(entry)
        self._shared.report(entry)

    def _read_head(self, reader: HeadReader, wait: float) -> Steps[bool]:
        """Read a head; False when the client closed the connection or sent nothing in time.

        Raises:
            Rejected: malformed, too large, or too slow.
        """
        client = self.client
        data: bytes | None
        data, client.ahead = client.ahead, b""
        deadline = time.monotonic() + wait
        while not data or not reader.feed(data):
            if data and not self.busy:
                self.busy = True
                deadline = min(deadline, time.monotonic() + self._timing.head)
            if self._shared.stopping and not self.busy:
                return False
            client.wants = READ
            try:
                yield deadline
            except DeadlineExceeded:
                if reader.held:
                    raise Rejected(408, "the request's head took too long") from None
                return False
            data = client.read()
            if data == b"":
                return False
        self.busy = True
        client.ahead = reader.rest
        return True

    def _answer(
        self, head: RequestHead, like: bytes, length: bytes | None, passed: access.Passed | None
    ) -> Steps[bool]:
        """Respond to one request; False when the connection ends with it.

        Args:
            like: its head without the length, see `http1.without_length`.
            passed: one that was the same but for its length.
        """
        entry = self._entry
        entry.method = head.method.decode("ascii")[:20]
        entry.agent = shown_agent(b" ".join(head.fields.values(b"user-agent")[:1]))
        self._path = head.target.partition(b"?")[0]
        entry.path = shown_path(self._path)
        self._with_body = head.method != b"HEAD"
        decoder: framing.RequestDecoder
        try:
            if passed:
                entry.tool = passed.tool
                decoder = framing.of_length(int(length or 0), self._timing.max_body)
                announced = length is not None
            else:
                known = self._shared.credentials.keys.known
                target, entry.tool = self._shared.rules.check(head)
                passed = access.Passed(head, target, entry.tool, known)
                decoder = framing.of_request(head, self._timing.max_body)
                if target.path == access.HEALTH:
                    return (yield from self._health(head, target, decoder.done))
                self._shared.remember(like, length, passed)
                announced = b"content-length" in head.fields.named
            # Go and curl announce the empty body of these three, and strict gateways insist on it.
            announced = announced or head.method in WITH_CONTENT
            return (yield from self._forward(passed, decoder, announced=announced))
        except error_responses.NoToken as refused:
            status = self._shared.no_token.get(entry.tool, refused.status)
            yield from self._refuse(Rejected(status, refused.reason))
        except Rejected as refused:
            entry.tool = entry.tool or self._shared.rules.whose(head)
            yield from self._refuse(refused)
        except GatewayError as error:
            status = 504 if error.late else 502
            what = f"no response from the gateway: {error.why}. Next: thv-llm doctor"
            reason = f"{error.why}. Next: {error.next_step}" if error.next_step else what
            yield from self._refuse(Rejected(status, reason), Outcome.GATEWAY)
        except ClientDisconnected:
            entry.failed(Outcome.CLIENT, CLIENT_DISCONNECTED)
            self._unread = False
        return False

    def _forward(
        self, passed: access.Passed, decoder: framing.RequestDecoder, *, announced: bool
    ) -> Steps[bool]:
        head = passed.head
        body = RequestBody(self.client, decoder, self._timing.max_body, announced=announced)
        if not body.done and head.minor and head.fields.values(b"expect"):
            go_on = headers.response(100, b"Continue", ())
            yield from self.client.write_all(go_on, time.monotonic() + self._timing.respond)
        protocol = wanted_protocol(head) if body.done else b""
        try:
            return (yield from self._forwarder.run(Request(passed, body, protocol), self._entry))
        finally:
            self._unread = not body.done

    def _health(self, head: RequestHead, target: http1.Target, bodiless: bool) -> Steps[bool]:
        if head.method not in (b"GET", b"HEAD"):
            raise Rejected(405, "method not allowed")
        stays = bodiless and head.minor == 1 and headers.keeps_open(head.minor, head.fields)
        shared = self._shared
        reply = error_responses.health(
            shared.gateway.url, target, shared.key, stays=stays, with_body=self._with_body
        )
        yield from self._write(reply, 200)
        self._unread = not bodiless
        return stays

    def _refuse(self, rejected: Rejected, outcome: Outcome = Outcome.PROXY) -> Steps[None]:
        self._entry.failed(outcome, rejected.reason)
        response = error_responses.error(rejected, self._path, with_body=self._with_body)
        yield from self._write(response, rejected.status)

    def _write(self, response: bytes, status: int) -> Steps[None]:
        self._entry.responded(status)
        yield from self.client.write_all(response, time.monotonic() + self._timing.respond)
        self._entry.bytes_out = len(response)

    def _linger(self) -> Steps[None]:
        """Read what the client is still sending, so that it can read our response."""
        deadline = time.monotonic() + self._timing.linger
        self.client.sock.shutdown(socket.SHUT_WR)
        self.client.wants = READ
        while self.client.read() != b"":
            yield deadline


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
        keys: see `access.Keys`; without it the clients must know the local key.
        no_token: see `Shared`.
        require_key: False when clients need not know a key.
        tools: where each tool's requests are counted.
        descriptors: how many this process can have; more connections than they allow get a 503.
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
        with contextlib.suppress(OSError):  # it is closed already
            if self._loop.count - len(self._listeners) < self._max_connections:
                self._loop.begin(ClientConnection(sock, self._shared))
                return
            sock.settimeout(0)
            sock.send(error_responses.error(Rejected(503, "too many connections")))
        sock.close()


class _Listener:
    """A listening socket as a task of the loop: accepts who waits, and hands each on."""

    idle = True
    """It is ended first, and its port with it."""

    def __init__(
        self, family: socket.AddressFamily, host: str, port: int, serve: Callable[[socket.socket], None]
    ) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            peers.reserve(sock)
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

    def _run(self, serve: Callable[[socket.socket], None]) -> Steps[None]:
        (transport,) = self.transports
        try:
            while True:
                yield math.inf
                try:
                    serve(transport.sock.accept()[0])  # one: if others wait, this comes again at once
                except BlockingIOError:
                    continue
                except OSError as error:  # some other one: the peer has disconnected
                    if error.errno in FULL:
                        transport.wants = 0
                        with contextlib.suppress(DeadlineExceeded):
                            yield time.monotonic() + FULL_PAUSE_S
                        transport.wants = READ
        finally:
            transport.close()
