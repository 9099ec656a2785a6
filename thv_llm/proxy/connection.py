"""One connection of a tool, in a thread of its own: request after request, until one side closes.

For each: read the head under one deadline, apply the access rules, get a token, send the request
to the gateway, pass the answer on. A 401 or 403 of the gateway is answered by one fresh token and
one repeat; what comes then is passed on as it is.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from thv_llm.errors import ThvLlmError
from thv_llm.proxy import access, forward, framing, headers, replies, target, upgrade
from thv_llm.proxy.body import RequestBody
from thv_llm.proxy.forward import Answer, ToolGone
from thv_llm.proxy.http1 import HeadReader, Refused, RequestHead, parse_request
from thv_llm.proxy.pump import Pump
from thv_llm.proxy.relay import TOOL_GONE, Relay
from thv_llm.proxy.stats import Exchange, Stats, shown_agent, shown_path
from thv_llm.proxy.upstream import Gateway, GatewayError
from thv_llm.proxy.wire import Late, Wire
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
USELESS_S = 60.0
"""A fresh token that was refused is not renewed again for that long: the gateway means no."""


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
        get_token: takes the token that was refused, or None; thread-safe.
        stopping: no further request is taken.
        useless: a token that was fresh and refused all the same, and until when to believe it.
    """

    gateway: Gateway
    get_token: Callable[[Secret | None], Secret]
    rules: access.Rules
    key: Secret | None
    report: Callable[[Exchange], None]
    pump: Pump
    timing: Timing
    stats: Stats = field(default_factory=Stats)
    stopping: bool = False
    useless: tuple[Secret, float] | None = None


class _Record:
    """What will be reported of the exchange that is going on."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.time = time.time()
        self.method = self.path = self.agent = self.refusal = ""
        self.status = self.bytes_in = self.bytes_out = 0
        self.first_byte: float | None = None

    def exchange(self) -> Exchange:
        first = self.first_byte
        return Exchange(
            time=self.time,
            method=self.method,
            path=self.path,
            status=self.status,
            first_byte_ms=None if first is None else (first - self.began) * 1000,
            total_ms=(time.monotonic() - self.began) * 1000,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            agent=self.agent,
            refusal=self.refusal,
        )


class Connection:
    """A tool's connection.

    Attributes:
        busy: a request has begun to arrive, or is being answered.
    """

    def __init__(self, sock: socket.socket, shared: Shared) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tool = Wire(sock)
        self.busy = False
        self._shared = shared
        self._timing = shared.timing
        self._record = _Record()
        self._path = b""
        self._with_body = True
        self._unread = False
        self._unmarked = False

    def run(self) -> None:
        """Serve requests until the connection ends."""
        wait = self._timing.head
        try:
            while self._serve(wait):
                self.busy = False
                wait = self._timing.keep
            if self._unread:
                self._linger()
        except (OSError, Late):
            return
        finally:
            self.tool.close(broken=self._unmarked)

    def stop_waiting(self) -> None:
        """End the connection, from another thread."""
        try:
            self.tool.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _serve(self, wait: float) -> bool:
        """Serve one request; False when it was the last one."""
        reader = HeadReader()
        self._path, self._with_body, self._unread = b"", True, False
        try:
            if not self._read_head(reader, wait):
                return False
            self._unread = True
            self._record = _Record()
            head = parse_request(reader.head)
        except Refused as refused:  # before there was a request to speak of
            self._record = _Record()
            self._unread = True
            self._refuse(refused)
            self._report()
            return False
        try:
            return self._answer(head)
        finally:
            self._report()

    def _report(self) -> None:
        exchange = self._record.exchange()
        self._shared.stats.count(exchange)
        self._shared.report(exchange)

    def _read_head(self, reader: HeadReader, wait: float) -> bool:
        """Read a head; False when the tool closed the connection or sent nothing in time.

        Raises:
            Refused: malformed, too large, or too slow.
        """
        tool = self.tool
        data, tool.ahead = tool.ahead, b""
        deadline = time.monotonic() + wait
        while not data or not reader.feed(data):
            if data and not self.busy:
                self.busy = True
                deadline = min(deadline, time.monotonic() + self._timing.head)
            if self._shared.stopping and not self.busy:
                return False
            try:
                tool.wait(select.POLLIN, deadline)
            except Late:
                if reader.held:
                    raise Refused(408, "the request's head took too long") from None
                return False
            data = tool.read() or b""
            if not data:
                return False
        self.busy = True
        tool.ahead = reader.rest
        return True

    def _answer(self, head: RequestHead) -> bool:
        """Answer one request; False when the connection ends with it."""
        record = self._record
        record.method = head.method.decode("ascii")[:20]
        record.agent = shown_agent(b" ".join(headers.values(head.fields, b"user-agent")[:1]))
        self._path = head.target.partition(b"?")[0]
        record.path = shown_path(self._path)
        self._with_body = head.method != b"HEAD"
        try:
            place = self._shared.rules.check(head)
            decoder = framing.of_request(head, self._timing.max_body)
            if place.path == access.HEALTH:
                return self._health(head, place, decoder.done)
            body = RequestBody(self.tool, decoder, self._timing.max_body)
            return self._forward(head, place, body)
        except Refused as refused:
            self._refuse(refused)
        except GatewayError as error:
            status = 504 if error.late else 502
            self._refuse(Refused(status, f"no answer from the gateway: {error.why}"))
        except ToolGone:
            record.refusal = TOOL_GONE
            self._unread = False
        return False

    def _health(self, head: RequestHead, place: target.Target, bodiless: bool) -> bool:
        if head.method not in (b"GET", b"HEAD"):
            raise Refused(405, "method not allowed")
        stays = bodiless and head.minor == 1 and headers.keeps_open(head.minor, head.fields)
        shared = self._shared
        reply = replies.health(shared.gateway.url, place, shared.key, stays=stays, with_body=self._with_body)
        self._write(reply, 200)
        self._unread = not bodiless
        return stays

    def _refuse(self, refused: Refused) -> None:
        self._record.refusal = refused.reason
        self._write(replies.error(refused, self._path, with_body=self._with_body), refused.status)

    def _write(self, reply: bytes, status: int) -> None:
        record = self._record
        record.status = status
        record.first_byte = time.monotonic()
        self.tool.write_all(reply, record.first_byte + self._timing.reply)
        record.bytes_out = len(reply)

    def _linger(self) -> None:
        """Read what the tool is still sending, so that it can read our answer."""
        deadline = time.monotonic() + self._timing.linger
        try:
            self.tool.sock.shutdown(socket.SHUT_WR)
            while self.tool.read() != b"":
                self.tool.wait(select.POLLIN, deadline)
        except (OSError, Late):
            return

    def _forward(self, head: RequestHead, place: target.Target, body: RequestBody) -> bool:
        if not body.done and headers.values(head.fields, b"expect") and head.minor:
            self.tool.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", time.monotonic() + self._timing.reply)
        protocol = upgrade.wanted(head) if body.done else b""
        try:
            answer, token = self._ask(head, place, body, protocol)
        finally:
            self._record.bytes_in = body.size
        self._unread = not body.done
        if protocol:
            return self._switch(answer, token)
        if answer.head.status == forward.SWITCHING:
            answer.link.close()
            raise GatewayError("it switched protocols unasked")
        return self._pass_on(head, answer, token)

    def _ask(
        self, head: RequestHead, place: target.Target, body: RequestBody, protocol: bytes
    ) -> tuple[Answer, bytes]:
        """Send the request, and once more with a fresh token when the first one is refused."""
        shared = self._shared
        token = self._token(None)
        answer = self._send(head, place, body, protocol, token)
        if answer.head.status not in (401, 403) or not body.can_repeat:
            return answer, token.reveal().encode()
        useless = shared.useless
        if useless is not None and useless[0] == token and time.monotonic() < useless[1]:
            return answer, token.reveal().encode()
        try:
            fresh = self._token(token)
        except Refused:
            answer.link.close()
            raise
        if fresh == token:
            return answer, token.reveal().encode()
        self._drop(answer, head.method)
        answer = self._send(head, place, body, protocol, fresh)
        if answer.head.status in (401, 403):
            shared.useless = (fresh, time.monotonic() + USELESS_S)
        return answer, fresh.reveal().encode()

    def _token(self, rejected: Secret | None) -> Secret:
        try:
            return self._shared.get_token(rejected)
        except ThvLlmError as failure:
            raise replies.token_failure(failure) from None
        except Exception as failure:  # a defect, and its text may hold anything
            raise replies.token_failure(failure) from None

    def _send(
        self, head: RequestHead, place: target.Target, body: RequestBody, protocol: bytes, token: Secret
    ) -> Answer:
        gateway = self._shared.gateway
        fields = [(b"Host", gateway.authority)]
        fields += headers.to_gateway(head.fields, token.reveal().encode("utf-8"))
        if body.framing:
            fields.append(body.framing)
        if protocol:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", protocol)]
        line = b"%b %b HTTP/1.1" % (head.method, target.at_gateway(gateway.base, place))
        return forward.send(gateway, self.tool, head.method, headers.write(line, fields), body)

    def _drop(self, answer: Answer, method: bytes) -> None:
        """Let go of an answer that nobody gets; its connection is kept when it is whole."""
        try:
            decoder = framing.of_answer(answer.head, method)
            decoder.feed(answer.rest)
            whole = decoder.done and not decoder.rest and not answer.early
        except Refused:
            whole = False
        if whole and headers.keeps_open(answer.head.minor, answer.head.fields):
            self._shared.gateway.give_back(answer.link)
        else:
            answer.link.close()

    def _switch(self, answer: Answer, token: bytes) -> bool:
        """Relay another protocol both ways, or say 426 (tools fall back to HTTP on that at once)."""
        try:
            if answer.head.status != forward.SWITCHING:
                raise Refused(426, "the gateway does not switch protocols here")
            self._record.status = forward.SWITCHING
            self._record.first_byte = time.monotonic()
            self._record.bytes_out = upgrade.relay(
                self.tool, answer, token, self._shared.gateway.limits.idle, lambda: self._shared.stopping
            )
        finally:
            answer.link.close()
        return False

    def _pass_on(self, head: RequestHead, answer: Answer, token: bytes) -> bool:
        shared, record = self._shared, self._record
        try:
            decoder = framing.of_answer(answer.head, head.method)
        except Refused as refused:
            answer.link.close()
            raise GatewayError(refused.reason) from None
        counted = isinstance(decoder, framing.Counted)
        chunked = not counted and head.minor == 1
        stays = head.minor == 1 and not answer.early and not shared.stopping
        stays = stays and headers.keeps_open(head.minor, head.fields)
        relay = Relay(self.tool, answer.link, decoder, chunked=chunked, token=token)
        record.status = answer.head.status
        record.first_byte = time.monotonic()
        relay.start(self._answer_head(answer, token, counted, chunked, stays), answer.rest)
        if not relay.over:
            shared.pump.run(relay)
        record.bytes_out, record.refusal = relay.sent, relay.failure
        if relay.reusable and not answer.early and headers.keeps_open(answer.head.minor, answer.head.fields):
            shared.gateway.give_back(answer.link)
        else:
            answer.link.close()
        if relay.failure:
            # Without a length or chunks only a reset tells the tool that there was more to come.
            self._unmarked = not counted and not chunked
            raise ConnectionAbortedError
        return stays

    def _answer_head(self, answer: Answer, token: bytes, counted: bool, chunked: bool, stays: bool) -> bytes:
        status, reason, _, fields = answer.head
        passing = headers.to_tool(fields, token)
        if counted and status != 204:
            passing += [(b"Content-Length", value) for value in headers.values(fields, b"content-length")]
        if chunked:
            passing.append((b"Transfer-Encoding", b"chunked"))
        if not stays:
            passing.append((b"Connection", b"close"))
        return headers.write(b"HTTP/1.1 %d %b" % (status, reason.replace(token, b"")), passing)
