"""Files: atomic replace that keeps metadata; private directories; locks.

Every write of ours goes through `replace`: a temporary file in the same directory, private
from its first byte, synced, renamed over the old one, and the directory synced, so that a
kill at any instant leaves either the old bytes or the new ones.

Refused, because replacing them would lose something: files with several hard links, FIFOs,
devices and directories, dangling links, read-only files, and files whose owner, group, access list
or extended attributes could not be kept. What another program wrote since we read the file is
noticed and stays (`expected`), up to the very rename where the system can swap files.

A file is deleted only when it is proven to be ours. A temporary file in a directory of the user's
has a name that its writer has recorded beforehand; one in a directory of ours has one fixed name for
each file. What a killed run left under such a name is removed; its writer holds a lock on it, so that
one in use is never taken for a left-over. A name that only looks like one of ours proves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
import time
from collections.abc import Iterable, Iterator
from operator import attrgetter
from types import EllipsisType

from thv_llm.errors import ThvLlmError
from thv_llm.system import file_system
from thv_llm.system.file_system import sync_directory

LOCK_POLL_S = 0.02
TEMP_PREFIX = ".thv-llm-"
TEMP_NAME = re.compile(rf"{re.escape(TEMP_PREFIX)}[0-9a-f]{{16}}")
SHARED = stat.S_IRWXG | stat.S_IRWXO
READS, READ_AGAIN_S = 10, 0.1
SETTLED_S = 2.0
"""How long a file must have been empty before we believe it."""
NOT_REGULAR = "it is not a regular file"
READ_BYTES = 1 << 20
"""How much to ask of one read call; settings files are far smaller."""

REMEDIES = {
    errno.ENOSPC: "free some disk space and run it again",
    errno.EDQUOT: "free some of your disk quota and run it again",
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "check the permissions of the file and of its directory",
    errno.EPERM: "check the owner of the file and of its directory",
}

IN_USE_OR_GONE = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT, errno.ENOTDIR}
"""What `rmdir` says of a directory that is not ours to remove any more."""


class FileChangedError(ThvLlmError):
    """Another program wrote the file between our reading and our writing."""


class LockHeldError(ThvLlmError):
    """Another process still held the lock when the wait for it ended."""


@contextlib.contextmanager
def _named(what: str, path: str) -> Iterator[None]:
    """Turn an OSError into an error that names the file and what helps."""
    try:
        yield
    except OSError as error:
        if file_system.is_in_use(error):
            why, remedy = "another program has it open", "close it there, and run it again"
        else:
            why = os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__
            remedy = REMEDIES.get(error.errno or 0, "")
        raise ThvLlmError(f"cannot {what} {path}", why=why, next_step=remedy) from error


def read(path: str) -> bytes | None:
    """Return the bytes of a regular file, or None when there is no such file."""
    with _named("read", path):
        try:
            descriptor = file_system.open_file(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except IsADirectoryError:  # which other systems open
            raise ThvLlmError(f"cannot read {path}", why=NOT_REGULAR) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                next_step = "move it away, and run it again"
                raise ThvLlmError(f"cannot read {path}", why=NOT_REGULAR, next_step=next_step)
            return b"".join(iter(lambda: os.read(descriptor, READ_BYTES), b""))
        finally:
            os.close(descriptor)


def read_settled(path: str) -> bytes | None:
    """Return the bytes of a file of another program's that we are about to edit, None when there is none.

    A program that opens its file with truncation and then writes leaves it empty in between, and would
    write on into what we have replaced. So an empty file that has just changed is read again.

    Raises:
        ThvLlmError: it stays empty.
    """
    for _ in range(READS):
        data = read(path)
        if data != b"" or not _has_just_changed(path):
            return data
        time.sleep(READ_AGAIN_S)
    why = (
        f"it is empty and was changed less than {SETTLED_S:.0f} seconds ago; a program is perhaps writing it"
    )
    raise _refused(path, why, "run it again")


def _has_just_changed(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return abs(time.time() - os.stat(path).st_mtime) < SETTLED_S
    return False


def is_still(path: str, known: os.stat_result) -> bool:
    """Tell whether what is at this path is the very file that was seen before, whatever it holds now."""
    try:
        return os.path.samestat(os.stat(path), known)
    except OSError:
        return False


def differ(found: os.stat_result, known: os.stat_result | None) -> bool:
    """Tell whether a file was replaced or written since it was seen before."""
    state = attrgetter("st_ino", "st_mtime_ns", "st_size")
    return known is None or state(found) != state(known)


def private_directory(path: str) -> None:
    """Make a directory that only its owner can enter, parents too; existing ones stay as they are."""
    with _named("make the directory", path):
        file_system.private_directory(path)


def missing_directories(path: str) -> tuple[str, ...]:
    """Return the parents of `path` that do not exist, outermost first."""
    missing: list[str] = []
    parent = os.path.dirname(path)
    while parent and not os.path.lexists(parent):
        missing.insert(0, parent)
        parent = os.path.dirname(parent)
    return tuple(missing)


def remove_empty_directories(directories: Iterable[str]) -> None:
    """Remove the given directories, innermost first; those that are missing or in use stay.

    Raises:
        ThvLlmError: one could not be removed, which is empty.
    """
    for directory in sorted(directories, key=len, reverse=True):
        with _named("remove the directory", directory):
            try:
                os.rmdir(directory)
            except OSError as error:
                if error.errno not in IN_USE_OR_GONE:
                    raise


def replace(
    path: str,
    data: bytes,
    *,
    mode: int = 0o600,
    expected: bytes | EllipsisType | None = ...,
    denied: int = 0,
    temporary: str | None = None,
    is_ours: bool = False,
) -> None:
    """Replace a file's bytes, or create it with `mode`. The directory must exist.

    An existing file keeps its mode, owner, access list and the user's extended attributes; a directory's
    default access list does not come in. A symbolic link (or a chain of them) stays one.

    Args:
        temporary: the name to write under first, from `temporary_name`; left out, the fixed name of a
            file in a directory of ours.
        expected: what the caller read before (None = no such file); left out, anything goes.
        denied: permissions that an existing file loses.
        is_ours: whether it is a file of our own, which is written although it is read-only.

    Raises:
        FileChangedError: the file no longer holds `expected`; it stays as it is.
        ThvLlmError: the file cannot be replaced without loss, or the system refused; the old
            bytes are intact.
    """
    with _named("write", path):
        target, found = _replaceable(path, is_ours=is_ours)
        directory = os.path.dirname(target)
        temp, descriptor = _temporary(path, target, temporary)
        try:
            try:
                _write_all(descriptor, data)
                if found is not None:
                    mode = stat.S_IMODE(found.st_mode) & ~denied
                kept = {} if found is None else file_system.attributes(target)
                with _named("keep the access list and the attributes of", path):
                    file_system.set_attributes(descriptor, kept, mode)
                file_system.dress(descriptor, found, mode)
                if not data:  # it must not look like one that is being written
                    settled = time.time() - SETTLED_S
                    os.utime(temp, (settled, settled))
                os.fsync(descriptor)
                if file_system.SWAPS_OPEN_FILES or not isinstance(expected, bytes):
                    _put(temp, target, data, expected)
            finally:
                os.close(descriptor)
            if not file_system.SWAPS_OPEN_FILES and isinstance(expected, bytes):
                _put(temp, target, data, expected)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp)
            raise
        sync_directory(directory)


def require_writable(path: str, *, is_ours: bool = False) -> None:
    """Raise unless `replace` could write there; nothing is touched.

    Raises:
        ThvLlmError: the file must not or cannot be replaced, or its directory (or the one to make it in)
            is read-only. Without a next step, only an edit by hand can help.
    """
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        if os.path.islink(parent):
            why = f"{parent} is a symbolic link to a directory that does not exist"
            raise _refused(path, why, "make that directory or remove the link, and run it again")
        parent = os.path.dirname(parent)
    with _named("write", path):
        target, found = _replaceable(path, is_ours=is_ours)
        if found and file_system.is_mount_point(target):
            raise _refused(path, "it is mounted by itself (a bind mount), so that no new file can replace it")
    directory = os.path.dirname(target)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        next_step = "make it writable, or set THV_LLM_HOME to a directory of your own" if is_ours else ""
        raise _refused(path, f"the directory {directory} cannot be written", next_step)
    if found and not is_ours:
        try:
            os.close(file_system.open_file(target, os.O_WRONLY))
        except PermissionError as error:
            if error.errno == errno.EPERM:  # its mode alone would let us
                raise _immutable(path, target) from error


def delete(path: str, *, expected: bytes) -> None:
    """Delete a file that still holds `expected`; of a symbolic link, the link and not its target.

    Raises:
        FileChangedError: it holds something else; it stays.
    """
    with _named("delete", path):
        _must_hold(path, expected)
        os.unlink(path)
        sync_directory(os.path.dirname(path))


def shared(path: str) -> int:
    """Return what others than the owner can do with a file: the permissions of group and others.

    0 as well when there is no such file, it is another user's, or it has no mode (Windows).
    """
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        if file_system.HAS_MODES and file_system.is_own(found):
            return stat.S_IMODE(found.st_mode) & SHARED
    return 0


def share(path: str, permissions: int) -> None:
    """Give a private file permissions of group and others; one that is shared already stays as it is."""
    with _named("change the mode of", path), contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        if permissions & SHARED and stat.S_ISREG(found.st_mode) and not found.st_mode & SHARED:
            os.chmod(path, stat.S_IMODE(found.st_mode) | permissions & SHARED)


def temporary_name(path: str) -> str:
    """Return a new name beside what a path leads to, to be recorded before `replace` makes it."""
    return os.path.join(os.path.dirname(os.path.realpath(path)), TEMP_PREFIX + os.urandom(8).hex())


def temporary_of(path: str) -> str:
    """Return the fixed temporary name of a file in a directory of ours, which a killed run can leave."""
    directory, base = os.path.split(path)
    return os.path.join(directory, TEMP_PREFIX + base)


def remove_temporary(temporary: str, path: str) -> None:
    """Remove what a killed `replace` of a path left under a recorded name.

    The record is not trusted: a name that `temporary_name` could not have made for this path stays.
    """
    directory, name = os.path.split(temporary)
    if directory == os.path.dirname(os.path.realpath(path)) and TEMP_NAME.fullmatch(name):
        file_system.undo_swap(temporary, path)
        _remove_if_abandoned(temporary)


def remove_left_over(path: str) -> None:
    """Remove what a killed `replace` of a file in a directory of ours left, where it is not replaced now."""
    _remove_if_abandoned(temporary_of(path))


def _remove_if_abandoned(temp: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = file_system.open_file(temp, os.O_RDONLY, follow=False)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and file_system.is_own(found):
                file_system.try_lock(descriptor)
                if is_still(temp, found):  # else its writer has just put it into its place
                    os.unlink(temp)
        finally:
            os.close(descriptor)


def _replaceable(path: str, *, is_ours: bool = False) -> tuple[str, os.stat_result | None]:
    """Return what `path` leads to, and its state (None: to be created), if it can be replaced."""
    target = os.path.realpath(path)
    try:
        found = os.stat(target)
    except FileNotFoundError:
        if os.path.islink(path):
            raise _refused(path, "it is a symbolic link to a file that does not exist") from None
        return target, None
    if not stat.S_ISREG(found.st_mode):
        raise _refused(path, NOT_REGULAR)
    if found.st_nlink > 1:
        raise _refused(path, f"it has {found.st_nlink} hard links, and replacing it would part them")
    if file_system.loses_access_list(target):
        remove = f"remove the list (chmod -N {shlex.quote(target)}) and run it again"
        raise _refused(path, "it has an access list, which cannot be kept on macOS", remove)
    # The owner's bit is asked for by itself, because access() lets root write anything.
    is_writable = found.st_mode & stat.S_IWUSR and os.access(target, os.W_OK)
    if not is_writable and not (is_ours and file_system.is_own(found) and not os.path.islink(path)):
        raise _read_only(path, target, found)
    return target, found


def _read_only(path: str, target: str, found: os.stat_result) -> ThvLlmError:
    """Return the refusal of a read-only file, with what helps; nothing does where a link leads to a store."""
    directory = os.path.dirname(target)
    if not os.access(directory, os.W_OK | os.X_OK):
        where = f"; it lies at {target}" if target != os.path.abspath(path) else ""
        return _refused(path, f"it is read-only, and so is its directory{where}")
    if not file_system.is_own(found):
        return _refused(path, "it is read-only and belongs to another user")
    if found.st_mode & stat.S_IWUSR:
        return _immutable(path, target)
    return _refused(
        path, "it is read-only", f"make it writable ({file_system.MAKES_WRITABLE}) and run it again"
    )


def _immutable(path: str, target: str) -> ThvLlmError:
    next_step = f"sudo chattr -ia {shlex.quote(target)}, and run it again"
    return _refused(path, "it is immutable or append-only (chattr)", next_step)


def _refused(path: str, why: str, next_step: str = "") -> ThvLlmError:
    return ThvLlmError(f"cannot write {path}", why=why, next_step=next_step)


def _temporary(path: str, target: str, name: str | None) -> tuple[str, int]:
    """Create a temporary file that is private from its first byte, and lock it."""
    if name is None and not os.path.islink(path):  # a link of the user's leads out of our directories
        name = temporary_of(target)
        _remove_if_abandoned(name)
    while True:
        temp, name = name or temporary_name(path), None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = file_system.open_file(temp, flags)
        except FileExistsError:  # another writer's, or not ours
            continue
        if _locked(descriptor) and os.fstat(descriptor).st_nlink:
            return temp, descriptor
        os.close(descriptor)  # another writer took it for a left-over between the two calls


def _locked(descriptor: int) -> bool:
    try:
        file_system.try_lock(descriptor)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks has no sweeps, either
        return True
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _put(temp: str, target: str, data: bytes, expected: bytes | EllipsisType | None) -> None:
    """Rename the new file into its place, unless the old one is not as expected."""
    if isinstance(expected, EllipsisType):
        file_system.replace(temp, target)
        return
    _must_hold(target, expected)
    move = file_system.move_to_free_name if expected is None else file_system.swap
    try:
        is_moved = move(temp, target)
    except (FileExistsError, FileNotFoundError):
        raise _changed(target) from None
    if not is_moved:
        file_system.replace(temp, target)
    elif expected is not None:
        _look_at_the_old(temp, target, data, expected)


def _look_at_the_old(temp: str, target: str, data: bytes, expected: bytes) -> None:
    """After a swap: if the old file is not the expected one after all, it goes back to its place."""
    if not os.path.lexists(temp) or _holds(temp, expected):
        with contextlib.suppress(FileNotFoundError):  # no process holds a lock on it: a sweep can take it
            os.unlink(temp)
        return
    file_system.swap(temp, target)
    if read(temp) != data:  # they have written once more, and theirs is the latest
        file_system.swap(temp, target)
    raise _changed(target)


def _must_hold(path: str, expected: bytes | None) -> None:
    if not _holds(path, expected):
        raise _changed(path)


def _holds(path: str, expected: bytes | None) -> bool:
    return read(path) == expected and not (expected == b"" and _has_just_changed(path))


def _changed(path: str) -> FileChangedError:
    return FileChangedError(f"{path} was changed by another program at this moment", next_step="run it again")


@contextlib.contextmanager
def lock(path: str, *, timeout_s: float, what: str) -> Iterator[None]:
    """Hold an advisory lock across processes and threads; its directory is made if needed.

    Args:
        timeout_s: how long to wait for another holder.
        what: what the lock protects, for the message ("the session").

    Raises:
        LockHeldError: still held after `timeout_s`; the message names the holder's pid.
        ThvLlmError: the lock file cannot be opened.
    """
    private_directory(os.path.dirname(path))
    with _named("lock", path):
        descriptor = file_system.open_file(path, os.O_RDWR | os.O_CREAT, follow=False)
    try:
        with _named("lock", path):
            _acquire(descriptor, timeout_s, what)
            file_system.dress(descriptor, None, 0o600)  # whatever the umask made of it
        with contextlib.suppress(OSError):  # only a message needs it, and the disk can be full
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)  # releases the lock, too


def _acquire(descriptor: int, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            file_system.try_lock(descriptor)
            return
        except BlockingIOError:
            pass
        if time.monotonic() >= deadline:
            holder = os.read(descriptor, 20).decode("ascii", "replace") or "unknown"
            raise LockHeldError(
                f"{what} is in use by another process",
                why=f"process {holder} has held its lock for over {timeout_s:.0f} s",
                next_step="try again; if that process hangs, end it",
            )
        time.sleep(LOCK_POLL_S)
