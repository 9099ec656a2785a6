"""The right to listen on a socket: one process at a time, by a lock on a file beside it."""

from __future__ import annotations

import fcntl
import os


def claim(socket_path: str) -> int:
    """Take the right to listen on a socket; it lasts until the descriptor's last copy is closed.

    Raises:
        BlockingIOError: another process has it.
        OSError, ThvLlmError: there can be no file beside this socket.
    """
    directory = os.path.dirname(socket_path)
    if not os.path.isdir(directory):
        from thv_llm import files  # 5 ms that a waiting helper is spared

        files.private_directory(directory)
    descriptor = os.open(f"{socket_path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
