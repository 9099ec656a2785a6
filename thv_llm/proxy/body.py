"""The body of a tool's request: decoded as it comes, encoded for the gateway, kept for a repeat."""

from __future__ import annotations

from thv_llm.proxy import headers
from thv_llm.proxy.framing import LAST_CHUNK, Chunked, Counted, chunk
from thv_llm.proxy.http1 import Refused
from thv_llm.proxy.wire import Wire

MAX_KEPT_BYTES = 8 * 1024 * 1024
"""Of one body, for a repeat with a fresh token. A million tokens of text are about 4 MB."""


class RequestBody:
    """One body on its way.

    Attributes:
        size: bytes of it so far, decoded.
    """

    def __init__(self, tool: Wire, decoder: Counted | Chunked, max_bytes: int) -> None:
        self.size = 0
        self._tool = tool
        self._decoder = decoder
        self._chunked = isinstance(decoder, Chunked)
        self._max_bytes = max_bytes
        too_large = isinstance(decoder, Counted) and decoder.left > MAX_KEPT_BYTES
        self._kept: list[bytes] | None = None if too_large else []
        self._came_with_head = b""
        if tool.ahead and not decoder.done:
            data, tool.ahead = tool.ahead, b""
            self._came_with_head = self._take(data)

    @property
    def done(self) -> bool:
        """Whether all of it has arrived."""
        return self._decoder.done

    @property
    def framing(self) -> tuple[bytes, bytes] | None:
        """The header that tells the gateway where the body ends; None when there is no body."""
        if self._chunked:
            return (b"Transfer-Encoding", b"chunked")
        length = self._decoder.left + self.size if isinstance(self._decoder, Counted) else 0
        return (b"Content-Length", b"%d" % length) if length else None

    @property
    def can_repeat(self) -> bool:
        """Whether all that was passed on is still here."""
        return self._kept is not None

    def from_start(self) -> bytes:
        """Return what has arrived so far, encoded for the gateway; of what is not kept, what came first."""
        return self._came_with_head if self._kept is None else b"".join(self._kept)

    def read(self) -> bytes | None:
        """Return the next part, encoded for the gateway; None when nothing is there now.

        Raises:
            ConnectionError: the tool went away in the middle of it.
            Refused: it is malformed or too large.
        """
        data = self._tool.read()
        if data is None:
            return None
        if not data:
            raise ConnectionAbortedError
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        decoder = self._decoder
        payload = decoder.feed(data)
        self.size += len(payload)
        if self.size > self._max_bytes:
            raise Refused(413, "body too large")
        if self._chunked:
            payload = chunk(payload)
            if decoder.done:
                trailers = headers.trailers_to_gateway(decoder.trailers)
                payload += headers.write_trailers(trailers) if trailers else LAST_CHUNK
        if decoder.done:
            self._tool.ahead = decoder.rest
        if self._kept is not None:
            self._kept.append(payload)
            if self.size > MAX_KEPT_BYTES:
                self._kept = None
        return payload
