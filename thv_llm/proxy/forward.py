"""One request to the gateway, as far as the head of its answer.

Rule 1: writing, reading and watching the tool go on at the same time. A gateway may answer before
        the body is through, and a tool that goes away ends its request at once, because generating
        for nobody costs money.
Rule 2: a request is sent a second time only in two cases. The pooled connection turned out dead
        and nothing of an answer came, and the request was not sent to its end or is safe to
        repeat (RFC 9110 section 9.2.2). Or the gateway refused the token, see `connection`.
"""

from __future__ import annotations

import select
import time
from typing import NamedTuple

from thv_llm.proxy.body import RequestBody
from thv_llm.proxy.http1 import AnswerHead, HeadReader, Refused, parse_answer
from thv_llm.proxy.relay import MAX_AHEAD_BYTES
from thv_llm.proxy.upstream import MAX_INTERIM, Gateway, GatewayError, Link
from thv_llm.proxy.wire import Wire

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
SWITCHING = 101


class ToolGone(Exception):
    """The tool closed its connection before its answer began."""


class Answer(NamedTuple):
    """The beginning of an answer.

    Attributes:
        rest: bytes that came behind the head.
        early: it came before the request's body was through, and the rest of that was not sent.
    """

    link: Link
    head: AnswerHead
    rest: bytes
    early: bool


def send(gateway: Gateway, tool: Wire, method: bytes, head: bytes, body: RequestBody) -> Answer:
    """Send a request and return the beginning of its answer.

    Args:
        head: for the gateway, with its empty line.

    Raises:
        ToolGone: the tool went away; the gateway's connection is closed then.
        Refused: the body is malformed or too large.
        GatewayError: no usable answer.
    """
    link = gateway.link()
    while True:
        attempt = _Attempt(gateway, tool, link, head, body)
        try:
            return attempt.run()
        except (OSError, Refused, GatewayError, ToolGone) as error:
            link.close()
            repeatable = (not attempt.sent or method in SAFE) and body.can_repeat
            if link.reused and isinstance(error, OSError) and not attempt.answered and repeatable:
                link = gateway.link(fresh=True)
                continue
            if isinstance(error, OSError):
                raise GatewayError("it closed the connection without an answer") from None
            raise


class _Attempt:
    """One try on one connection.

    Attributes:
        sent: the whole request went out.
        answered: something of an answer came.
    """

    def __init__(self, gateway: Gateway, tool: Wire, link: Link, head: bytes, body: RequestBody) -> None:
        self.sent = False
        self.answered = False
        self._limits = gateway.limits
        self._tool = tool
        self._link = link
        self._body = body
        self._pending: memoryview | bytes = memoryview(head + body.from_start())
        self._reader = HeadReader(of_answer=True)
        self._interim = 0
        self._head: AnswerHead | None = None
        self._broken: OSError | None = None
        self._deadline = time.monotonic() + self._limits.idle
        self._poll = select.poll()

    def run(self) -> Answer:
        """Write and read until the final head is there and nothing is left to send."""
        tool, link = self._tool, self._link
        while True:
            self._write()
            head = self._head
            if head is not None and (self.sent or head.status >= 300 or self._broken):
                return Answer(link, head, self._reader.rest, not self.sent)
            self._poll.register(link.fd, self._link_events())
            self._poll.register(tool.fd, self._tool_events())
            left = self._deadline - time.monotonic()
            ready = dict(self._poll.poll(left * 1000)) if left > 0 else {}
            if not ready:
                raise GatewayError("no answer within the time limit", late=True)
            # The answer first: a tool that has got one may close.
            if ready.get(link.fd, 0) & ~select.POLLOUT:
                self._read()
            if tool.fd in ready and self._head is None:
                self._hear_tool()

    def _write(self) -> None:
        """Send what is pending, or else the next part of the body; then somebody else has a turn."""
        if self.sent or self._broken:
            return
        if not self._pending and not self._body.done:
            self._pending = memoryview(self._next_part() or b"")
        if self._pending:
            try:
                written = self._link.write(self._pending)
            except OSError as error:
                # An answer may be waiting all the same: a server that refuses a body closes early.
                self._broken = error
                return
            if written:
                self._pending = self._pending[written:]
                self._deadline = time.monotonic() + self._limits.idle
        if not self._pending and self._body.done:
            self.sent = True
            self._deadline = time.monotonic() + self._limits.head

    def _next_part(self) -> bytes | None:
        try:
            return self._body.read()
        except OSError:
            raise ToolGone from None

    def _link_events(self) -> int:
        # Once the head is there, the rest of the answer waits until the body is through.
        reading = select.POLLIN if self._head is None else 0
        return reading | (select.POLLOUT if self._pending and not self._broken else 0)

    def _tool_events(self) -> int:
        if self._body.done:
            return select.POLLIN if len(self._tool.ahead) < MAX_AHEAD_BYTES else 0
        return 0 if self._pending else select.POLLIN

    def _read(self) -> None:
        if self._head is not None:
            return
        try:
            data = self._link.read()
        except OSError as error:
            raise self._broken or error from None
        if data is None:
            if self._broken:
                raise self._broken
            return
        if not data:
            raise ConnectionAbortedError
        self.answered = True
        while data:
            if not self._reader.feed(data):
                return
            head = parse_answer(self._reader.head)
            if head.status >= 200 or head.status == SWITCHING:
                self._head = head
                return
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise Refused(502, "too many interim answers")
            data = self._reader.rest
            self._reader = HeadReader(of_answer=True)

    def _hear_tool(self) -> None:
        """Take the tool's next bytes, or notice that it went away."""
        if not self._body.done:
            return  # `_write` reads the body
        try:
            data = self._tool.read()
        except OSError:
            raise ToolGone from None
        if data == b"":
            raise ToolGone
        self._tool.ahead += data or b""
