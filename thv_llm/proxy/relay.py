"""One answer on its way from the gateway to the tool, a read at a time, without waiting.

Rule 1: each read is passed on at once. What the tool does not take stays here, and nothing more
        is read from the gateway meanwhile: a slow tool slows the gateway, no queue grows.
Rule 2: an answer that breaks off ends as a broken connection, never as a complete answer.
Rule 3: extra bytes after an answer belong to nothing: the connection is not used again.
"""

from __future__ import annotations

import time

from thv_llm.proxy import headers
from thv_llm.proxy.framing import LAST_CHUNK, Decoder, UntilClose, chunk
from thv_llm.proxy.http1 import Refused
from thv_llm.proxy.link import Link
from thv_llm.proxy.loop import Steps
from thv_llm.proxy.wire import READ, WRITE, Late, Wire

MAX_AHEAD_BYTES = 64 * 1024
"""Of pipelined requests, read only in order to notice that the tool went away behind them."""

TOOL_GONE = "the tool went away"
CUT = "the gateway broke off"
IDLE = "nothing moved within the time limit"


class Relay:
    """An answer being passed on.

    Attributes:
        over: nothing is left to do.
        failure: why it ended before its end; empty when it did not.
        sent: bytes of the answer's body that went out.
        pending: what the tool has not taken yet.
        active_at: when something moved last (monotonic).
    """

    def __init__(self, tool: Wire, link: Link, decoder: Decoder, *, chunked: bool, token: bytes) -> None:
        self.tool = tool
        self.link = link
        self.over = False
        self.failure = ""
        self.sent = 0
        self.pending: memoryview | bytes = b""
        self.active_at = time.monotonic()
        self._decoder = decoder
        self._chunked = chunked
        self._token = token

    @property
    def reusable(self) -> bool:
        """Whether the gateway's connection can carry another exchange."""
        decoder = self._decoder
        clean = decoder.done and not decoder.rest and not isinstance(decoder, UntilClose)
        return self.over and not self.failure and clean

    @property
    def watches_tool(self) -> bool:
        """Whether there is room to read from the tool, so as to notice that it goes away."""
        return len(self.tool.ahead) < MAX_AHEAD_BYTES

    def start(self, head: bytes, rest: bytes) -> None:
        """Send the head, and in the same piece what came with it of the body."""
        try:
            self._send(head + self._encode(rest))
        except Refused:
            self._send(head)
            self._fail(CUT)

    def run(self, idle_s: float) -> Steps[None]:
        """Go on until it is over; give it up when nothing moves for `idle_s`."""
        tool, link = self.tool, self.link
        while not self.over:
            link.wants = 0 if self.pending else READ
            tool.wants = (WRITE if self.pending else 0) | (READ if self.watches_tool else 0)
            try:
                yield self.active_at + idle_s
            except Late:
                self._fail(IDLE)
                return
            if tool.ready:
                self._on_tool(tool.ready)
            if link.ready and not self.pending and not self.over:
                self._on_link()

    def _on_link(self) -> None:
        """Pass on what the gateway has sent."""
        try:
            data = self.link.read()
            if data:
                out = self._encode(data)
            elif data is None:
                return
            else:
                self._decoder.end()
                out = LAST_CHUNK if self._chunked else b""
        except (OSError, Refused):
            self._fail(CUT)
            return
        self._send(out)

    def _on_tool(self, ready: int) -> None:
        """Send what is pending, and notice when the tool goes away.

        A tool that has closed its sending side only is taken for gone: none of them does that,
        and an answer to nobody costs money.
        """
        try:
            if ready & WRITE and self.pending:
                self._flush()
            if ready & READ and not self.over:
                data = self.tool.read()
                if data == b"":
                    self._fail(TOOL_GONE)
                elif data:
                    self.tool.ahead += data
        except OSError:
            self._fail(TOOL_GONE)

    def _encode(self, data: bytes) -> bytes:
        decoder = self._decoder
        payload = decoder.feed(data) if data else b""
        self.sent += len(payload)
        if not self._chunked:
            return payload
        out = chunk(payload)
        if decoder.done:
            trailers = headers.trailers_to_tool(decoder.trailers, self._token)
            out += headers.write_trailers(trailers) if trailers else LAST_CHUNK
        return out

    def _send(self, data: bytes) -> None:
        self.active_at = time.monotonic()
        try:
            sent = self.tool.write(data) if data else 0
        except OSError:
            self._fail(TOOL_GONE)
            return
        if sent < len(data):
            self.pending = memoryview(data)[sent:]
        else:
            self.over = self.over or self._decoder.done

    def _flush(self) -> None:
        sent = self.tool.write(self.pending)
        if sent:
            self.active_at = time.monotonic()
        self.pending = self.pending[sent:]
        if not self.pending:
            self.over = self._decoder.done

    def _fail(self, why: str) -> None:
        self.over = True
        self.failure = self.failure or why
