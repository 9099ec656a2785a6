r"""Heads of HTTP/1.1 messages, in both directions, strictly (RFC 9112).

Rule 1: what two programs could read in two ways is refused, never repaired: bare CR or LF, folded
        lines, space before the colon, a length together with a transfer coding, two lengths.
Rule 2: a refusal carries the status to respond with, and the connection that it came over is not
        used again, so nothing behind a refused head is ever taken for another request.
Rule 3: every octet is looked at by `bytes.translate`, `split` or `find`, each linear in its input;
        there is no regular expression here that could run away.
Rule 4: of targets only the origin form is taken ("/path?query"), so no request can name another host.
Rule 5: what a server behind us could read as a step upwards is refused, not resolved: `.` and
        `..` as segments, also percent-encoded (twice, too), with `\` for `/`, or before a `;`.
        An encoded `/` inside a segment passes: model names have them.

Pure: bytes in, heads or a `Rejected` out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

Field = tuple[bytes, bytes]
"""A header field: its name as it was written, its value without the white space around it."""

MAX_LINE_BYTES = 64 * 1024
"""The first line of a head. Longest seen: 9 KB (a query with a cursor); servers allow 8 to 64 KB."""
MAX_HEAD_BYTES = 256 * 1024
"""A whole head. Large ones carry a token with hundreds of groups, about 60 KB."""
MAX_FIELDS = 200
"""Fields in a head. Clients send 10 to 25."""
MAX_NAME_BYTES = 256
"""Of a field. Longest seen: 41 (anthropic-dangerous-direct-browser-access); names are remembered."""
MAX_REMEMBERED_BYTES = 4096
"""Of a head whose lines are remembered: most of them come again with the next one."""
LENGTH_AT = len("\r\nContent-Length: ")
MAX_LENGTH_DIGITS = 18
"""Digits in a Content-Length: what fits into 64 bits with room for adding."""

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VISIBLE = bytes(range(0x21, 0x7F))
TEXT = b"\t " + VISIBLE + bytes(range(0x80, 0x100))
"""What a field's value can hold; the upper half is RFC 9110's obs-text, for user agents in UTF-8."""

HEX = frozenset(b"0123456789abcdefABCDEF")
KEY_PARAMETER = b"key"
"""The query parameter in which Gemini's clients send their key."""


class Rejected(Exception):
    """A message that is not taken.

    Args:
        status: status of our response to a client; a broken response of a gateway becomes 502.
        reason: the rule, in words that can be logged and shown; nothing of the message is in it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Fields(list[Field]):
    """Header fields in order, which can be looked up by name as well. They do not change.

    Attributes:
        named: the values by name, in lower case.
    """

    __slots__ = ("named",)

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self.named: dict[bytes, list[bytes]] = {}
        self._take((field, _lower(field[0])) for field in fields)

    def _take(self, fields: Iterable[tuple[Field, bytes]]) -> None:
        named, append = self.named, self.append
        for field, lower in fields:
            append(field)
            if lower in named:
                named[lower].append(field[1])
            else:
                named[lower] = [field[1]]

    @classmethod
    def of(cls, fields: Iterable[tuple[Field, bytes]]) -> Fields:
        """Return fields whose names in lower case are given with them."""
        found = cls()
        found._take(fields)
        return found

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return the values of every field with this name, given in lower case."""
        return self.named.get(name, ())

    def listed(self, name: bytes) -> frozenset[bytes]:
        """Return the members of a comma-separated field, in lower case."""
        return _members(b",".join(self.named[name])) if name in self.named else NO_MEMBERS


NO_FIELDS = Fields()
NO_MEMBERS: frozenset[bytes] = frozenset()


@lru_cache(maxsize=32)
def _members(value: bytes) -> frozenset[bytes]:
    return frozenset(item.strip(b" \t").lower() for item in value.split(b","))


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> bytes:
    """Return a field's name as it is compared.

    Raises:
        Rejected: 400 malformed, 431 too long.
    """
    if not name or name.translate(None, TOKEN):
        raise Rejected(400, "malformed header name")
    if len(name) > MAX_NAME_BYTES:
        raise Rejected(431, "header name too long")
    return name.lower()


class RequestHead(NamedTuple):
    """A request's head. `minor` is 0 or 1, of HTTP/1.x."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields


class ResponseHead(NamedTuple):
    """A response's head, informational ones included."""

    status: int
    reason: bytes
    minor: int
    fields: Fields


def parse_request(head: bytes) -> RequestHead:
    """Parse a request's head, given without the empty line that ends it.

    Raises:
        Rejected: 400 malformed, 414 or 431 too large, 505 another version of HTTP.

    Source: RFC 9112 sections 2 to 5.
    """
    first, _, rest = head.partition(b"\r\n")
    return RequestHead(*_request_line(first), parse_fields(rest))


def without_length(head: bytes) -> tuple[bytes, bytes | None]:
    """Return a request's head without its `Content-Length`, and that field's digits; the head as it is,
    and None, when it has none, or one that is written in another way than clients do.

    A second one stays in the head, which is no good head for `parse_request`, then, with this one put back.
    """
    at = head.find(b"\r\nContent-Length: ")
    if at < 0:
        at = head.find(b"\r\ncontent-length: ")
        if at < 0:
            return head, None
    end = head.find(b"\r\n", at + LENGTH_AT)
    digits = head[at + LENGTH_AT : end] if end >= 0 else head[at + LENGTH_AT :]
    if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
        return head, None
    return head[:at] + head[end:] if end >= 0 else head[:at], digits


def parse_response(head: bytes) -> ResponseHead:
    """Parse a response's head, given without the empty line that ends it.

    Raises:
        Rejected: with status 502 at all times.

    Source: RFC 9112 section 4.
    """
    first, _, rest = head.partition(b"\r\n")
    try:
        return ResponseHead(*_status_line(first), parse_fields(rest))
    except Rejected as refused:
        raise Rejected(502, refused.reason) from None


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    if len(line) > MAX_LINE_BYTES:
        raise Rejected(414, "request line too long")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Rejected(400, "malformed request line")
    method, target, version = parts
    if not method or method.translate(None, TOKEN):
        raise Rejected(400, "malformed method")
    if not target or target.translate(None, VISIBLE):
        raise Rejected(400, "malformed target")
    return method, target, _minor(version)


def _status_line(line: bytes) -> tuple[int, bytes, int]:
    version, _, rest = line.partition(b" ")
    digits, space, reason = rest.partition(b" ")
    # RFC 9112 section 4 wants the space even before an empty reason; servers leave it out.
    if len(digits) != 3 or not digits.isdigit() or (reason and not space):
        raise Rejected(502, "malformed status line")
    status = int(digits)
    if not 100 <= status <= 599 or reason.translate(None, TEXT):
        raise Rejected(502, "malformed status line")
    return status, reason, _minor(version)


def _minor(version: bytes) -> int:
    if version == b"HTTP/1.1":
        return 1
    if version == b"HTTP/1.0":
        return 0
    number = version.removeprefix(b"HTTP/")
    if len(version) == 8 and len(number) == 3 and number[1:2] == b"." and number.replace(b".", b"").isdigit():
        raise Rejected(505, "HTTP version not supported")
    raise Rejected(400, "malformed HTTP version")


def parse_fields(block: bytes) -> Fields:
    """Parse header or trailer fields, given without the last line break.

    Raises:
        Rejected: 400 malformed, 431 too many.
    """
    if not block:
        return NO_FIELDS
    lines = block.split(b"\r\n")
    if len(lines) > MAX_FIELDS:
        raise Rejected(431, "too many header fields")
    # A folded line begins with white space, which no name can hold, so it is refused by this as well.
    return Fields.of(map(_field if len(block) <= MAX_REMEMBERED_BYTES else _field.__wrapped__, lines))


@lru_cache(maxsize=512)
def _field(line: bytes) -> tuple[Field, bytes]:
    """Return a line's field, and its name in lower case."""
    if line.translate(None, TEXT):
        raise Rejected(400, "control byte or bare line break in a header")
    name, colon, value = line.partition(b":")
    if not colon:
        raise Rejected(400, "malformed header")
    return (name, value.strip(b" \t")), _lower(name)


class HeadReader:
    """Collect the bytes of one head, and refuse as early as its bytes allow.

    Feed what arrives until it says True; then `head` is the head without its empty line, and
    `rest` what followed it.
    """

    def __init__(self, *, of_response: bool = False) -> None:
        self.head = b""
        self.rest = b""
        self.held = b""
        """What has arrived of a head that is not whole."""
        self._looked_at = 0
        self._in_first_line = True
        self._of_response = of_response
        self._may_skip = not of_response

    def feed(self, data: bytes) -> bool:
        """Take bytes; True when the head is whole.

        Raises:
            Rejected: as `parse_request` and `parse_response` do.
        """
        if not self.held and not data.startswith(b"\r\n"):  # the usual case
            end = data.find(b"\r\n\r\n")
            if 0 <= end <= MAX_HEAD_BYTES:
                self.head, self.rest = data[:end], data[end + 4 :]
                return True
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
            parse_response(line) if self._of_response else parse_request(line)
        elif len(line) > MAX_LINE_BYTES:
            raise self._refusal(414, "request line too long")
        elif self._of_response and not b"HTTP/1.".startswith(line[:7]):
            raise Rejected(502, "not HTTP/1")

    def _refusal(self, status: int, reason: str) -> Rejected:
        return Rejected(502 if self._of_response else status, reason)


class Target(NamedTuple):
    """A checked target.

    Attributes:
        path: as it was sent.
        query: as it was sent, but without `key`; None when there is none.
        keys: what the `key` parameters held, decoded.
    """

    path: bytes
    query: bytes | None
    keys: tuple[bytes, ...]


def parse_target(target: bytes) -> Target:
    """Check a request's target, which holds visible ASCII only.

    Raises:
        Rejected: 400.
    """
    if not target.startswith(b"/") or target.startswith(b"//"):
        raise Rejected(400, "target is not a path")
    # `in` tries them as a number first, and drops the error that this makes: `find` is ten times faster.
    if target.find(b"#") >= 0 or target.find(b"\\") >= 0:
        raise Rejected(400, "fragment or backslash in the target")
    path, asked, query = target.partition(b"?")
    if path.find(b"%") >= 0 or path.find(b"/.") >= 0:
        _check_segments(path)
    if not asked:
        return Target(path, None, ())
    if b"%" not in query and KEY_PARAMETER not in query:
        return Target(path, query, ())
    return _without_key(path, query)


def _check_segments(path: bytes) -> None:
    for part in path.split(b"%")[1:]:
        if len(part) < 2 or not HEX.issuperset(part[:2]):
            raise Rejected(400, "malformed percent-encoding in the path")
    for _ in range(3):  # a server that decodes twice is a known bug, one that does so more often is not
        for segment in path.replace(b"\\", b"/").split(b"/"):
            if segment.partition(b";")[0] in (b".", b".."):
                raise Rejected(400, "dot segment in the path")
        if any(byte < 0x20 or byte == 0x7F for byte in path):
            raise Rejected(400, "control byte in the path")
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return
        path = decoded


def _without_key(path: bytes, query: bytes) -> Target:
    kept, keys = [], []
    for parameter in query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        if unquote_to_bytes(name) == KEY_PARAMETER:
            keys.append(unquote_to_bytes(value))
        else:
            kept.append(parameter)
    return Target(path, b"&".join(kept) if kept else None, tuple(keys))


def without_keys(target: Target, are_in: Callable[[bytes], bool]) -> Target:
    """Return a target without the parameters that hold a local key, whatever their names.

    Args:
        are_in: whether a text holds one.

    Raises:
        Rejected: 400, one is in the path.
    """
    if are_in(unquote_to_bytes(target.path) if b"%" in target.path else target.path):
        raise Rejected(400, "the local key is in the path")
    if not target.query or not are_in(unquote_to_bytes(target.query)):
        return target
    kept = [part for part in target.query.split(b"&") if not are_in(unquote_to_bytes(part))]
    return target._replace(query=b"&".join(kept) or None)


def at_gateway(base: bytes, target: Target) -> bytes:
    """Return the target to ask the gateway for."""
    path = base + target.path
    return path if target.query is None else b"%b?%b" % (path, target.query)
