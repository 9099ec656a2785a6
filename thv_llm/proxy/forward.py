"""A request that may pass, to the gateway and its answer back: with a token, and with a fresh one.

A 401 or 403 of the gateway is answered by one fresh token and one repeat; what comes then is
passed on as it is. No token at all is a 401 of ours that says what to run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from thv_llm.proxy import attempt, framing, headers, replies, target, upgrade
from thv_llm.proxy.attempt import SWITCHING, Answer
from thv_llm.proxy.body import RequestBody
from thv_llm.proxy.http1 import Refused, RequestHead
from thv_llm.proxy.loop import Job, Steps
from thv_llm.proxy.relay import Relay
from thv_llm.proxy.stats import Record
from thv_llm.proxy.upstream import Gateway, GatewayError
from thv_llm.proxy.wire import Wire
from thv_llm.secret import Secret

USELESS_S = 60.0
"""A fresh token that was refused is not renewed again for that long: the gateway means no."""


class Request(NamedTuple):
    """A request that may pass.

    Attributes:
        protocol: to switch to; empty for none.
    """

    head: RequestHead
    place: target.Target
    body: RequestBody
    protocol: bytes


@dataclass
class Credentials:
    """Where tokens come from.

    Attributes:
        get_token: takes the token that was refused, or None. It may block.
        at_hand: returns a token if that takes no time, else None.
        useless: a token that was fresh and refused all the same, and until when to believe it.
    """

    get_token: Callable[[Secret | None], Secret]
    at_hand: Callable[[], Secret | None]
    useless: tuple[Secret, float] | None = None

    def current(self) -> Steps[Secret]:
        """Return a token.

        Raises:
            Refused: 401, there is none.
        """
        return self.at_hand() or (yield from self._ask(None))

    def fresh(self, refused: Secret) -> Steps[Secret | None]:
        """Return another token than the refused one; None when there is no use in asking.

        Raises:
            Refused: 401, there is none any more.
        """
        useless = self.useless
        if useless is not None and useless[0] == refused and time.monotonic() < useless[1]:
            return None
        token = yield from self._ask(refused)
        return None if token == refused else token

    def is_useless(self, token: Secret) -> None:
        """Remember that a fresh token was refused."""
        self.useless = (token, time.monotonic() + USELESS_S)

    def _ask(self, refused: Secret | None) -> Steps[Secret]:
        try:
            token: Secret = yield Job(lambda: self.get_token(refused))
        except Exception as failure:
            raise replies.token_failure(failure) from None
        return token


class Forwarder:
    """Sends requests of one connection to the gateway, and the answers back.

    Attributes:
        broken: an answer broke off where only a reset can tell the tool.
    """

    def __init__(
        self,
        gateway: Gateway,
        credentials: Credentials,
        wires: list[Wire],
        stopping: Callable[[], bool],
    ) -> None:
        self.broken = False
        self._gateway = gateway
        self._credentials = credentials
        self._wires = wires
        self._stopping = stopping

    def run(self, request: Request, record: Record) -> Steps[bool]:
        """Forward a request; return whether the tool's connection goes on.

        Raises:
            Refused, GatewayError, ToolGone: nothing was answered yet.
            OSError: the tool's connection has to end now.
        """
        kept = False
        try:
            answer, token = yield from self._ask(request)
            record.status = answer.head.status
            if request.protocol:
                return (yield from self._switch(answer, token, record))
            if answer.head.status == SWITCHING:
                raise GatewayError("it switched protocols unasked")
            relay, stays = self._relay(request, answer, token, record)
            yield from relay.run(self._gateway.limits.idle)
            record.bytes_out, record.refusal = relay.sent, relay.failure
            kept = relay.reusable and self._keep(answer)
            if relay.failure:
                raise ConnectionAbortedError
            return stays
        finally:
            record.bytes_in = request.body.size
            if not kept:
                self._let_go()

    def _ask(self, request: Request) -> Steps[tuple[Answer, bytes]]:
        """Send the request, and once more with a fresh token when the first one is refused."""
        credentials = self._credentials
        token = yield from credentials.current()
        answer = yield from self._send(request, token)
        if answer.head.status not in (401, 403) or not request.body.can_repeat:
            return answer, token.reveal().encode()
        fresh = yield from credentials.fresh(token)
        if fresh is None:
            return answer, token.reveal().encode()
        if not (self._is_whole(answer, request.head.method) and self._keep(answer)):
            self._let_go()
        answer = yield from self._send(request, fresh)
        if answer.head.status in (401, 403):
            credentials.is_useless(fresh)
        return answer, fresh.reveal().encode()

    def _send(self, request: Request, token: Secret) -> Steps[Answer]:
        head, gateway = request.head, self._gateway
        fields = [(b"Host", gateway.authority)]
        fields += headers.to_gateway(head.fields, token.reveal().encode())
        if request.body.framing:
            fields.append(request.body.framing)
        if request.protocol:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", request.protocol)]
        line = b"%b %b HTTP/1.1" % (head.method, target.at_gateway(gateway.base, request.place))
        return attempt.send(gateway, self._wires, head.method, headers.write(line, fields), request.body)

    def _is_whole(self, answer: Answer, method: bytes) -> bool:
        """Return whether an answer that nobody gets came completely with its head."""
        try:
            decoder = framing.of_answer(answer.head, method)
            decoder.feed(answer.rest)
        except Refused:
            return False
        return decoder.done and not decoder.rest

    def _keep(self, answer: Answer) -> bool:
        """Give the gateway's connection back when it can carry another exchange."""
        if answer.early or not headers.keeps_open(answer.head.minor, answer.head.fields):
            return False
        del self._wires[1:]
        self._gateway.give_back(answer.link)
        return True

    def _let_go(self) -> None:
        for link in self._wires[1:]:
            link.close()
        del self._wires[1:]

    def _switch(self, answer: Answer, token: bytes, record: Record) -> Steps[bool]:
        """Relay another protocol both ways, or say 426 (tools fall back to HTTP on that at once)."""
        if answer.head.status != SWITCHING:
            raise Refused(426, "the gateway does not switch protocols here")
        record.first_byte = time.monotonic()
        idle_s = self._gateway.limits.idle
        yield from upgrade.relay(self._wires[0], answer, token, idle_s, record, self._stopping)
        return False

    def _relay(self, request: Request, answer: Answer, token: bytes, record: Record) -> tuple[Relay, bool]:
        """Send the answer's head; return what passes its body on, and whether the tool's connection stays."""
        head = request.head
        try:
            decoder = framing.of_answer(answer.head, head.method)
        except Refused as refused:
            raise GatewayError(refused.reason) from None
        counted = isinstance(decoder, framing.Counted)
        chunked = not counted and head.minor == 1
        stays = head.minor == 1 and not answer.early and not self._stopping()
        stays = stays and headers.keeps_open(head.minor, head.fields)
        self.broken = not counted and not chunked  # and stays so only if the relay fails
        relay = Relay(self._wires[0], answer.link, decoder, chunked=chunked, token=token)
        record.first_byte = time.monotonic()
        relay.start(_answer_head(answer, token, counted, chunked, stays), answer.rest)
        return relay, stays


def _answer_head(answer: Answer, token: bytes, counted: bool, chunked: bool, stays: bool) -> bytes:
    status, reason, _, fields = answer.head
    passing = headers.to_tool(fields, token)
    if counted and status != 204:
        passing += [(b"Content-Length", value) for value in fields.values(b"content-length")]
    if chunked:
        passing.append((b"Transfer-Encoding", b"chunked"))
    if not stays:
        passing.append((b"Connection", b"close"))
    return headers.write(b"HTTP/1.1 %d %b" % (status, reason.replace(token, b"")), passing)
