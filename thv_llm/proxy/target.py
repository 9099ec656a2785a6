r"""Where a request goes: the path and query of its target, and their place at the gateway.

Rule 1: only the origin form is taken ("/path?query"), so no request can name another host.
Rule 2: what a server behind us could read as a step upwards is refused, not resolved: `.` and
        `..` as segments, also percent-encoded (twice, too), with `\` for `/`, or before a `;`.
        An encoded `/` inside a segment passes: model names have them.
Rule 3: host, port and base path are the gateway's own; the checked path is laid behind them.

Pure: bytes in, bytes or a `Refused` out.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from thv_llm.proxy.http1 import Refused

HEX = frozenset(b"0123456789abcdefABCDEF")
KEY_PARAMETER = b"key"
"""The query parameter in which Gemini's clients send their key."""


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


def parse(target: bytes) -> Target:
    """Check a request's target, which holds visible ASCII only.

    Raises:
        Refused: 400.
    """
    if not target.startswith(b"/") or target.startswith(b"//"):
        raise Refused(400, "target is not a path")
    if b"#" in target or b"\\" in target:
        raise Refused(400, "fragment or backslash in the target")
    path, asked, query = target.partition(b"?")
    if b"%" in path or b"/." in path:
        _check_segments(path)
    if not asked:
        return Target(path, None, ())
    if b"%" not in query and KEY_PARAMETER not in query:
        return Target(path, query, ())
    return _without_key(path, query)


def _check_segments(path: bytes) -> None:
    for part in path.split(b"%")[1:]:
        if len(part) < 2 or not HEX.issuperset(part[:2]):
            raise Refused(400, "malformed percent-encoding in the path")
    for _ in range(3):  # a server that decodes twice is a known bug, one that does so more often is not
        for segment in path.replace(b"\\", b"/").split(b"/"):
            if segment.partition(b";")[0] in (b".", b".."):
                raise Refused(400, "dot segment in the path")
        if any(byte < 0x20 or byte == 0x7F for byte in path):
            raise Refused(400, "control byte in the path")
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


def base_path(path: str) -> bytes:
    """Return the part of the gateway's URL that goes before each request's path.

    A `/v1` at its end is left out: it belongs to the API, and so do the tools' own paths bring it
    (`/v1/messages`, `/v1beta/models/…`, `/anthropic/v1/messages`). So `https://host/team` and
    `https://host/team/v1` are the same gateway, and `/v1/v1` is never asked for.
    """
    tidy = path.rstrip("/")
    return tidy.removesuffix("/v1").rstrip("/").encode("ascii")


def at_gateway(base: bytes, target: Target) -> bytes:
    """Return the target to ask the gateway for."""
    place = base + target.path
    return place if target.query is None else b"%b?%b" % (place, target.query)
