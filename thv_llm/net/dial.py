"""A TCP connection to a server: one of several addresses, or a tunnel through an HTTP proxy.

`socket.create_connection` gives each address the whole time limit: behind a network that loses IPv6,
the first one uses up what the second would have needed, at every attempt.

Which proxy is what the environment says (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`):

Rule 1: a proxy is used by CONNECT only, so all it ever sees is a host name and TLS.
Rule 2: the password in the proxy's URL is a Secret from here on; no message shows the URL.
Rule 3: lower-case names win over upper-case ones, and HTTPS_PROXY over ALL_PROXY, as in curl.
Rule 4: a kind of proxy that we cannot use is an error: a direct connection instead of it would go
        where the user did not want it to.
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from thv_llm import __version__
from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret

PROXY_NAMES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class EnvProxy(NamedTuple):
    """Where to send CONNECT.

    Attributes:
        authorization: value of the `Proxy-Authorization` header, None when there is no user.
    """

    host: str
    port: int
    authorization: Secret | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, as messages name it."""
        return f"{self.host}:{self.port}"


def env_proxy(host: str, port: int, environ: Mapping[str, str]) -> EnvProxy | None:
    """Return the proxy for an https connection to this host and port, None for a direct one.

    Raises:
        ThvLlmError: it is set to something that we cannot use.
    """
    name = next((name for name in PROXY_NAMES if environ.get(name)), None)
    if name is None:
        return None
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    plain_host = host.lower().rstrip(".")
    if any(_excepts(rule.lower(), plain_host, port) for rule in excepted.replace(",", " ").split()):
        return None
    return _parse(name, environ[name])


def _excepts(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        return _in_network(host, rule)
    plain = rule.strip("[]") if rule.endswith("]") else rule
    if plain.count(":") == 1:
        plain, _, wanted_port = plain.partition(":")
        if wanted_port != str(port):
            return False
    plain = plain.removeprefix("*").strip(".")
    return bool(plain) and (host == plain or host.endswith("." + plain))


def _in_network(host: str, rule: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False


def _parse(name: str, value: str) -> EnvProxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise _unusable(name, "its value is not a URL") from None
    if parts.scheme != "http":
        kind = {"https": "an https://"}.get(parts.scheme, "a SOCKS" if "socks" in parts.scheme else "another")
        raise _unusable(name, f"it is {kind} proxy; only http:// proxies can be used (they pass TLS through)")
    if not host or not all("!" <= character <= "~" for character in host):
        raise _unusable(name, "its value names no host")
    return EnvProxy(host, port, _basic(parts.username, parts.password))


def _basic(user: str | None, password: str | None) -> Secret | None:
    if user is None:
        return None
    # The environment's bytes, whatever they are.
    given = (text.encode("utf-8", "surrogateescape") for text in (user, password or ""))
    pair = b":".join(map(unquote_to_bytes, given))
    return Secret("Basic " + base64.b64encode(pair).decode())


def _unusable(name: str, why: str) -> ThvLlmError:
    return ThvLlmError(
        f"cannot use the proxy that {name} names",
        why=why,
        next_step=f"set {name} to http://HOST:PORT, or take it out of the environment",
    )


MAX_HEAD_BYTES = 16 * 1024
"""Of a proxy's response to CONNECT."""


class TunnelError(OSError):
    """The HTTP proxy opened no tunnel.

    Attributes:
        status: of its response; 0 when there was none that could be read.
        has_basic: it takes a user name and a password (`Proxy-Authenticate: Basic`).
        was_sent: both were sent.
    """

    def __init__(self, status: int, *, has_basic: bool = True, was_sent: bool = False) -> None:
        super().__init__("no tunnel through the HTTP proxy")
        self.status = status
        self.has_basic = has_basic
        self.was_sent = was_sent


def dial(host: str, port: int, timeout_s: float, *, proxy: EnvProxy | None = None) -> socket.socket:
    """Return a connection to the first address that accepts it, or to the proxy, with a tunnel open.

    Args:
        host: ASCII, without brackets. It is resolved as bytes, because a str loads the tables of
            IDNA: milliseconds of a cold `token`.
        timeout_s: for everything; each address has a share of what is left, the last one all of it.
            It becomes the socket's timeout, too.

    Raises:
        TunnelError: the proxy refused.
        OSError: no address accepted it: what the first one said.
    """
    deadline = time.monotonic() + timeout_s
    if proxy is None:
        sock = _connect(host, port, deadline)
    else:
        sock = _connect(proxy.host, proxy.port, deadline)
        try:
            _open_tunnel(sock, host, port, proxy, deadline)
        except BaseException:
            sock.close()
            raise
    sock.settimeout(timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    addresses = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    first: OSError | None = None
    for left, (family, kind, protocol, _, address) in zip(
        range(len(addresses), 0, -1), addresses, strict=True
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.01, (deadline - time.monotonic()) / left))
            sock.connect(address)
        except OSError as error:
            sock.close()
            first = first or error
        else:
            return sock
    raise first or OSError("its name has no address")


def _open_tunnel(sock: socket.socket, host: str, port: int, proxy: EnvProxy, deadline: float) -> None:
    """Source: RFC 9110 section 9.3.6."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: thv-llm/{__version__}\r\n"
    if proxy.authorization is not None:
        head += f"Proxy-Authorization: {proxy.authorization.reveal()}\r\n"
    sock.sendall(head.encode("ascii") + b"\r\n")
    received = bytearray()
    while not received.endswith((b"\r\n\r\n", b"\n\n")):
        if len(received) >= MAX_HEAD_BYTES:
            raise TunnelError(0)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        # One byte at a time: what follows the head is TLS.
        data = sock.recv(1)
        if not data:
            raise TunnelError(0)
        received += data
    version, _, rest = bytes(received).partition(b" ")
    status = int(rest[:3]) if version.startswith(b"HTTP/1.") and rest[:3].isdigit() else 0
    if not 200 <= status < 300:
        schemes = [
            line.partition(b":")[2].split()[:1]
            for line in bytes(received).lower().splitlines()
            if line.startswith(b"proxy-authenticate:")
        ]
        has_basic = not schemes or [b"basic"] in schemes
        raise TunnelError(status, has_basic=has_basic, was_sent=proxy.authorization is not None)
