"""How a message's body is delimited, and its decoders (RFC 9112 sections 6 and 7).

A decoder takes the bytes of a connection and gives the body's bytes. `done` says that the body
is whole, `rest` holds what came after it. A connection that ends before `done` was cut, and
`end` says so; such a body is never passed on as a complete one.

Pure: bytes in, bytes or a `Rejected` out.
"""

from __future__ import annotations

from thv_llm.proxy.http1 import (
    MAX_LENGTH_DIGITS,
    NO_FIELDS,
    TEXT,
    Fields,
    Rejected,
    RequestHead,
    ResponseHead,
    parse_fields,
)

MAX_CHUNK_LINE_BYTES = 4096
"""A chunk's size and its extensions, which no client uses."""
MAX_CHUNK_DIGITS = 15
MAX_TRAILER_BYTES = 16 * 1024
HEX = b"0123456789abcdefABCDEF"
LAST_CHUNK = b"0\r\n\r\n"


class ContentLengthBody:
    """A body of a known length; of none at all with 0."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""
        self.trailers = NO_FIELDS

    def feed(self, data: bytes) -> bytes:
        """Take bytes; what is beyond the length goes to `rest`."""
        self.left -= len(data)
        if self.left > 0:
            return data
        self.done = True
        if self.left < 0:
            data, self.rest = data[: self.left], data[self.left :]
            self.left = 0
        return data

    def end(self) -> None:
        """Refuse a body that is not whole."""
        if not self.done:
            raise Rejected(400, "body shorter than its length")


class CloseDelimitedBody:
    """A response's body that ends with its connection."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers = NO_FIELDS

    def feed(self, data: bytes) -> bytes:
        """Take bytes; all of them are the body's."""
        return data

    def end(self) -> None:
        """Take the end of the connection for the body's."""
        self.done = True


class ChunkedBody:
    """A chunked body. Extensions are checked and dropped, trailers kept.

    Args:
        of_response: allow blanks after a size without an extension, which some gateways write.
    """

    def __init__(self, *, of_response: bool = False) -> None:
        self._of_response = of_response
        self.done = False
        self.rest = b""
        self.trailers = NO_FIELDS
        self._held = b""
        self._left = 0
        self._after_data = False
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return the data of the chunks, and of parts of chunks, in them."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces = []
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left and data.startswith(b"\r\n", at):  # else it is looked for later
                    at += 2
                else:
                    self._after_data = not self._left
                continue
            after = self._trailers(data, at) if self._in_trailers else self._size(data, at)
            if after < 0:
                self._held = data[at:]
                break
            at = after
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def only_chunk(self, data: bytes) -> int:
        """Return the size of the one whole chunk that these bytes are, as `chunk` writes it; else 0.

        Such bytes need no decoding, and `feed` need not see them. Most events come like this.
        """
        if self._left or self._held or self._after_data or self._in_trailers:
            return 0
        size = len(data) - data.find(b"\r\n", 0, MAX_CHUNK_DIGITS) - 4
        return size if size > 0 and data.startswith(b"%x\r\n" % size) and data.endswith(b"\r\n") else 0

    def end(self) -> None:
        """Refuse a body that is not whole."""
        if not self.done:
            raise Rejected(400, "chunked body without its end")

    def _size(self, data: bytes, at: int) -> int:
        """Read the line before a chunk; return where it ends, -1 when more is needed."""
        if self._after_data:
            if not b"\r\n".startswith(data[at : at + 2]):
                raise Rejected(400, "chunk longer than its size")
            if len(data) - at < 2:
                return -1
            at += 2
        end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES)
        if end < 0:
            _check_part(data[at:], MAX_CHUNK_LINE_BYTES)
            return -1
        digits, extended, extension = data[at:end].partition(b";")
        if extended or self._of_response:
            digits = digits.rstrip(b" \t")  # RFC 9112 section 7.1.1 allows it before an extension only
        if not digits or len(digits) > MAX_CHUNK_DIGITS or digits.translate(None, HEX):
            raise Rejected(400, "malformed chunk size")
        if extension.translate(None, TEXT):
            raise Rejected(400, "control byte in a chunk extension")
        if extended and not self._of_response and not all(map(_is_named, extension.split(b";"))):
            # Of two servers, one can take the line for a size alone, the other not (CVE-2025-55315).
            raise Rejected(400, "empty chunk extension")
        self._left = int(digits, 16)
        self._after_data = False
        self._in_trailers = not self._left
        return end + 2

    def _trailers(self, data: bytes, at: int) -> int:
        """Read the fields after the last chunk; return where they end, -1 when more is needed."""
        if data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILER_BYTES)
        if end < 0:
            _check_part(data[at:], MAX_TRAILER_BYTES)
            return -1
        self.trailers = parse_fields(data[at:end])
        self.done = True
        return end + 4


def _is_named(extension: bytes) -> bool:
    return bool(extension.partition(b"=")[0].strip(b" \t"))


def _check_part(part: bytes, limit: int) -> None:
    """Refuse the beginning of a line or of trailers that no further byte could make right."""
    if len(part) >= limit:
        raise Rejected(400, "chunk line or trailers too long")
    if part.removesuffix(b"\r").replace(b"\r\n", b"").translate(None, TEXT):
        raise Rejected(400, "control byte or bare line break in a chunked body")


RequestDecoder = ContentLengthBody | ChunkedBody
Decoder = RequestDecoder | CloseDelimitedBody
"""`feed` takes bytes of the connection, and `end` notice of its end; both raise Rejected for a bad body."""


def of_request(head: RequestHead, max_bytes: int) -> RequestDecoder:
    """Return the decoder for a request's body.

    Raises:
        Rejected: 400 for what could be read in two ways, 413 for a length over `max_bytes`.

    Source: RFC 9112 section 6.
    """
    coded, length = _declared(head.fields)
    if coded:
        if head.minor == 0:
            raise Rejected(400, "transfer coding in HTTP/1.0")
        return ChunkedBody()
    return of_length(length or 0, max_bytes)


def of_length(length: int, max_bytes: int) -> ContentLengthBody:
    """Return the decoder for a request's body of that length.

    Raises:
        Rejected: 413.
    """
    if length > max_bytes:
        raise Rejected(413, "body too large")
    return ContentLengthBody(length)


def of_response(head: ResponseHead, method: bytes) -> Decoder:
    """Return the decoder for the body of a response to a request with this method.

    Raises:
        Rejected: 502 for what could be read in two ways.

    Source: RFC 9112 section 6.3.
    """
    try:
        coded, length = _declared(head.fields)
        if coded and head.minor == 0:
            raise Rejected(502, "transfer coding in HTTP/1.0")
    except Rejected as refused:
        raise Rejected(502, refused.reason) from None
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return ContentLengthBody(0)
    if coded:
        return ChunkedBody(of_response=True)
    return CloseDelimitedBody() if length is None else ContentLengthBody(length)


def _declared(fields: Fields) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its length if one is given."""
    codings = fields.values(b"transfer-encoding")
    lengths = fields.values(b"content-length")
    if codings and lengths:
        raise Rejected(400, "both a length and a transfer coding")
    if codings:
        # Also a list of codings: `gzip, chunked` can be taken apart in two ways.
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Rejected(400, "transfer coding other than chunked")
        return True, None
    if not lengths:
        return False, None
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS:
        raise Rejected(400, "malformed content length")
    return False, int(lengths[0])


def chunk(data: bytes) -> bytes:
    """Return one chunk; of no data nothing, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
