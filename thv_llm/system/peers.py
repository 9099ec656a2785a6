"""Which user is at the other end of a connection on this machine, and who has a port.

A Unix socket's peer is known to the kernel on every system. For a loopback connection only Linux
can say: the kernel is asked for the one socket by netlink (`sock_diag(7)`, 20 µs). Where that is
missing (some containers), /proc/net/tcp is read, which takes milliseconds on a busy machine.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

LOCAL_PEERCRED, XUCRED_BYTES = 1, 76  # sys/un.h, sys/ucred.h of macOS
SOL_LOCAL = 0
TAKEN = frozenset({errno.EADDRINUSE, *([errno.EACCES] if sys.platform == "win32" else ())})
"""How binding fails where another program has the port; Windows reserves some, too, and says the same."""
TABLES = {socket.AF_INET: "/proc/self/net/tcp", socket.AF_INET6: "/proc/self/net/tcp6"}
LISTEN = "0A"
"""The state of a listening socket in a table."""
IPPROTO_TCP = int(socket.IPPROTO_TCP)
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
ANY_COOKIE = b"\xff" * 8
HEADER = "=IHHII"
UID_AT = 16 + 4 + 48 + 12
"""In the response: behind its header, four bytes of state, the addresses, and three counters."""

TCP_INFO = "=2xBB52xI"
"""Of `tcp_info`: unacknowledged retransmissions and probes; milliseconds since the last acknowledgement."""
UNANSWERED = 3


class _Row(NamedTuple):
    """A line of /proc/net/tcp: addresses and state as the table writes them. Source: proc(5)."""

    local: str
    remote: str
    state: str
    uid: int
    inode: int


class Owner(NamedTuple):
    """Who has a socket open; `inode` is 0 when its program has closed it already."""

    uid: int
    inode: int


def peer_uid(sock: _socket.socket, platform: str = sys.platform) -> int:
    """Return whose process is at the other end of a Unix socket; -1 when that cannot be known.

    Of a listener, it is the user that called `listen`. Source: unix(7), SO_PEERCRED; macOS unix(4),
    LOCAL_PEERCRED.
    """
    try:
        if platform == "linux":
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        else:
            _, uid = struct.unpack_from("=Ii", sock.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, XUCRED_BYTES))
    except (OSError, struct.error):
        return -1
    return int(uid)


def is_own_user(sock: _socket.socket) -> bool:
    """Tell whether a process of this very user is at the other end of a Unix socket or named pipe."""
    if sys.platform == "win32":
        return sock.is_own_user()  # a `windows_pipe.Connection`
    return peer_uid(sock) == os.getuid()


def listeners(port: int) -> dict[int, int]:
    """Return the inodes of the sockets that listen on a TCP port, with their users' ids. Linux."""
    return {
        row.inode: row.uid
        for family in TABLES
        for row in _rows(family)
        if row.state == LISTEN and int(row.local.rpartition(":")[2], 16) == port
    }


def reserve(sock: socket.socket) -> None:
    """Have a socket that will listen keep its port to itself, though one has just been closed there.

    On Windows the option that does the latter elsewhere lets any program take the port over.
    """
    option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    sock.setsockopt(socket.SOL_SOCKET, option, 1)


def unacknowledged_s(sock: socket.socket) -> float:
    """Return for how long the other end of a TCP connection has acknowledged nothing, though something was
    sent to it again and again; 0.0 when it owes nothing, or the system does not tell.

    Source: tcp_info in linux/tcp.h. A program that does not read has its system acknowledge each probe.
    """
    if not sys.platform.startswith("linux"):
        return 0.0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, struct.calcsize(TCP_INFO))
    retransmits, probes, last_ack_ms = struct.unpack(TCP_INFO, info)
    return float(last_ack_ms) / 1000 if retransmits + probes >= UNANSWERED else 0.0


class Peers:
    """Tells who is at the other end of accepted connections; for one thread."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None
        self._queried = 0

    def is_foreign(self, sock: socket.socket) -> bool:
        """Return whether another user than ours, root aside, is at the other end.

        Root can read the local key and this process's memory anyway. What cannot be found out
        counts as ours: the key still stands. A program that has closed its socket is not to be
        serve; its socket would look like root's.
        """
        if not sys.platform.startswith("linux"):
            return False
        owner = self._query_kernel(sock) or _read_table(sock)
        if owner is None:
            return False
        return owner.inode == 0 or owner.uid not in (os.getuid(), 0)

    def is_open(self, sock: socket.socket) -> bool | None:
        """Return whether a program has the other end open; None when that cannot be known.

        One that has only shut down its sending side still has it.
        """
        if not sys.platform.startswith("linux"):
            return None
        try:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return False
            owner = self._query_kernel(sock) or _read_table(sock)
        except OSError:
            return False
        return None if owner is None else owner.inode != 0

    def close(self) -> None:
        """Release the connection to the kernel; it is made again when it is needed."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _query_kernel(self, sock: socket.socket) -> Owner | None:
        self._queried = (self._queried + 1) & 0xFFFFFFFF
        try:
            if self._kernel is None:
                self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
                self._kernel.setblocking(False)  # it responds before `sendto` returns
            self._kernel.sendto(_question(sock, self._queried), (0, 0))
            response = self._kernel.recv(4096)
        except OSError:
            self.close()
            return None
        if len(response) < UID_AT + 8:
            return None
        _, kind, _, number, _ = struct.unpack_from(HEADER, response)
        if kind != SOCK_DIAG_BY_FAMILY or number != self._queried:
            return None
        return Owner(*struct.unpack_from("=II", response, UID_AT))


def _question(sock: socket.socket, number: int) -> bytes:
    # Seen from the other end, so its address comes first.
    peer, own, family = sock.getpeername(), sock.getsockname(), int(sock.family)
    every_state = 0xFFFFFFFF
    request = struct.pack("=BBxxI", family, IPPROTO_TCP, every_state) + struct.pack("!HH", peer[1], own[1])
    addresses = (_packed(family, end[0]).ljust(16, b"\0") for end in (peer, own))
    request += b"".join(addresses) + bytes(4) + ANY_COOKIE
    return struct.pack(HEADER, 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, number, 0) + request


def _read_table(sock: socket.socket) -> Owner | None:
    wanted = (_shown(sock, sock.getpeername()), _shown(sock, sock.getsockname()))
    rows = _rows(socket.AddressFamily(sock.family))
    return next((Owner(row.uid, row.inode) for row in rows if (row.local, row.remote) == wanted), None)


def _rows(family: int) -> Iterator[_Row]:
    """Read the kernel's table of TCP sockets, as far as it can be read."""
    try:
        with open(TABLES[socket.AddressFamily(family)], encoding="ascii") as table:
            for line in table:
                words = line.split(None, 10)
                if len(words) > 9 and words[0] != "sl":
                    yield _Row(words[1], words[2], words[3], int(words[7]), int(words[9]))
    except (OSError, KeyError, ValueError):
        return


@lru_cache(maxsize=16)
def _packed(family: int, host: str) -> bytes:
    return socket.inet_pton(family, host.partition("%")[0])


def _shown(sock: socket.socket, end: tuple[str, int]) -> str:
    """Write an address as the table does: each 32 bits of it in the machine's byte order."""
    packed = _packed(int(sock.family), end[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"
