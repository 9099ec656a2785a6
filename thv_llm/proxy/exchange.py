"""One exchange with the gateway, as far as the head of its response: the request out, its body with it.

Rule 1: writing, reading and watching the client go on at the same time, also while the response is
        passed on already: a gateway can respond while it reads. A client that disconnects ends its
        request at once, because unread tokens cost money, too.
Rule 2: an error response that comes before the body is through ends the upload.
Rule 3: a request is sent a second time only in two cases. The pooled connection turned out dead
        and nothing of a response came, and the request was not sent to its end or is safe to
        repeat (RFC 9110 section 9.2.2). Or the gateway refused the token, see `forward`.
Rule 4: a body is decoded as it comes, encoded for the gateway, and kept for a repeat until the head
        of the response is there.
Rule 5: a network that lost the request is noticed by its silence, long before the limit for a response.
Rule 6: informational responses pass, but no flood of them.
"""

from __future__ import annotations

import mmap
import time
from typing import NamedTuple

from thv_llm.proxy import headers
from thv_llm.proxy.access import Passed
from thv_llm.proxy.event_loop import Steps
from thv_llm.proxy.framing import LAST_CHUNK, ChunkedBody, ContentLengthBody, RequestDecoder, chunk
from thv_llm.proxy.http1 import (
    NO_FIELDS,
    HeadReader,
    Rejected,
    RequestHead,
    ResponseHead,
    parse_response,
)
from thv_llm.proxy.transport import (
    READ,
    WRITE,
    ClientDisconnected,
    ClientTransport,
    DeadlineExceeded,
    Transport,
    UpstreamConnection,
)
from thv_llm.proxy.upstream import Gateway, GatewayError, within
from thv_llm.system import peers

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
SWITCHING = 101
PARTS_IN_A_ROW = 4
"""Of a large upload, before an early response is looked for and other tasks have their turn."""
MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of one body, for a repeat with a fresh token. A million tokens of text are about 4 MB."""
HEAP_BYTES, SEGMENT_BYTES = 128 * 1024, 256 * 1024
"""Of one body: what is kept in the heap, and the pieces in which the rest is kept outside of it."""
UNHEARD_S, LOOK_S = 90.0, 15.0
"""After which a gateway that acknowledges nothing cannot be reached any more, and between two looks at
that. `KEEP_ALIVE` notices it in a stream only: it does not count while something is on its way."""
NO_RESPONSE = ResponseHead(0, b"", 1, NO_FIELDS)
INFORMATIONAL_PER_S = 10
"""What is beyond that is dropped: such a response is a hint, or a sign of life."""


class Request(NamedTuple):
    """A request that can pass.

    Attributes:
        protocol: to switch to; empty for none.
    """

    passed: Passed
    body: RequestBody
    protocol: bytes

    @property
    def head(self) -> RequestHead:
        """Its head, in which the length can be that of another body."""
        return self.passed.head


def send(
    gateway: Gateway, transports: list[Transport], request: Request, head: bytes, token: bytes
) -> Steps[Exchange]:
    """Send a request and read the head of its response.

    Args:
        transports: the task's: the client's is in it, the gateway's is put behind it.
        head: for the gateway, with its empty line.
        token: the one in it.

    Raises:
        ClientDisconnected: the client went away.
        Rejected: the body is malformed or too large.
        GatewayError: no usable response.
    """
    upstream = gateway.pooled() or (yield from gateway.connection())
    while True:
        transports[1:] = [upstream]
        exchange = Exchange(gateway, transports[0], upstream, request, head, token)
        try:
            yield from exchange.run()
            return exchange
        except DeadlineExceeded:
            if exchange.waits_for_client:
                raise Rejected(408, "the request's body took too long") from None
            limits = gateway.limits
            limit_s = limits.head if exchange.sent else limits.idle
            what = "nothing came" if exchange.sent else "the request was not taken"
            raise GatewayError(f"{what} {within(limit_s)}", late=True) from None
        except OSError:
            repeatable = (not exchange.sent or request.head.method in SAFE) and request.body.can_repeat
            if not upstream.reused or exchange.heard or not repeatable:
                raise GatewayError("it closed the connection without a response") from None
        upstream.close()
        upstream = yield from gateway.new_connection()


class Exchange:
    """One try on one connection.

    Attributes:
        response: the head of the final response, once it is there; its status is 0 until then.
        token: which never goes to the client.
        sent: the whole request went out.
        heard: something of a response came.
        began: when the request began to go out (monotonic).
        active_at: when something went to the gateway last, or of a response came from it.
    """

    def __init__(
        self,
        gateway: Gateway,
        client: Transport,
        upstream: UpstreamConnection,
        request: Request,
        head: bytes,
        token: bytes,
    ) -> None:
        assert isinstance(client, ClientTransport)
        self.upstream = upstream
        self.response = NO_RESPONSE
        self.sent = False
        self.heard = False
        self.began = self.active_at = time.monotonic()
        self.unsent = b""
        """Of an informational response that the client did not take as a whole."""
        self._limits = gateway.limits
        self._client = client
        self.token = token
        self._request = request
        self._body = request.body
        self._pending: memoryview | bytes = head + request.body.from_start()
        self._reader = HeadReader(of_response=True)
        self._broken: OSError | None = None
        self._informational: list[float] = []

    @property
    def rest(self) -> bytes:
        """Bytes that came behind the response's head."""
        return self._reader.rest

    @property
    def sending(self) -> bool:
        """Whether there is more to send, and a gateway that takes it."""
        return not self.sent and not self._broken

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: all of its body that came is at the gateway."""
        return not self._pending and not self._body.done

    def run(self) -> Steps[None]:
        """Write and read until the head of the final response is there."""
        client, upstream = self._client, self.upstream
        look_at = self.began + UNHEARD_S
        while True:
            if not self.sent:
                self.write()
            if self.response.status:
                return
            upstream.wants = READ
            client.wants = READ if self._body.done and client.has_room else 0
            if not self.sent:
                self.want()
            deadline = self.active_at + (self._limits.head if self.sent else self._limits.idle)
            try:
                if client.wants & READ:
                    yield min(deadline, look_at)
                else:
                    yield from client.wait(min(deadline, look_at))
            except DeadlineExceeded:
                if time.monotonic() >= deadline:
                    raise
                look_at = time.monotonic() + LOOK_S
                if peers.unacknowledged_s(upstream.sock) >= UNHEARD_S:
                    raise GatewayError(
                        f"what was sent has not arrived for {UNHEARD_S:g} s", late=True
                    ) from None
                continue
            # The response first: a client that has got one can close.
            if upstream.ready & READ:
                self._read()
            if client.ready and not self.response.status and self._body.done:
                client.read_ahead()

    def want(self) -> None:
        """Add what sending waits for: room at the gateway, or more of the body."""
        if not self.sending:
            return
        if self._pending:
            self.upstream.wants |= WRITE
        elif not self._body.done:
            self._client.wants |= READ

    def write(self) -> None:
        """Send what is pending and the next parts of the body; then others have a turn.

        Raises:
            ClientDisconnected: in the middle of the body.
            Rejected: the body is malformed or too large.
        """
        for _ in range(PARTS_IN_A_ROW):
            if self.sent or self._broken or not self._write_part():
                return

    def stop_sending(self) -> None:
        """Leave the rest of the request: the response says that it is not wanted."""
        if not self.sent:
            self._broken = self._broken or ConnectionAbortedError()
            self._pending = b""

    def _write_part(self) -> bool:
        """Send what is pending, or else the next part of the body; whether there can be more to do."""
        if not self._pending and not self._body.done:
            self._pending = self._next_part()
        if self._pending:
            try:
                written = self.upstream.write(self._pending)
            except OSError as error:
                # A response can be waiting all the same: a server that refuses a body closes early.
                self._broken = error
                return False
            if not written:
                return False
            # An empty view would keep the whole body in memory.
            left = len(self._pending) - written
            self._pending = memoryview(self._pending)[written:] if left else b""
            self.active_at = time.monotonic()
        elif not self._body.done:
            return False
        if not self._pending and self._body.done:
            self.sent = True
        return True

    def _next_part(self) -> bytes:
        try:
            return self._body.read() or b""
        except OSError:
            raise ClientDisconnected from None

    def _read(self) -> None:
        try:
            data = self.upstream.read()
        except OSError as error:
            raise self._broken or error from None
        if data is None:
            if self._broken:
                raise self._broken
            return
        if not data:
            raise ConnectionAbortedError
        self.heard = True
        while data and self._reader.feed(data):
            head = parse_response(self._reader.head)
            if head.status >= 200 or head.status == SWITCHING:
                self.response = head
                if head.status >= 300:
                    self.stop_sending()
                return
            self._pass_informational(head)
            data = self._reader.rest
            self._reader = HeadReader(of_response=True)

    def _pass_informational(self, head: ResponseHead) -> None:
        now = time.monotonic()
        self._informational = [then for then in self._informational if now - then < 1]
        if self.unsent or self._request.head.minor == 0 or len(self._informational) >= INFORMATIONAL_PER_S:
            return
        self._informational.append(now)
        self.active_at = now
        fields = headers.to_client(head.fields, self.token)
        data = headers.response(head.status, head.reason.replace(self.token, b""), fields)
        try:
            self.unsent = data[self._client.write(data) :]
        except OSError:
            raise ClientDisconnected from None


class RequestBody:
    """One body on its way.

    Args:
        announced: pass a length on even when it is 0.

    Attributes:
        size: bytes of it so far, decoded.
        done: all of it has arrived.
        can_repeat: all that was passed on is still here.
    """

    def __init__(
        self,
        client: Transport,
        decoder: RequestDecoder,
        max_bytes: int,
        *,
        announced: bool = False,
    ) -> None:
        self.size = 0
        self._client = client
        self._decoder = decoder
        self._chunked = isinstance(decoder, ChunkedBody)
        self._max_bytes = max_bytes
        self._announced = announced
        too_large = isinstance(decoder, ContentLengthBody) and decoder.left > MAX_KEPT_BYTES
        self.can_repeat = not too_large
        self._kept: _Kept | None = None
        self._came_with_head = b""
        self.done = decoder.done
        if client.ahead and not self.done:
            data, client.ahead = client.ahead, b""
            self._came_with_head = self._take(data)

    @property
    def framing(self) -> tuple[bytes, bytes] | None:
        """The header that tells the gateway where the body ends; None when the client sent none, either."""
        if self._chunked:
            return (b"Transfer-Encoding", b"chunked")
        length = self._decoder.left + self.size if isinstance(self._decoder, ContentLengthBody) else 0
        # An empty body that was announced passes as one: strict gateways want a length for a POST.
        return (b"Content-Length", b"%d" % length) if length or self._announced else None

    def from_start(self) -> bytes:
        """Return what has arrived so far, encoded for the gateway; of what is not kept, what came first."""
        return self._came_with_head if self._kept is None else self._kept.joined()

    def release(self) -> None:
        """Keep nothing for a repeat any more."""
        if self._kept is not None:
            self._kept.release()
        self._kept = None
        self.can_repeat = False
        self._came_with_head = b""

    def read(self) -> bytes | None:
        """Return the next part, encoded for the gateway; None when nothing is there now.

        Raises:
            ConnectionError: the client went away in the middle of it.
            Rejected: it is malformed or too large.
        """
        data = self._client.read()
        if data is None:
            return None
        if not data:
            raise ConnectionAbortedError
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        decoder = self._decoder
        payload = decoder.feed(data)
        self.done = decoder.done
        self.size += len(payload)
        if self.size > self._max_bytes:
            raise Rejected(413, "body too large")
        if self._chunked:
            payload = chunk(payload)
            if decoder.done:
                payload += LAST_CHUNK
        if decoder.done:
            self._client.ahead = decoder.rest
        if self.can_repeat:
            self._kept = self._kept or _Kept()
            self._kept.append(payload)
            if self.size > MAX_KEPT_BYTES:
                self._kept.release()
                self._kept, self.can_repeat = None, False
        return payload


class _Kept:
    """What was passed on of a body, a large one outside of the heap.

    What many large prompts leave in the heap stays with the process, 130 MB after 40 of 4 MB at once;
    memory that was mapped goes back to the system as soon as it is released.
    """

    def __init__(self) -> None:
        self._begin: list[bytes] = []
        self._size = 0
        self._segments: list[mmap.mmap] = []

    def append(self, data: bytes) -> None:
        if self._size < HEAP_BYTES:
            self._begin.append(data)
            self._size += len(data)
            return
        left = memoryview(data)
        while left:
            if not self._segments or self._segments[-1].tell() == SEGMENT_BYTES:
                self._segments.append(mmap.mmap(-1, SEGMENT_BYTES))
            segment = self._segments[-1]
            left = left[segment.write(left[: SEGMENT_BYTES - segment.tell()]) :]

    def joined(self) -> bytes:
        if not self._segments:
            return b"".join(self._begin)
        return b"".join([*self._begin, *(segment[: segment.tell()] for segment in self._segments)])

    def release(self) -> None:
        for segment in self._segments:
            segment.close()
        self._begin, self._segments = [], []
