"""A TCP connection to a server: one of several addresses, or a tunnel through an HTTP proxy.

`socket.create_connection` gives each address the whole time limit: behind a network that loses IPv6,
the first one uses up what the second would have needed, at every attempt.
"""

from __future__ import annotations

import socket
import time

from thv_llm import __version__
from thv_llm.net.env_proxy import EnvProxy

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
