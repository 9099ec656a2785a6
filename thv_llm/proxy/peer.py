"""Which user is at the other end of a loopback connection. Linux only; elsewhere nobody can say."""

from __future__ import annotations

import os
import socket
import struct
import sys

TABLES = {socket.AF_INET: "/proc/self/net/tcp", socket.AF_INET6: "/proc/self/net/tcp6"}


def is_stranger(sock: socket.socket) -> bool:
    """Return whether another user than ours, root aside, made this connection to us.

    Root can read the local key and this process's memory anyway. What cannot be found out counts
    as ours: the key still stands.
    """
    if not sys.platform.startswith("linux"):
        return False
    uid = _uid(sock)
    return uid is not None and uid not in (os.getuid(), 0)


def _uid(sock: socket.socket) -> int | None:
    # The other end's row has the addresses the other way round.
    wanted = (_shown(sock.family, sock.getpeername()), _shown(sock.family, sock.getsockname()))
    try:
        with open(TABLES[socket.AddressFamily(sock.family)], encoding="ascii") as table:
            for line in table:
                words = line.split(None, 8)
                if len(words) > 7 and (words[1], words[2]) == wanted:
                    return int(words[7])
    except (OSError, KeyError, ValueError):
        pass
    return None


def _shown(family: int, address: tuple[str, int]) -> str:
    """Write an address as the kernel does: each 32 bits of it in the machine's byte order."""
    packed = socket.inet_pton(family, address[0].partition("%")[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
