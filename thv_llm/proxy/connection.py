"""One connection of a client, a task of the loop: request after request, until one side closes.

For each: read the head under one deadline, apply the access rules, forward it, or respond with an
error of our own and close.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from thv_llm import log
from thv_llm.proxy import access, error_responses, framing, headers, http1, upgrade
from thv_llm.proxy.event_loop import Steps
from thv_llm.proxy.exchange import Request, RequestBody
from thv_llm.proxy.forward import Credentials, Forwarder
from thv_llm.proxy.http1 import HeadReader, Rejected, RequestHead, parse_request
from thv_llm.proxy.response_body import CLIENT_DISCONNECTED
from thv_llm.proxy.stats import LogEntry, Outcome, Stats, shown_agent, shown_path
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
from thv_llm.system.peers import Peers

HEAD_S = 30.0
"""For a whole head from its first byte; for the first one from the connection's beginning."""
KEEP_S = 120.0
"""Between two requests. Longer than clients keep theirs (Go: 90 s), so that they close, not we."""
REPLY_S = 10.0
"""For the client to take a response of ours."""
LINGER_S = 2.0
"""For what a client is still sending when it has been refused; without it, closing would reset the
connection and the refusal be lost."""
WITH_CONTENT = (b"POST", b"PUT", b"PATCH")
MAX_BODY_BYTES = 1024 * 1024 * 1024
"""Of one request: a prompt with many images, or a file to be uploaded."""


@dataclass(frozen=True)
class Timing:
    """Limits towards the clients, in seconds and bytes; tests shorten them."""

    head: float = HEAD_S
    keep: float = KEEP_S
    reply: float = REPLY_S
    linger: float = LINGER_S
    max_body: int = MAX_BODY_BYTES


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


class Connection:
    """A client's connection.

    Attributes:
        busy: a request has begun to arrive, or is being answered.
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
            if self._shared.peers.is_stranger(self.client.sock):
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
            head = parse_request(reader.head)
        except Rejected as refused:  # before there was a request to speak of
            self._entry = LogEntry()
            self._unread = True
            try:
                yield from self._refuse(refused)
            finally:
                self._report()
            return False
        try:
            return (yield from self._answer(head))
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

    def _answer(self, head: RequestHead) -> Steps[bool]:
        """Respond to one request; False when the connection ends with it."""
        entry = self._entry
        entry.method = head.method.decode("ascii")[:20]
        entry.agent = shown_agent(b" ".join(head.fields.values(b"user-agent")[:1]))
        self._path = head.target.partition(b"?")[0]
        entry.path = shown_path(self._path)
        self._with_body = head.method != b"HEAD"
        try:
            target, entry.tool = self._shared.rules.check(head)
            decoder = framing.of_request(head, self._timing.max_body)
            if target.path == access.HEALTH:
                return (yield from self._health(head, target, decoder.done))
            return (yield from self._forward(head, target, decoder))
        except error_responses.NoToken as refused:
            status = self._shared.no_token.get(entry.tool, refused.status)
            yield from self._refuse(Rejected(status, refused.reason))
        except Rejected as refused:
            entry.tool = entry.tool or self._shared.rules.whose(head)
            yield from self._refuse(refused)
        except GatewayError as error:
            status = 504 if error.late else 502
            reason = f"no response from the gateway: {error.why}. Next: thv-llm doctor"
            yield from self._refuse(Rejected(status, reason), Outcome.GATEWAY)
        except ClientDisconnected:
            entry.failed(Outcome.CLIENT, CLIENT_DISCONNECTED)
            self._unread = False
        return False

    def _forward(
        self,
        head: RequestHead,
        target: http1.Target,
        decoder: framing.ContentLengthBody | framing.ChunkedBody,
    ) -> Steps[bool]:
        # Go and curl announce the empty body of these three, and strict gateways insist on it.
        announced = head.method in WITH_CONTENT or bool(head.fields.values(b"content-length"))
        body = RequestBody(self.client, decoder, self._timing.max_body, announced=announced)
        if not body.done and head.minor and head.fields.values(b"expect"):
            go_on = headers.response(100, b"Continue", ())
            yield from self.client.write_all(go_on, time.monotonic() + self._timing.reply)
        protocol = upgrade.wanted(head) if body.done else b""
        try:
            return (yield from self._forwarder.run(Request(head, target, body, protocol), self._entry))
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
        yield from self.client.write_all(response, time.monotonic() + self._timing.reply)
        self._entry.bytes_out = len(response)

    def _linger(self) -> Steps[None]:
        """Read what the client is still sending, so that it can read our response."""
        deadline = time.monotonic() + self._timing.linger
        self.client.sock.shutdown(socket.SHUT_WR)
        self.client.wants = READ
        while self.client.read() != b"":
            yield deadline
