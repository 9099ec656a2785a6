"""Another protocol over the same connection (WebSocket), relayed both ways without looking at it.

Only WebSocket is asked for. Java's HTTP client offers `h2c` with every request; a server that
does not want it takes no notice (RFC 9110 section 7.8), and neither do we.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from thv_llm.proxy import headers
from thv_llm.proxy.event_loop import Steps
from thv_llm.proxy.exchange import Exchange
from thv_llm.proxy.http1 import RequestHead
from thv_llm.proxy.stats import LogEntry
from thv_llm.proxy.transport import READ, WRITE, ClientTransport, DeadlineExceeded, Transport
from thv_llm.proxy.upstream import GatewayError

WEBSOCKET = b"websocket"
TICK_S = 1.0
"""Between two looks at whether the proxy is being stopped."""
QUIET_S = 5.0
"""After which nothing is in the middle of being said, so that a proxy that is being stopped may hang up."""
MAX_PENDING_BYTES = 256 * 1024
"""Read from one side and not yet taken by the other."""


def wanted(head: RequestHead) -> bytes:
    """Return the protocol that a request asks to switch to; empty for none that we pass on."""
    if head.method != b"GET" or head.minor != 1 or b"upgrade" not in head.fields.listed(b"connection"):
        return b""
    offered = head.fields.listed(b"upgrade")
    return WEBSOCKET if offered == {WEBSOCKET} else b""


def relay(
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
