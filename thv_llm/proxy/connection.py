"""One connection of a tool, a task of the loop: request after request, until one side closes.

For each: read the head under one deadline, apply the access rules, forward it, or answer with an
error of our own and close.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from thv_llm import log
from thv_llm.proxy import access, framing, headers, replies, target, upgrade
from thv_llm.proxy.attempt import ToolGone
from thv_llm.proxy.body import RequestBody
from thv_llm.proxy.forward import Credentials, Forwarder, Request
from thv_llm.proxy.http1 import HeadReader, Refused, RequestHead, parse_request
from thv_llm.proxy.loop import Steps
from thv_llm.proxy.peer import Peers
from thv_llm.proxy.relay import TOOL_GONE
from thv_llm.proxy.stats import Exchange, Record, Stats, shown_agent, shown_path
from thv_llm.proxy.upstream import Gateway, GatewayError
from thv_llm.proxy.wire import READ, Late, Wire
from thv_llm.secret import Secret

HEAD_S = 30.0
"""For a whole head from its first byte; for the first one from the connection's beginning."""
KEEP_S = 120.0
"""Between two requests. Longer than tools keep theirs (Go: 90 s), so that they close, not we."""
REPLY_S = 10.0
"""For the tool to take an answer of ours."""
LINGER_S = 2.0
"""For what a tool is still sending when it has been refused; without it, closing would reset the
connection and the refusal be lost."""
MAX_BODY_BYTES = 1024 * 1024 * 1024
"""Of one request: a prompt with many images, or a file to be uploaded."""


@dataclass(frozen=True)
class Timing:
    """Limits towards the tools, in seconds and bytes; tests shorten them."""

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
        stopping: no further request is taken.
    """

    gateway: Gateway
    credentials: Credentials
    rules: access.Rules
    key: Secret | None
    report: Callable[[Exchange], None]
    timing: Timing
    stats: Stats = field(default_factory=Stats)
    peers: Peers = field(default_factory=Peers)
    stopping: bool = False


class Connection:
    """A tool's connection.

    Attributes:
        busy: a request has begun to arrive, or is being answered.
        steps, wires, deadline: see `loop.Task`.
    """

    def __init__(self, sock: socket.socket, shared: Shared) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tool = Wire(sock)
        self.busy = False
        self.wires = [self.tool]
        self.deadline = math.inf
        self.steps = self._run()
        self._shared = shared
        self._timing = shared.timing
        self._forwarder = Forwarder(shared.gateway, shared.credentials, self.wires, lambda: shared.stopping)
        self._record = Record()
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
            if self._shared.peers.is_stranger(self.tool.sock):
                return
            while (yield from self._serve(wait)):
                self.busy = False
                wait = self._timing.keep
            if self._unread:
                yield from self._linger()
        except (OSError, Late):
            broken = self._forwarder.broken
        finally:
            for wire in self.wires:
                wire.close(broken=broken)

    def _serve(self, wait: float) -> Steps[bool]:
        """Serve one request; False when it was the last one."""
        reader = HeadReader()
        self._path, self._with_body, self._unread = b"", True, False
        try:
            if not (yield from self._read_head(reader, wait)):
                return False
            self._record = Record()
            self._unread = True
            head = parse_request(reader.head)
        except Refused as refused:  # before there was a request to speak of
            self._record = Record()
            self._unread = True
            try:
                yield from self._refuse(refused)
            finally:
                self._report()
            return False
        try:
            return (yield from self._answer(head))
        except (OSError, Late):
            raise
        except Exception as defect:
            self._record.refusal = f"a defect in the proxy: {log.place(defect)}"
            raise
        finally:
            self._report()

    def _report(self) -> None:
        exchange = self._record.exchange()
        self._shared.stats.count(exchange)
        self._shared.report(exchange)

    def _read_head(self, reader: HeadReader, wait: float) -> Steps[bool]:
        """Read a head; False when the tool closed the connection or sent nothing in time.

        Raises:
            Refused: malformed, too large, or too slow.
        """
        tool = self.tool
        data: bytes | None
        data, tool.ahead = tool.ahead, b""
        deadline = time.monotonic() + wait
        while not data or not reader.feed(data):
            if data and not self.busy:
                self.busy = True
                deadline = min(deadline, time.monotonic() + self._timing.head)
            if self._shared.stopping and not self.busy:
                return False
            tool.wants = READ
            try:
                yield deadline
            except Late:
                if reader.held:
                    raise Refused(408, "the request's head took too long") from None
                return False
            data = tool.read()
            if data == b"":
                return False
        self.busy = True
        tool.ahead = reader.rest
        return True

    def _answer(self, head: RequestHead) -> Steps[bool]:
        """Answer one request; False when the connection ends with it."""
        record = self._record
        record.method = head.method.decode("ascii")[:20]
        record.agent = shown_agent(b" ".join(head.fields.values(b"user-agent")[:1]))
        self._path = head.target.partition(b"?")[0]
        record.path = shown_path(self._path)
        self._with_body = head.method != b"HEAD"
        try:
            place = self._shared.rules.check(head)
            decoder = framing.of_request(head, self._timing.max_body)
            if place.path == access.HEALTH:
                return (yield from self._health(head, place, decoder.done))
            return (yield from self._forward(head, place, decoder))
        except Refused as refused:
            yield from self._refuse(refused)
        except GatewayError as error:
            status = 504 if error.late else 502
            yield from self._refuse(Refused(status, f"no answer from the gateway: {error.why}"))
        except ToolGone:
            record.status, record.refusal = 0, TOOL_GONE
            self._unread = False
        return False

    def _forward(
        self, head: RequestHead, place: target.Target, decoder: framing.Counted | framing.Chunked
    ) -> Steps[bool]:
        body = RequestBody(self.tool, decoder, self._timing.max_body)
        if not body.done and head.minor and head.fields.values(b"expect"):
            go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
            yield from self.tool.write_all(go_on, time.monotonic() + self._timing.reply)
        protocol = upgrade.wanted(head) if body.done else b""
        try:
            return (yield from self._forwarder.run(Request(head, place, body, protocol), self._record))
        finally:
            self._unread = not body.done

    def _health(self, head: RequestHead, place: target.Target, bodiless: bool) -> Steps[bool]:
        if head.method not in (b"GET", b"HEAD"):
            raise Refused(405, "method not allowed")
        stays = bodiless and head.minor == 1 and headers.keeps_open(head.minor, head.fields)
        shared = self._shared
        reply = replies.health(shared.gateway.url, place, shared.key, stays=stays, with_body=self._with_body)
        yield from self._write(reply, 200)
        self._unread = not bodiless
        return stays

    def _refuse(self, refused: Refused) -> Steps[None]:
        self._record.refusal = refused.reason
        reply = replies.error(refused, self._path, with_body=self._with_body)
        yield from self._write(reply, refused.status)

    def _write(self, reply: bytes, status: int) -> Steps[None]:
        record = self._record
        record.status = status
        record.first_byte = time.monotonic()
        yield from self.tool.write_all(reply, record.first_byte + self._timing.reply)
        record.bytes_out = len(reply)

    def _linger(self) -> Steps[None]:
        """Read what the tool is still sending, so that it can read our answer."""
        deadline = time.monotonic() + self._timing.linger
        self.tool.sock.shutdown(socket.SHUT_WR)
        self.tool.wants = READ
        while self.tool.read() != b"":
            yield deadline
