"""Which headers pass through the proxy, in each direction.

Rule 1: no credential of the client reaches the gateway, and no credential of ours reaches
        the client. All rules about that live in this module; the server only calls it.
Rule 2: hop-by-hop headers end here (RFC 9110 section 7.6.1), also those that the peer
        names in `Connection`.
Rule 3: what says where a request came from or should go is not the client's to say.
Rule 4: trailers of a request end here: no gateway needs them, and a server that merges them into
        the headers would see a credential where we saw none.
Rule 5: everything else passes unchanged, in order, with duplicates.

A name is judged with `_` read as `-`: some gateways do so themselves, and would see a credential
where we saw none.

Pure: lists of (name, value) in, lists out. No sockets, no configuration, no logging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from thv_llm.proxy.http1 import MAX_LENGTH_DIGITS, VISIBLE, Field, Fields, Rejected

CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""Where clients put their key; `http1` sees to the query's `key`."""
KEY_MARK = b"thv-"
"""How each of our keys begins."""
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
FRAMING = frozenset({b"content-length", b"host", b"expect"})
"""Set anew for the gateway, from what was parsed and checked."""
NOT_TO_GATEWAY = CREDENTIALS | HOP_BY_HOP | FRAMING | {b"cookie", b"cookie2", b"forwarded", b"x-real-ip"}
DIRECTIONS = (b"x-forwarded-", b"x-original-", b"x-rewrite-")
"""Beginnings of names by which a server behind us could be told another client, host or path."""
NOT_TO_CLIENT = HOP_BY_HOP | {
    b"content-length",
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",  # would lead the client to the gateway directly, past the proxy
    b"strict-transport-security",  # is about the gateway's name, not about 127.0.0.1
}
NOT_IN_TRAILERS = FRAMING | CREDENTIALS


@lru_cache(maxsize=1024)
def _goes_to_gateway(name: bytes) -> bool:
    plain = _plain(name)
    return plain not in NOT_TO_GATEWAY and not plain.startswith(DIRECTIONS)


@lru_cache(maxsize=1024)
def _goes_to_client(name: bytes) -> bool:
    plain = _plain(name)
    return plain not in NOT_TO_CLIENT and not plain.startswith(b"access-control-")


def _plain(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def to_gateway(
    fields: Fields,
    token: bytes,
    holds_key: Callable[[bytes], bool] = lambda _: False,
    added: Sequence[Field] = (),
) -> list[Field]:
    """Return what passes of a request's headers, with the one credential that the gateway takes.

    Host, framing and `Connection` are for the caller to add.

    Args:
        holds_key: whether a value holds what a client shows to us; then it does not pass, whatever its name.
        added: headers that the gateway is to get (`gateway.headers`), in place of the client's own.

    Raises:
        Rejected: 401 for a token that cannot stand in a header.
    """
    if not token or token.translate(None, VISIBLE):
        raise Rejected(401, "the access token cannot be sent in a header")
    passing = [
        field
        for field in _past_this_hop(fields)
        if _goes_to_gateway(field[0]) and not (field[1].find(KEY_MARK) >= 0 and holds_key(field[1]))
    ]
    if added:
        names = {_plain(name) for name, _ in added}
        passing = [field for field in passing if _plain(field[0]) not in names]
    return [*passing, *added, (b"Authorization", b"Bearer " + token)]


def to_client(fields: Fields, token: bytes) -> list[Field]:
    """Return what passes of a response's headers or trailers; one that echoes the token does not."""
    return [
        field
        for field in _past_this_hop(fields)
        if _goes_to_client(field[0]) and field[1].find(token) < 0  # which is faster than `in`, see `http1`
    ]


def trailers_to_client(fields: Fields, token: bytes) -> list[Field]:
    """Return what passes of a response's trailers. Source: RFC 9110 section 6.5.1."""
    passing = to_client(fields, token)
    return [field for field in passing if _plain(field[0]) not in NOT_IN_TRAILERS]


def keep_alive_s(fields: Fields, default: float) -> float:
    """Return for how many seconds the sender keeps an idle connection.

    Source: RFC 9112 appendix C.2.2 names the header, RFC 2068 section 19.7.1.1 its parameter.
    """
    for option in fields.listed(b"keep-alive"):
        value = option.removeprefix(b"timeout=")
        if value != option and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
            return float(value)
    return default


def keeps_open(minor: int, fields: Fields) -> bool:
    """Return whether the sender of this head means to keep its connection (RFC 9112 section 9.3)."""
    options = fields.listed(b"connection")
    return b"close" not in options if minor else b"keep-alive" in options


def write(first_line: bytes, fields: Iterable[Field]) -> bytes:
    """Return a head with its empty line."""
    return b"\r\n".join([first_line, *map(b": ".join, fields), b"\r\n"])


def response(status: int, reason: bytes, fields: Iterable[Field]) -> bytes:
    """Return the head of a response for the client, be it the gateway's or one of ours.

    The only place where one is written: a header that each response should carry is added here.
    """
    return write(b"HTTP/1.1 %d %b" % (status, reason), fields)


def write_trailers(fields: Iterable[Field]) -> bytes:
    """Return the end of a chunked body."""
    return write(b"0", fields)


def _past_this_hop(fields: Fields) -> Iterable[Field]:
    """Return the fields without those that `Connection` names."""
    named = fields.listed(b"connection") - {b"close", b"keep-alive", b"upgrade"}
    return [field for field in fields if field[0].lower() not in named] if named else fields
