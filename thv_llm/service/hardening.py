"""Keep other programs of this user, and crash reports, away from the tokens in our memory.

Best effort: what a system does not offer is done without.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

PR_SET_DUMPABLE = 4  # linux/prctl.h
LOCAL_PEERCRED, XUCRED_BYTES = 1, 76  # sys/un.h, sys/ucred.h of macOS
SOL_LOCAL = 0


def harden() -> None:
    """Write no core files, and (Linux) refuse debuggers and readers of /proc/PID/mem."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def peer_uid(sock: socket.socket, platform: str = sys.platform) -> int:
    """Return whose process is at the other end of a Unix socket; -1 when that cannot be known.

    Source: unix(7), SO_PEERCRED; macOS unix(4), LOCAL_PEERCRED.
    """
    try:
        if platform == "linux":
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        else:
            _, uid = struct.unpack_from("=Ii", sock.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, XUCRED_BYTES))
    except (OSError, struct.error):
        return -1
    return int(uid)
