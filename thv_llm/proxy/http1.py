"""Heads of HTTP/1.1 messages, in both directions, strictly (RFC 9112).

Rule 1: what two programs could read in two ways is refused, never mended: bare CR or LF, folded
        lines, space before the colon, a length together with a transfer coding, two lengths.
Rule 2: a refusal carries the status to answer with, and the connection that it came over is not
        used again, so nothing behind a refused head is ever taken for another request.
Rule 3: every octet is looked at by `bytes.translate`, `split` or `find`, each linear in its input;
        there is no regular expression here that could run away.

Pure: bytes in, heads or a `Refused` out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Field = tuple[bytes, bytes]
"""A header field: its name as it was written, its value without the white space around it."""

MAX_LINE_BYTES = 64 * 1024
"""The first line of a head. Longest seen: 9 KB (a query with a cursor); servers allow 8 to 64 KB."""
MAX_HEAD_BYTES = 256 * 1024
"""A whole head. Large ones carry a token with hundreds of groups, about 60 KB."""
MAX_FIELDS = 200
"""Fields in a head. Tools send 10 to 25."""
MAX_NAME_BYTES = 256
"""Of a field. Longest seen: 41 (anthropic-dangerous-direct-browser-access); names are remembered."""
MAX_LENGTH_DIGITS = 18
"""Digits in a Content-Length: what fits into 64 bits with room for adding."""

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes(range(0x21, 0x7F))
TEXT = b"\t " + VISIBLE + bytes(range(0x80, 0x100))
"""What a field's value may hold; the upper half is RFC 9110's obs-text, for user agents in UTF-8."""
TEXT_AND_BREAKS = TEXT + b"\r\n"


class Refused(Exception):
    """A message that is not taken.

    Args:
        status: what to answer a tool with; a gateway's broken answer becomes 502 by whoever asked.
        reason: the rule, in words that may be logged and shown; nothing of the message is in it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Fields(list[Field]):
    """Header fields in order, which can be looked up by name as well. They do not change."""

    __slots__ = ("_named",)

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        super().__init__(fields)
        self._named: dict[bytes, list[bytes]] = {}
        for name, value in self:
            self._named.setdefault(_lower(name), []).append(value)

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of every field with this name, given in lower case."""
        return self._named.get(name, [])

    def listed(self, name: bytes) -> frozenset[bytes]:
        """Return the members of a comma-separated field, in lower case."""
        return _members(b",".join(self._named[name])) if name in self._named else frozenset()


NO_FIELDS = Fields()


@lru_cache(maxsize=32)
def _members(value: bytes) -> frozenset[bytes]:
    return frozenset(item.strip(b" \t").lower() for item in value.split(b","))


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> bytes:
    """Return a field's name as it is compared.

    Raises:
        Refused: 400 malformed, 431 too long.
    """
    if not name or name.translate(None, TOKEN):
        raise Refused(400, "malformed header name")
    if len(name) > MAX_NAME_BYTES:
        raise Refused(431, "header name too long")
    return name.lower()


class RequestHead(NamedTuple):
    """A request's head. `minor` is 0 or 1, of HTTP/1.x."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields


class AnswerHead(NamedTuple):
    """An answer's head, interim ones included."""

    status: int
    reason: bytes
    minor: int
    fields: Fields


def parse_request(head: bytes) -> RequestHead:
    """Parse a request's head, given without the empty line that ends it.

    Raises:
        Refused: 400 malformed, 414 or 431 too large, 505 another version of HTTP.

    Source: RFC 9112 sections 2 to 5.
    """
    first, _, rest = head.partition(b"\r\n")
    return RequestHead(*_request_line(first), parse_fields(rest))


def parse_answer(head: bytes) -> AnswerHead:
    """Parse an answer's head, given without the empty line that ends it.

    Raises:
        Refused: with status 502 at all times.

    Source: RFC 9112 section 4.
    """
    first, _, rest = head.partition(b"\r\n")
    try:
        return AnswerHead(*_status_line(first), parse_fields(rest))
    except Refused as refused:
        raise Refused(502, refused.reason) from None


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    if len(line) > MAX_LINE_BYTES:
        raise Refused(414, "request line too long")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Refused(400, "malformed request line")
    method, target, version = parts
    if not method or method.translate(None, TOKEN):
        raise Refused(400, "malformed method")
    if not target or target.translate(None, VISIBLE):
        raise Refused(400, "malformed target")
    return method, target, _minor(version)


def _status_line(line: bytes) -> tuple[int, bytes, int]:
    version, _, rest = line.partition(b" ")
    digits, space, reason = rest.partition(b" ")
    # RFC 9112 section 4 wants the space even before an empty reason; servers leave it out.
    if len(digits) != 3 or not digits.isdigit() or (reason and not space):
        raise Refused(502, "malformed status line")
    status = int(digits)
    if not 100 <= status <= 599 or reason.translate(None, TEXT):
        raise Refused(502, "malformed status line")
    return status, reason, _minor(version)


def _minor(version: bytes) -> int:
    if version == b"HTTP/1.1":
        return 1
    if version == b"HTTP/1.0":
        return 0
    number = version.removeprefix(b"HTTP/")
    if len(version) == 8 and len(number) == 3 and number[1:2] == b"." and number.replace(b".", b"").isdigit():
        raise Refused(505, "HTTP version not supported")
    raise Refused(400, "malformed HTTP version")


def parse_fields(block: bytes) -> Fields:
    """Parse header or trailer fields, given without the last line break.

    Raises:
        Refused: 400 malformed, 431 too many.
    """
    if not block:
        return NO_FIELDS
    lines = block.split(b"\r\n")
    breaks = len(lines) - 1
    if block.translate(None, TEXT_AND_BREAKS) or block.count(b"\r") != breaks or block.count(b"\n") != breaks:
        raise Refused(400, "control byte or bare line break in a header")
    if breaks >= MAX_FIELDS:
        raise Refused(431, "too many header fields")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Refused(400, "malformed header")
        fields.append((name, value.strip(b" \t")))
    # A folded line begins with white space, which no name may hold, so it is refused by this as well.
    return Fields(fields)


class HeadReader:
    """Collect the bytes of one head, and refuse as early as its bytes allow.

    Feed what arrives until it says True; then `head` is the head without its empty line, and
    `rest` what followed it.
    """

    def __init__(self, *, of_answer: bool = False) -> None:
        self.head = b""
        self.rest = b""
        self.held = b""
        """What has arrived of a head that is not whole."""
        self._looked_at = 0
        self._in_first_line = True
        self._of_answer = of_answer
        self._may_skip = not of_answer

    def feed(self, data: bytes) -> bool:
        """Take bytes; True when the head is whole.

        Raises:
            Refused: as `parse_request` and `parse_answer` do.
        """
        held = self.held + data if self.held else data
        if self._may_skip and held.startswith(b"\r\n"):
            # RFC 9112 section 2.2: an empty line before the request line should be ignored. One.
            held = held[2:]
            self._may_skip = False
        end = held.find(b"\r\n\r\n", max(0, self._looked_at - 3))
        if (len(held) if end < 0 else end) > MAX_HEAD_BYTES:
            raise self._refusal(431, "head too large")
        if end < 0:
            self._look(held)
            self.held = held
            return False
        self.held, self.head, self.rest = b"", held[:end], held[end + 4 :]
        return True

    def _look(self, held: bytes) -> None:
        """Refuse a part of a head that no further byte could make right."""
        # A CR at the end waits for its LF, so that neither is ever looked at alone.
        new = held[self._looked_at :].removesuffix(b"\r")
        if new.replace(b"\r\n", b"").translate(None, TEXT):
            raise self._refusal(400, "control byte or bare line break in a head")
        self._looked_at += len(new)
        if self._in_first_line:
            self._look_at_first_line(held)

    def _look_at_first_line(self, held: bytes) -> None:
        line, ended, _ = held.partition(b"\r\n")
        if ended:
            self._in_first_line = False
            parse_answer(line) if self._of_answer else parse_request(line)
        elif len(line) > MAX_LINE_BYTES:
            raise self._refusal(414, "request line too long")
        elif self._of_answer and not b"HTTP/1.".startswith(line[:7]):
            raise Refused(502, "not HTTP/1")

    def _refusal(self, status: int, reason: str) -> Refused:
        return Refused(502 if self._of_answer else status, reason)
