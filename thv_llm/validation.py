"""What a setting's value can be.

Each check takes a value of the right type and returns it, perhaps tidied, or raises
ValueError with what is wanted, as a noun phrase ("a port from 1024 to 65535").

Pure, but `ca_file` looks at the file that it is given.
"""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, unquote, urlsplit

SettingValue = str | int | bool | tuple[str, ...]
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
NETWORK_VARIABLES = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What an environment says of the network it is in."""
PARAMETER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
OWN_PARAMETER = re.compile(r"(client|code|response)_.*|redirect_uri|state|scope|nonce|request(_uri)?|claims")
"""What decides over the safety of a login is not for a setting to say."""
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}): ?([#-~](?:[ -~]{0,4000}[!-~])?)")
"""A value that begins with `!` is a command to some tools, and one with `"` looks quoted."""
OWN_HEADER = re.compile(
    r"authorization|cookie2?|host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade"
    r"|content-length|content-type|expect"
)
"""What carries our token, another one's session, or the request itself."""
ENDPOINTS = ("/messages", "/chat/completions", "/completions", "/responses", "/models", "/.well-known")
"""What is at the end of a URL that was copied from an example of a request."""
DOT_SEGMENT = re.compile(r"(^|[/\\])\.{1,2}($|[/\\;])")


def anything(value: SettingValue) -> SettingValue:
    """Take any value of the right type."""
    return value


def _plain(value: str, wanted: str) -> None:
    if any(not 0x21 <= ord(character) <= 0x7E for character in value):
        raise ValueError(f"{wanted}, without spaces or control characters")


def _url(value: SettingValue, wanted: str) -> SplitResult:
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


def gateway_url(value: SettingValue) -> SettingValue:
    """Take an https URL; a trailing slash goes."""
    wanted = "an https URL with a host and without user info, query, fragment or dot segments"
    parts = _url(value, wanted)
    path = unquote(parts.path)  # what is still encoded then was encoded twice, or wrongly
    is_plain = "%" not in path and not path.startswith("//") and not DOT_SEGMENT.search(path)
    if parts.scheme != "https" or not is_plain:
        raise ValueError(wanted)
    if path.rstrip("/").endswith(ENDPOINTS):
        raise ValueError("the base URL of the gateway, without the path of a single endpoint")
    return str(value).rstrip("/")


def gateway_root(url: str) -> str:
    """Return a gateway's URL without a final `/v1`.

    That belongs to the API, and the tools' own paths bring it (`/v1/messages`, `/v1beta/models/…`,
    `/anthropic/v1/messages`). So `https://host/team` and `https://host/team/v1` are one gateway.
    """
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def issuer(value: SettingValue) -> SettingValue:
    """Take an issuer identifier, unchanged: it is compared character for character."""
    wanted = (
        "an https URL (http only for a loopback host) with a host and without user info, query or fragment"
    )
    parts = _url(value, wanted)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        raise ValueError(wanted)
    return value


def resource(value: SettingValue) -> SettingValue:
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


def word(value: SettingValue) -> SettingValue:
    """Take visible ASCII without spaces."""
    _plain(str(value), "one word")
    return value


def words(value: SettingValue) -> SettingValue:
    """Take a list of words."""
    assert isinstance(value, tuple)
    for item in value:
        _plain(item, "words")
        if not item:
            raise ValueError("words, none of them empty")
    return value


def auth_params(value: SettingValue) -> SettingValue:
    """Take `NAME=VALUE` of additional parameters of an authorization request; the last of a name counts."""
    assert isinstance(value, tuple)
    found: dict[str, str] = {}
    for piece in value:
        name, separator, rest = piece.partition("=")
        if not separator or not PARAMETER_NAME.fullmatch(name) or not (rest.isascii() and rest.isprintable()):
            raise ValueError("NAME=VALUE, such as access_type=offline")
        if OWN_PARAMETER.fullmatch(name.lower()):
            raise ValueError(f"a parameter that thv-llm does not set itself, unlike {name}")
        found[name] = rest
    return tuple(f"{name}={rest}" for name, rest in found.items())


def headers(value: SettingValue) -> SettingValue:
    """Take headers as `Name: value`; the last of a name counts. Source: RFC 9110 section 5."""
    assert isinstance(value, tuple)
    found: dict[str, str] = {}
    for piece in value:
        match = HEADER.fullmatch(piece)
        if not match or match[2].startswith("$"):
            raise ValueError('"Name: value" of a header, in visible ASCII')
        name = match[1].lower().replace("_", "-")
        if OWN_HEADER.fullmatch(name):
            raise ValueError(f"a header that thv-llm does not set itself, unlike {match[1]}")
        found[name] = f"{match[1]}: {match[2]}"
    return tuple(found.values())


def seconds(value: SettingValue) -> SettingValue:
    """Take a time limit that a model can keep and that ends on the same day."""
    if not isinstance(value, int) or not 10 <= value <= 86_400:
        raise ValueError("a number of seconds from 10 to 86400")
    return value


def port(value: SettingValue) -> SettingValue:
    """Take a port that needs no privilege."""
    if not isinstance(value, int) or not 1024 <= value <= 65535:
        raise ValueError("a port from 1024 to 65535")
    return value


def port_or_any(value: SettingValue) -> SettingValue:
    """Take a port, or 0 for any free one."""
    try:
        return value if value == 0 else port(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 0 for any free one") from None


def path_prefix(value: SettingValue) -> SettingValue:
    """Take the path below which an API's `/v1` is; a final `/v1` or slash goes, empty means the root."""
    return gateway_root(str(path(value)))


def path(value: SettingValue) -> SettingValue:
    """Take an absolute path; a trailing slash goes, empty means the root."""
    _plain(str(value), "a path such as /anthropic")
    found = str(value).rstrip("/")
    if found and (not found.startswith("/") or any(bad in found for bad in ("//", "?", "#", ".."))):
        raise ValueError("a path such as /anthropic, or an empty one")
    return found


def absolute(value: SettingValue) -> SettingValue:
    """Take the path of a file, which becomes absolute; it need not be there yet."""
    if not str(value).isprintable():
        raise ValueError("the path of a file")
    return os.path.abspath(os.path.expanduser(str(value)))


def file_or_stored(value: SettingValue) -> SettingValue:
    """Take the path of a file, or the word that says where setup has put what was in it."""
    return value if value == "stored" else absolute(value)


def ca_file(value: SettingValue) -> SettingValue:
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


class OneOf:
    """A check that takes these values only."""

    __slots__ = ("choices",)

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: SettingValue) -> SettingValue:
        """Return the value, or raise ValueError."""
        if value not in self.choices:
            raise ValueError(f"one of: {', '.join(self.choices)}")
        return value


def network(value: SettingValue) -> SettingValue:
    """Take `NAME=VALUE` of network variables; the parts of NO_PROXY that a flag has split are joined."""
    wanted = f"NAME=VALUE with NAME one of {', '.join(NETWORK_VARIABLES)}"
    assert isinstance(value, tuple)
    rows: dict[str, str] = {}
    last = ""
    for piece in value:
        name, separator, rest = piece.partition("=")
        if name in NETWORK_VARIABLES and separator and rest and piece.isprintable():
            rows[name], last = rest, name
        elif last == "NO_PROXY" and not separator:
            rows[last] += f",{piece}"
        else:
            raise ValueError(wanted)
    info, at, _ = rows.get("HTTPS_PROXY", "").rpartition("@")
    if at and ":" in info.rpartition("://")[2]:
        raise ValueError(
            "a proxy without its password; run setup with HTTPS_PROXY set, which stores it safely"
        )
    return tuple(f"{name}={rows[name]}" for name in NETWORK_VARIABLES if name in rows)
