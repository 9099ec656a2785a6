"""One response on its way from the gateway to the client, a read at a time, without waiting.

Rule 1: each read is passed on at once. What the client does not take stays here, and nothing more
        is read from the gateway meanwhile: a slow client slows the gateway, no queue grows.
Rule 2: a response that breaks off ends as a broken connection, never as a complete response.
Rule 3: extra bytes after a response belong to nothing: the connection is not used again.
Rule 4: what is left of the request's body goes on to the gateway at the same time.
"""

from __future__ import annotations

import time

from thv_llm.proxy import headers
from thv_llm.proxy.event_loop import Steps
from thv_llm.proxy.exchange import Exchange
from thv_llm.proxy.framing import LAST_CHUNK, CloseDelimitedBody, Decoder, chunk
from thv_llm.proxy.http1 import Rejected
from thv_llm.proxy.transport import READ, WRITE, ClientDisconnected, ClientTransport, DeadlineExceeded
from thv_llm.proxy.upstream import after, within

CLIENT_DISCONNECTED = "disconnected"


class Relay:
    """A response being passed on.

    Attributes:
        over: nothing of it is left to pass on.
        failure: why it ended before its end; empty when it did not.
        sent: bytes of the response's body that went out.
        pending: what the client has not taken yet.
        active_at: when something moved last (monotonic).
    """

    def __init__(
        self, client: ClientTransport, exchange: Exchange, decoder: Decoder, *, chunked: bool
    ) -> None:
        self.client = client
        self.upstream = exchange.upstream
        self.over = False
        self.failure = ""
        self.sent = 0
        self.pending: memoryview | bytes = b""
        self.active_at = time.monotonic()
        self._exchange = exchange
        self._decoder = decoder
        self._chunked = chunked

    @property
    def reusable(self) -> bool:
        """Whether the gateway's connection can carry another exchange."""
        decoder = self._decoder
        clean = decoder.done and not decoder.rest and not isinstance(decoder, CloseDelimitedBody)
        return self.over and not self.failure and clean and self._exchange.sent

    def start(self, head: bytes, rest: bytes) -> None:
        """Send the head, and in the same piece what came with it of the body."""
        try:
            self._send(head + self._encode(rest))
        except Rejected:
            self._send(head)
            self._fail(self._cut())

    def run(self, idle_s: float) -> Steps[None]:
        """Go on until it is over; give it up when nothing moves for `idle_s`."""
        client, upstream, exchange = self.client, self.upstream, self._exchange
        while not self.failure and (not self.over or exchange.sending):
            upstream.wants = 0 if self.pending or self.over else READ
            client.wants = (WRITE if self.pending else 0) | (READ if client.has_room and exchange.sent else 0)
            if exchange.sending:
                exchange.want()
            try:
                deadline = max(self.active_at, exchange.active_at) + idle_s
                if client.wants & READ:
                    yield deadline
                else:
                    yield from client.wait(deadline)
                if exchange.sending:
                    exchange.write()
                if client.ready:
                    self._on_client(client.ready)
            except DeadlineExceeded:
                self._fail(f"nothing moved {within(idle_s)}")
            except (ClientDisconnected, OSError):
                self._fail(CLIENT_DISCONNECTED)
            except Rejected as rejected:  # the request's body; its response has begun already
                self._fail(rejected.reason)
            if upstream.ready & READ and not self.pending and not self.over:
                self._on_upstream()

    def _cut(self) -> str:
        now = time.monotonic()
        return f"it broke off {after(now - self.active_at, now - self._exchange.began)}"

    def _on_upstream(self) -> None:
        """Pass on what the gateway has sent."""
        try:
            data = self.upstream.read()
            if data:
                out = self._encode(data)
            elif data is None:
                return
            else:
                self._decoder.end()
                out = LAST_CHUNK if self._chunked else b""
        except (OSError, Rejected):
            self._fail(self._cut())
            return
        self._send(out)

    def _on_client(self, ready: int) -> None:
        """Send what is pending, and notice when the client disconnects."""
        if ready & WRITE and self.pending:
            self._flush()
        if ready & READ and self._exchange.sent and not self.over:
            self.client.read_ahead()

    def _encode(self, data: bytes) -> bytes:
        decoder = self._decoder
        payload = decoder.feed(data) if data else b""
        self.sent += len(payload)
        if not self._chunked:
            return payload
        out = chunk(payload)
        if decoder.done:
            trailers = headers.trailers_to_client(decoder.trailers, self._exchange.token)
            out += headers.write_trailers(trailers) if trailers else LAST_CHUNK
        return out

    def _send(self, data: bytes) -> None:
        self.active_at = time.monotonic()
        try:
            sent = self.client.write(data) if data else 0
        except OSError:
            self._fail(CLIENT_DISCONNECTED)
            return
        if sent < len(data):
            self.pending = memoryview(data)[sent:]
        else:
            self.over = self.over or self._decoder.done

    def _flush(self) -> None:
        sent = self.client.write(self.pending)
        if sent:
            self.active_at = time.monotonic()
        self.pending = self.pending[sent:]
        if not self.pending:
            self.over = self._decoder.done

    def _fail(self, why: str) -> None:
        self.over = True
        self.failure = self.failure or why
