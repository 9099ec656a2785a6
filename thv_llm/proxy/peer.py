"""Which user is at the other end of a loopback connection. Linux only; elsewhere nobody can say.

The kernel is asked for the one socket by netlink (`sock_diag(7)`, 20 µs). Where that is missing
(some containers), /proc/net/tcp is read, which takes milliseconds on a busy machine.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import NamedTuple

TABLES = {socket.AF_INET: "/proc/self/net/tcp", socket.AF_INET6: "/proc/self/net/tcp6"}
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
ANY_COOKIE = b"\xff" * 8
HEADER = "=IHHII"
UID_AT = 16 + 4 + 48 + 12
"""In the answer: behind its header, four bytes of state, the addresses, and three counters."""


class Owner(NamedTuple):
    """Who has a socket open; `inode` is 0 when its program has closed it already."""

    uid: int
    inode: int


class Peers:
    """Tells who is at the other end of accepted connections; for one thread."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None
        self._asked = 0

    def is_stranger(self, sock: socket.socket) -> bool:
        """Return whether another user than ours, root aside, is at the other end.

        Root can read the local key and this process's memory anyway. What cannot be found out
        counts as ours: the key still stands. A program that has closed its socket is nobody to
        serve; its socket would look like root's.
        """
        if not sys.platform.startswith("linux"):
            return False
        owner = self._ask_kernel(sock) or _read_table(sock)
        if owner is None:
            return False
        return owner.inode == 0 or owner.uid not in (os.getuid(), 0)

    def close(self) -> None:
        """Release the connection to the kernel; it is made again when it is needed."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _ask_kernel(self, sock: socket.socket) -> Owner | None:
        self._asked = (self._asked + 1) & 0xFFFFFFFF
        try:
            if self._kernel is None:
                self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
                self._kernel.setblocking(False)  # it answers before `sendto` returns
            self._kernel.sendto(_question(sock, self._asked), (0, 0))
            answer = self._kernel.recv(4096)
        except OSError:
            self.close()
            return None
        if len(answer) < UID_AT + 8:
            return None
        _, kind, _, number, _ = struct.unpack_from(HEADER, answer)
        if kind != SOCK_DIAG_BY_FAMILY or number != self._asked:
            return None
        return Owner(*struct.unpack_from("=II", answer, UID_AT))


def _question(sock: socket.socket, number: int) -> bytes:
    # Seen from the other end, so its address comes first.
    ends = (sock.getpeername(), sock.getsockname())
    ports = b"".join(struct.pack("!H", end[1]) for end in ends)
    addresses = b"".join(_packed(sock, end).ljust(16, b"\0") for end in ends)
    every_state = 0xFFFFFFFF
    request = struct.pack("=BBxxI", sock.family, socket.IPPROTO_TCP, every_state)
    request += ports + addresses + bytes(4) + ANY_COOKIE
    return struct.pack(HEADER, 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, number, 0) + request


def _read_table(sock: socket.socket) -> Owner | None:
    wanted = (_shown(sock, sock.getpeername()), _shown(sock, sock.getsockname()))
    try:
        with open(TABLES[socket.AddressFamily(sock.family)], encoding="ascii") as table:
            for line in table:
                words = line.split(None, 10)
                if len(words) > 9 and (words[1], words[2]) == wanted:
                    return Owner(int(words[7]), int(words[9]))
    except (OSError, KeyError, ValueError):
        pass
    return None


def _packed(sock: socket.socket, end: tuple[str, int]) -> bytes:
    return socket.inet_pton(sock.family, end[0].partition("%")[0])


def _shown(sock: socket.socket, end: tuple[str, int]) -> str:
    """Write an address as the table does: each 32 bits of it in the machine's byte order."""
    packed = _packed(sock, end)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"
