"""A TCP connection to a host that may have several addresses, some of them dead.

`socket.create_connection` gives each address the whole time limit: behind a network that loses IPv6,
the first one uses up what the second would have needed, at every attempt.
"""

from __future__ import annotations

import socket
import time


def dial(host: str | bytes, port: int, timeout_s: float) -> socket.socket:
    """Return a connection to the first address that takes it.

    Args:
        timeout_s: for all addresses; each has a share of what is left, the last one all of it.
            It becomes the socket's timeout, too.

    Raises:
        OSError: no address took it: what the first one said.
    """
    deadline = time.monotonic() + timeout_s
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
            sock.settimeout(timeout_s)
            return sock
    raise first or OSError("its name has no address")
