"""What comes back from the gateway, a read at a time, without waiting: a response, or another protocol.

Rule 1: each read is passed on at once. What the client does not take stays here, and nothing more
        is read from the gateway meanwhile: a slow client slows the gateway, no queue grows.
Rule 2: a response that breaks off ends as a broken connection, never as a complete response.
Rule 3: extra bytes after a response belong to nothing: the connection is not used again.
Rule 4: what is left of the request's body goes on to the gateway at the same time.
Rule 5: of other protocols over the same connection only WebSocket is asked for, and relayed both ways
        without looking at it. Java's HTTP client offers `h2c` with every request; a server that does
        not want it takes no notice (RFC 9110 section 7.8), and neither do we.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from thv_llm.proxy import headers
from thv_llm.proxy.event_loop import Steps
from thv_llm.proxy.exchange import Exchange
from thv_llm.proxy.framing import LAST_CHUNK, ChunkedBody, CloseDelimitedBody, Decoder, chunk
from thv_llm.proxy.http1 import Rejected, RequestHead
from thv_llm.proxy.stats import LogEntry
from thv_llm.proxy.transport import (
    READ,
    WRITE,
    ClientDisconnected,
    ClientTransport,
    DeadlineExceeded,
    Transport,
)
from thv_llm.proxy.upstream import GatewayError, after, within

CLIENT_DISCONNECTED = "disconnected"
WEBSOCKET = b"websocket"
TICK_S = 1.0
"""Between two looks at whether the proxy is being stopped."""
QUIET_S = 5.0
"""After which nothing is in the middle of being said, so that a proxy that is being stopped can hang up."""
MAX_PENDING_BYTES = 256 * 1024
"""Read from one side and not yet taken by the other."""


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
        self._only_chunk = decoder.only_chunk if chunked and isinstance(decoder, ChunkedBody) else None

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
        try:
            while not self.failure and (not self.over or exchange.sending):
                upstream.wants = 0 if self.pending or self.over else READ
                client.wants = READ if client.has_room and exchange.sent else 0
                if self.pending:
                    client.wants |= WRITE
                if exchange.sending:
                    exchange.want()
                upstream.pump = None if exchange.sending else self._pump
                yield from self._step(idle_s)
        finally:
            upstream.pump = None

    def _step(self, idle_s: float) -> Steps[None]:
        client, exchange = self.client, self._exchange
        try:
            deadline = max(self.active_at, exchange.active_at) + idle_s
            if client.wants & READ:
                yield deadline
            else:
                yield from client.wait(deadline)
            if exchange.sending:
                exchange.write()
            if client.ready & WRITE and self.pending:
                self._flush()
            if client.ready & READ and exchange.sent and not self.over:
                client.read_ahead()
        except DeadlineExceeded:
            if time.monotonic() >= max(self.active_at, exchange.active_at) + idle_s:
                self._fail(f"nothing moved {within(idle_s)}")
        except (ClientDisconnected, OSError):
            self._fail(CLIENT_DISCONNECTED)
        except Rejected as rejected:  # the request's body; its response has begun already
            self._fail(rejected.reason)
        if self.upstream.ready & READ and not self.pending and not self.over:
            self._on_upstream()

    def _pump(self) -> bool:
        """Pass an event on while the task waits on, which is most of its cost."""
        self._on_upstream()
        return not self.pending and not self.over

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

    def _encode(self, data: bytes) -> bytes:
        if self._only_chunk and (size := self._only_chunk(data)):
            self.sent += size
            return data
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


def wanted_protocol(head: RequestHead) -> bytes:
    """Return the protocol that a request asks to switch to; empty for none that we pass on."""
    if head.method != b"GET" or head.minor != 1 or b"upgrade" not in head.fields.listed(b"connection"):
        return b""
    offered = head.fields.listed(b"upgrade")
    return WEBSOCKET if offered == {WEBSOCKET} else b""


def both_ways(
    client: ClientTransport,
    exchange: Exchange,
    idle_s: float,
    entry: LogEntry,
    stopping: Callable[[], bool],
) -> Steps[None]:
    """Pass the 101 on, then bytes both ways until one side ends, or nothing moves for `idle_s`.

    Args:
        stopping: tells that nothing new is wanted: then nothing need move for `QUIET_S` only.

    Raises:
        GatewayError: the gateway switched to something else than was asked for.
        OSError: one side broke.
    """
    upstream = exchange.upstream
    if exchange.response.fields.listed(b"upgrade") != {WEBSOCKET}:
        raise GatewayError("it switched to another protocol than asked")
    passing = headers.to_client(exchange.response.fields, exchange.token)
    passing += [(b"Connection", b"Upgrade"), (b"Upgrade", WEBSOCKET)]
    head = headers.response(101, b"Switching Protocols", passing)
    down, up = _Way(upstream, client, head + exchange.rest), _Way(client, upstream, client.ahead)
    client.ahead = b""
    moved = time.monotonic()
    while not (down.over or up.over):
        client.wants = (READ if up.has_room else 0) | (WRITE if down.pending else 0)
        upstream.wants = (READ if down.has_room else 0) | (WRITE if up.pending else 0)
        try:
            yield time.monotonic() + TICK_S
        except DeadlineExceeded:
            if not client.wants & READ and client.is_gone():
                return
            if time.monotonic() - moved >= (QUIET_S if stopping() else idle_s):
                return
            continue
        moved = time.monotonic()
        down.move()
        up.move()
        entry.bytes_in, entry.bytes_out = up.sent, down.sent


class _Way:
    """One direction."""

    def __init__(self, source: Transport, sink: Transport, pending: bytes) -> None:
        self.source = source
        self.sink = sink
        self.pending = pending
        self.sent = 0
        self._ended = False

    @property
    def over(self) -> bool:
        """The source has ended, and the sink has all that came before."""
        return self._ended and not self.pending

    @property
    def has_room(self) -> bool:
        return not self._ended and len(self.pending) < MAX_PENDING_BYTES

    def move(self) -> None:
        """Read what there is room for, send what is taken."""
        if self.has_room:
            try:
                data = self.source.read()
            except OSError:  # how it ended makes no difference to another protocol
                data = b""
            self._ended = data == b""
            self.pending += data or b""
        if self.pending:
            sent = self.sink.write(self.pending)
            self.sent += sent
            self.pending = self.pending[sent:]
