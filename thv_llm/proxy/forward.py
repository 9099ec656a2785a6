"""A request that can pass, to the gateway and its response back: with a token, and with a fresh one.

Rule 1: a token that the gateway refuses is always reported to the token source, whether or not the
        request can be repeated.
Rule 2: after a 401 or 403 there is one fresh token and one repeat; what comes then is passed on.
Rule 3: a 403 that repeats with a fresh token is about the user, not the token: for a while no 403
        costs a refresh. It does not touch what a 401 does.
Rule 4: no token at all is a 401 of ours that says what to run.
Rule 5: a redirect is never followed, and passed on as it is; but not one that leads a tool to a page where
        a user would log in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from thv_llm.net import failures
from thv_llm.proxy import error_responses, exchange, framing, headers, http1
from thv_llm.proxy.access import Keys, Passed
from thv_llm.proxy.event_loop import Job, Steps
from thv_llm.proxy.exchange import SWITCHING, Exchange, Request
from thv_llm.proxy.http1 import Field, Rejected, ResponseHead
from thv_llm.proxy.relay import CLIENT_DISCONNECTED, Relay, both_ways
from thv_llm.proxy.stats import LogEntry, Outcome
from thv_llm.proxy.transport import ClientTransport, Transport
from thv_llm.proxy.upstream import Gateway, GatewayError, after
from thv_llm.secret import Secret

FORBIDDEN_S = 60.0
"""For that long after a fresh token got a 403, too, no other 403 costs a refresh."""
SHOWN_TO_UPGRADE = frozenset({401, 403, 429})
"""Responses to an upgrade that the client must see, beside those of 500 and more."""
TIMED_OUT = frozenset({408, 502, 503, 504, 524})
"""Statuses with which load balancers say that a server took too long."""


class Refusal(NamedTuple):
    """A token that the gateway refused.

    Attributes:
        status: 401 or 403.
        since: when the request began (monotonic): a token that arrived later is another try worth.
    """

    token: Secret
    status: int
    since: float


GetToken = Callable[[Refusal | None], Secret]
"""Returns a token, after a refusal another one if there is one. Can block. Raises ThvLlmError."""


@dataclass
class Credentials:
    """Where tokens come from.

    Attributes:
        at_hand: returns a token if that takes no time, else None.
        background: runs something that blocks, and drops its result.
        keys: what the clients show to us, and the gateway never gets.
        headers: what the gateway gets with each request besides.
    """

    get_token: GetToken
    at_hand: Callable[[], Secret | None]
    background: Callable[[Callable[[], object]], None]
    keys: Keys
    headers: Callable[[], Sequence[Field]] = tuple
    _forbidden_until: float = 0.0

    def current(self) -> Steps[Secret]:
        """Return a token.

        Raises:
            Rejected: 401, there is none.
        """
        try:
            token: Secret = yield Job(lambda: self.get_token(None))
        except Exception as failure:
            raise error_responses.token_failure(failure) from None
        return token

    def fresh(self, refusal: Refusal) -> Steps[Secret | None]:
        """Return another token than the refused one; None when there is no use in asking.

        Raises:
            Rejected: 401, there is none any more.
        """
        if refusal.status == 403 and time.monotonic() < self._forbidden_until:
            return None
        try:
            token: Secret = yield Job(lambda: self.get_token(refusal))
        except Exception as failure:
            if refusal.status == 403:
                self.is_forbidden()
                return None
            raise error_responses.token_failure(failure) from None
        return None if token == refusal.token else token

    def report(self, refusal: Refusal) -> None:
        """Have the token source know of a refusal, without waiting for what it does about it."""
        if refusal.status == 403:
            if time.monotonic() < self._forbidden_until:
                return
            self.is_forbidden()

        def tell() -> None:
            with contextlib.suppress(Exception):  # the next caller that needs a token is told
                self.get_token(refusal)

        self.background(tell)

    def is_forbidden(self) -> None:
        """Remember that a 403 is no matter of the token."""
        self._forbidden_until = time.monotonic() + FORBIDDEN_S


class Forwarder:
    """Sends requests of one connection to the gateway, and the responses back.

    Attributes:
        broken: a response broke off where only a reset can tell the client.
    """

    def __init__(
        self,
        gateway: Gateway,
        credentials: Credentials,
        transports: list[Transport],
        stopping: Callable[[], bool],
    ) -> None:
        (client,) = transports
        assert isinstance(client, ClientTransport)
        self.broken = False
        self._client = client
        self._gateway = gateway
        self._credentials = credentials
        self._transports = transports
        self._stopping = stopping

    def run(self, request: Request, entry: LogEntry) -> Steps[bool]:
        """Forward a request; return whether the client's connection goes on.

        Raises:
            Rejected, GatewayError, ClientDisconnected: nothing was responded yet.
            OSError: the client's connection must end now.
        """
        kept = False
        try:
            done = yield from self._exchange(request)
            status = done.response.status
            request.body.release()
            if status >= 400:
                now = time.monotonic()
                hint = after(now - done.active_at, now - done.began) if status in TIMED_OUT else ""
                entry.failed(Outcome.GATEWAY, hint)
            if request.protocol and not _is_shown(status):
                return (yield from self._switch(done, entry))
            if status == SWITCHING:
                raise GatewayError("it switched protocols unasked")
            if 300 <= status < 400:
                self._refuse_login_page(request, done.response)
            relay, stays = self._relay(request, done, entry)
            if not (relay.over and done.sent):
                yield from relay.run(self._gateway.limits.idle)
            entry.bytes_out = relay.sent
            kept = relay.reusable and self._keep(done)
            if relay.failure:
                outcome = Outcome.CLIENT if relay.failure == CLIENT_DISCONNECTED else Outcome.GATEWAY
                entry.failed(outcome, relay.failure)
                raise ConnectionAbortedError
            return stays and done.sent
        finally:
            entry.bytes_in = request.body.size
            if not kept:
                self._let_go()

    def _refuse_login_page(self, request: Request, response: ResponseHead) -> None:
        """Raise for a redirect to a login page: by its words, or of a request that only an API takes."""
        for location in response.fields.values(b"location"):
            host, is_login = failures.redirect(self._gateway.host, location.decode("latin-1"))
            is_lost = host != self._gateway.host and request.head.method not in exchange.SAFE
            if is_login or (is_lost and response.status <= 303):  # which turn it into a GET
                raise GatewayError(failures.IN_FRONT, next_step=failures.ASK_IN_FRONT)

    def _exchange(self, request: Request) -> Steps[Exchange]:
        """Send the request, and once more with a fresh token when the first one is refused."""
        credentials = self._credentials
        token = credentials.at_hand() or (yield from credentials.current())
        done = yield from self._send(request, token)
        status = done.response.status
        if status in (401, 403):
            refusal = Refusal(token, status, done.began)
            if not request.body.can_repeat:
                credentials.report(refusal)
            elif fresh := (yield from credentials.fresh(refusal)):
                if not (_is_whole(done, request.head.method) and self._keep(done)):
                    self._let_go()
                done = yield from self._send(request, fresh)
                if done.response.status == 403:
                    credentials.is_forbidden()
                elif done.response.status == 401:
                    credentials.report(Refusal(fresh, 401, done.began))
        return done

    def _send(self, request: Request, token: Secret) -> Steps[Exchange]:
        passed, added = request.passed, self._credentials.headers()
        secret = token.reveal().encode()
        head = passed.written
        if not head or passed.token is not token or passed.added != added:
            head = self._rewritten(passed, secret, added)
            if head.find(headers.KEY_MARK) < 0 and passed.head.target.find(b"%") < 0:
                passed.written, passed.token, passed.added = head, token, added
        if framing := request.body.framing:
            head += b"%b: %b\r\n" % framing
        if request.protocol:
            head += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.protocol
        return exchange.send(self._gateway, self._transports, request, head + b"\r\n", secret)

    def _rewritten(self, passed: Passed, secret: bytes, added: Sequence[Field]) -> bytes:
        """Return a request's head for the gateway, up to the framing of its body."""
        head, gateway, are_in = passed.head, self._gateway, self._credentials.keys.are_in
        target = http1.at_gateway(gateway.base, http1.without_keys(passed.target, are_in))
        fields = headers.to_gateway(head.fields, secret, are_in, added)
        line = b"%b %b HTTP/1.1" % (head.method, target)
        return headers.write(line, [(b"Host", gateway.authority), *fields]).removesuffix(b"\r\n")

    def _keep(self, done: Exchange) -> bool:
        """Give the gateway's connection back when it can carry another exchange."""
        head = done.response
        if not done.sent or not headers.keeps_open(head.minor, head.fields):
            return False
        del self._transports[1:]
        upstream = done.upstream
        upstream.keep_s = headers.keep_alive_s(head.fields, upstream.keep_s)
        self._gateway.give_back(upstream)
        return True

    def _let_go(self) -> None:
        for upstream in self._transports[1:]:
            upstream.close()
        del self._transports[1:]

    def _switch(self, done: Exchange, entry: LogEntry) -> Steps[bool]:
        """Relay another protocol both ways, or say 426 (clients fall back to HTTP on that at once)."""
        if done.response.status != SWITCHING:
            raise Rejected(426, "the gateway does not switch protocols here")
        entry.responded(SWITCHING)
        idle_s = self._gateway.limits.idle
        yield from both_ways(self._client, done, idle_s, entry, self._stopping)
        return False

    def _relay(self, request: Request, done: Exchange, entry: LogEntry) -> tuple[Relay, bool]:
        """Send the response's head; return what passes its body on, and whether the client stays."""
        head, response = request.head, done.response
        try:
            decoder = framing.of_response(response, head.method)
        except Rejected as rejected:
            raise GatewayError(rejected.reason) from None
        counted = isinstance(decoder, framing.ContentLengthBody)
        chunked = not counted and head.minor == 1
        stays = head.minor == 1 and (done.sent or done.sending) and not self._stopping()
        stays = stays and headers.keeps_open(head.minor, head.fields)
        self.broken = not counted and not chunked  # and stays so only if the relay fails
        relay = Relay(self._client, done, decoder, chunked=chunked)
        entry.responded(response.status)
        relay.start(done.unsent + _response_head(response, done.token, counted, chunked, stays), done.rest)
        return relay, stays


def _is_shown(status: int) -> bool:
    """Return whether a response to an upgrade is passed on as it is."""
    return status in SHOWN_TO_UPGRADE or status >= 500


def _is_whole(done: Exchange, method: bytes) -> bool:
    """Return whether a response that is dropped came completely with its head."""
    try:
        decoder = framing.of_response(done.response, method)
        decoder.feed(done.rest)
    except Rejected:
        return False
    return decoder.done and not decoder.rest


def _response_head(response: ResponseHead, token: bytes, counted: bool, chunked: bool, stays: bool) -> bytes:
    status, reason, _, fields = response
    passing = headers.to_client(fields, token)
    if counted and status != 204:
        passing += [(b"Content-Length", value) for value in fields.values(b"content-length")]
    if chunked:
        passing.append((b"Transfer-Encoding", b"chunked"))
    if not stays:
        passing.append((b"Connection", b"close"))
    return headers.response(status, reason.replace(token, b""), passing)
