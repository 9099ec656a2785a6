"""One request to the gateway, as far as the head of its answer.

Rule 1: writing, reading and watching the tool go on at the same time. A gateway may answer before
        the body is through, and a tool that goes away ends its request at once, because generating
        for nobody costs money.
Rule 2: a request is sent a second time only in two cases. The pooled connection turned out dead
        and nothing of an answer came, and the request was not sent to its end or is safe to
        repeat (RFC 9110 section 9.2.2). Or the gateway refused the token, see `forward`.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from thv_llm.proxy.body import RequestBody
from thv_llm.proxy.http1 import AnswerHead, HeadReader, Refused, parse_answer
from thv_llm.proxy.link import Link
from thv_llm.proxy.loop import Steps
from thv_llm.proxy.relay import MAX_AHEAD_BYTES
from thv_llm.proxy.upstream import MAX_INTERIM, Gateway, GatewayError
from thv_llm.proxy.wire import READ, WRITE, Late, Wire

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
SWITCHING = 101
PARTS_IN_A_ROW = 4
"""Of a large upload, before an early answer is looked for and other tasks have their turn."""


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


def send(gateway: Gateway, wires: list[Wire], method: bytes, head: bytes, body: RequestBody) -> Steps[Answer]:
    """Send a request and return the beginning of its answer.

    Args:
        wires: the task's: the tool's is in it, the gateway's is put behind it.
        head: for the gateway, with its empty line.

    Raises:
        ToolGone: the tool went away.
        Refused: the body is malformed or too large.
        GatewayError: no usable answer.
    """
    link = yield from gateway.link()
    while True:
        wires[1:] = [link]
        attempt = _Attempt(gateway, wires[0], link, head, body)
        try:
            return (yield from attempt.run())
        except Late:
            if attempt.waits_for_tool:
                raise Refused(408, "the request's body took too long") from None
            raise GatewayError("nothing within the time limit", late=True) from None
        except OSError:
            repeatable = (not attempt.sent or method in SAFE) and body.can_repeat
            if not link.reused or attempt.answered or not repeatable:
                raise GatewayError("it closed the connection without an answer") from None
        link.close()
        link = yield from gateway.new_link()


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

    @property
    def waits_for_tool(self) -> bool:
        """Whether it is the tool's turn: all of its body that came is at the gateway."""
        return not self._pending and not self._body.done

    def run(self) -> Steps[Answer]:
        """Write and read until the final head is there and nothing is left to send."""
        tool, link = self._tool, self._link
        while True:
            self._write()
            head = self._head
            if head is not None and (self.sent or head.status >= 300 or self._broken):
                return Answer(link, head, self._reader.rest, not self.sent)
            self._say_what_for()
            yield self._deadline
            # The answer first: a tool that has got one may close.
            if link.ready & READ and self._head is None:
                self._read()
            if tool.ready and self._head is None and self._body.done:
                self._hear_tool()

    def _write(self) -> None:
        """Send what is pending and the next parts of the body; then others have a turn."""
        for _ in range(PARTS_IN_A_ROW):
            if self.sent or self._broken or not self._write_part():
                return

    def _write_part(self) -> bool:
        """Send what is pending, or else the next part of the body; whether there may be more to do."""
        if not self._pending and not self._body.done:
            self._pending = memoryview(self._next_part())
        if self._pending:
            try:
                written = self._link.write(self._pending)
            except OSError as error:
                # An answer may be waiting all the same: a server that refuses a body closes early.
                self._broken = error
                return False
            if not written:
                return False
            self._pending = self._pending[written:]
            self._deadline = time.monotonic() + self._limits.idle
        elif not self._body.done:
            return False
        if not self._pending and self._body.done:
            self.sent = True
            self._deadline = time.monotonic() + self._limits.head
        return True

    def _next_part(self) -> bytes:
        try:
            return self._body.read() or b""
        except OSError:
            raise ToolGone from None

    def _say_what_for(self) -> None:
        # Once the head is there, the rest of the answer waits until the body is through.
        self._link.wants = READ if self._head is None else 0
        if self._pending and not self._broken:
            self._link.wants |= WRITE
        if self._body.done:
            listens = self._head is None and len(self._tool.ahead) < MAX_AHEAD_BYTES
        else:
            listens = not self._pending
        self._tool.wants = READ if listens else 0

    def _read(self) -> None:
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
        while data and self._reader.feed(data):
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
        try:
            data = self._tool.read()
        except OSError:
            raise ToolGone from None
        if data == b"":
            raise ToolGone
        self._tool.ahead += data or b""
