"""What a setting's value may be.

Each check takes a value of the right type and returns it, perhaps tidied, or raises
ValueError with what is wanted, as a noun phrase ("a port from 1024 to 65535").

Pure, but `ca_file` looks at the file that it is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

Value = str | int | bool | tuple[str, ...]
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def anything(value: Value) -> Value:
    """Take any value of the right type."""
    return value


def _plain(value: str, wanted: str) -> None:
    if any(not 0x21 <= ord(character) <= 0x7E for character in value):
        raise ValueError(f"{wanted}, without spaces or control characters")


def _url(value: Value, wanted: str) -> SplitResult:
    """Return the parts of a URL with a host and nothing that could hide another one."""
    assert isinstance(value, str)
    _plain(value, wanted)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if not host or "@" in parts.netloc or "?" in value or "#" in value or "\\" in value:
        raise ValueError(wanted)
    return parts


def gateway_url(value: Value) -> Value:
    """Take an https URL; a trailing slash goes."""
    wanted = "an https URL with a host and without user info, query or fragment"
    if _url(value, wanted).scheme != "https":
        raise ValueError(wanted)
    return str(value).rstrip("/")


def issuer(value: Value) -> Value:
    """Take an issuer identifier, unchanged: it is compared character for character."""
    wanted = (
        "an https URL (http only for a loopback host) with a host and without user info, query or fragment"
    )
    parts = _url(value, wanted)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        raise ValueError(wanted)
    return value


def resource(value: Value) -> Value:
    """Take a resource indicator. Source: RFC 8707 section 2."""
    wanted = "an absolute URI without a fragment (RFC 8707)"
    _plain(str(value), wanted)
    try:
        scheme = urlsplit(str(value)).scheme
    except ValueError:
        raise ValueError(wanted) from None
    if not scheme or "#" in str(value):
        raise ValueError(wanted)
    return value


def word(value: Value) -> Value:
    """Take visible ASCII without spaces."""
    _plain(str(value), "one word")
    return value


def words(value: Value) -> Value:
    """Take a list of words."""
    assert isinstance(value, tuple)
    for item in value:
        _plain(item, "words")
        if not item:
            raise ValueError("words, none of them empty")
    return value


def scopes(value: Value) -> Value:
    """Take scopes; without `openid` it would be no OIDC login."""
    assert isinstance(value, tuple)
    if "openid" not in value:
        raise ValueError("a list that contains openid")
    return words(value)


def port(value: Value) -> Value:
    """Take a port that needs no privilege."""
    if not isinstance(value, int) or not 1024 <= value <= 65535:
        raise ValueError("a port from 1024 to 65535")
    return value


def port_or_any(value: Value) -> Value:
    """Take a port, or 0 for any free one."""
    try:
        return value if value == 0 else port(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 0 for any free one") from None


def path_prefix(value: Value) -> Value:
    """Take an absolute path without a trailing slash; empty means the root."""
    _plain(str(value), "a path such as /anthropic")
    path = str(value).rstrip("/")
    if path and (not path.startswith("/") or "//" in path or "?" in path or "#" in path or ".." in path):
        raise ValueError("a path such as /anthropic, or an empty one")
    return path


def ca_file(value: Value) -> Value:
    """Take a PEM file that can be read; its path becomes absolute."""
    path = os.path.abspath(os.path.expanduser(str(value)))
    try:
        with open(path, "rb") as file:
            found = b"-----BEGIN" in file.read(1 << 20)
    except OSError as error:
        raise ValueError(f"a readable PEM file ({error.strerror})") from None
    if not found:
        raise ValueError("a PEM file (no certificate in it)")
    return path


def one_of(*choices: str) -> Callable[[Value], Value]:
    """Return a check that takes these values only."""

    def check(value: Value) -> Value:
        if value not in choices:
            raise ValueError(f"one of: {', '.join(choices)}")
        return value

    return check
