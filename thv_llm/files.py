"""Files: atomic replace that keeps symlink, owner and mode; private directories; locks.

Every write of ours goes through `replace`: a temporary file in the same directory, private
from its first byte, synced, renamed over the old one, and the directory synced, so that a
kill at any instant leaves either the old bytes or the new ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator

from thv_llm.errors import ThvLlmError

LOCK_POLL_S = 0.02
TEMP_PREFIX = ".thv-llm-"


class FileChangedError(ThvLlmError):
    """Another program wrote the file between our reading and our writing."""


def read(path: str) -> bytes | None:
    """Return the bytes of a file, or None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def private_directory(path: str) -> None:
    """Make a directory that only its owner can enter, parents too; existing ones stay as they are."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        private_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # mkdir's mode is narrowed by the umask, chmod's is not


def replace(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file's bytes, or create it with `mode`. The directory must exist.

    An existing file keeps its mode and owner, a symbolic link stays one.
    """
    target = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(target).st_mode)
    directory = os.path.dirname(target)
    temp = os.path.join(directory, f"{TEMP_PREFIX}{secrets.token_hex(8)}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temp, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    sync_directory(directory)


def sync_directory(directory: str) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: str, *, timeout_s: float, what: str) -> Iterator[None]:
    """Hold an advisory lock across processes and threads; its directory is made if needed.

    Args:
        timeout_s: how long to wait for another holder.
        what: what the lock protects, for the message ("the session").

    Raises:
        ThvLlmError: still held after `timeout_s`; the message names the holder's pid.
    """
    private_directory(os.path.dirname(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, timeout_s, what)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # releases the lock, too


def _acquire(descriptor: int, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
            raise ThvLlmError(
                f"{what} is in use by another process",
                why=f"process {holder} has held its lock for over {timeout_s:.0f} s",
                next_step="try again; if that process hangs, end it",
            )
        time.sleep(LOCK_POLL_S)
