"""What file systems offer beyond the standard library: exact renames, private directories, locks.

`os.rename` replaces whatever is there. The kernel can also swap two names, or refuse when the
target exists; Python has no name for either, so they are reached by ctypes.

On Windows modes say nothing, so a file is as private as its directory, which has an access list of its
own; and what another program has open can be renamed only when that program lets go of it.

Errors are those of the system (OSError); `thv_llm.files` puts them into words.

Source: renameat2(2) of Linux, renamex_np(2) of macOS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import sys

if sys.platform == "win32":
    from thv_llm.system import windows
else:
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any

# O_NONBLOCK, because opening a FIFO without a writer would hang.
OPENED = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
HAS_MODES = sys.platform != "win32"
"""Whether a file's mode says who can read it; on Windows that is as its directory's access list says."""
SWAPS_OPEN_FILES = sys.platform != "win32"
"""Whether the new file of a `swap` can still be open."""

MAKES_WRITABLE = "attrib -r" if sys.platform == "win32" else "chmod u+w"
"""The command that ends that a file of one's own is read-only."""

CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""This kernel, or this file system, has no such rename."""

ACCESS_LIST = "system.posix_acl_access"
ACCESS_LISTS = (ACCESS_LIST, "system.nfs4_acl", "system.cifs_acl")
"""Of Linux. All other attributes but the user's are the system's own: labels, capabilities, overlays."""

ACL_MASK, ACL_OTHER = 0x10, 0x20
"""Entries of a POSIX access list: what users and groups that are named in it get at most, and the rest."""

MAC_ACCESS_LIST = 0x100
"""ACL_TYPE_EXTENDED of macOS' sys/acl.h."""

LINUX_HERE = -100
"""AT_FDCWD: paths are as for every other call."""

MAX_STEPS = 200
"""Directories and links on the way to a file; with more, the links are a circle."""

BACKLOG = 1024
"""A crowd of helpers at once must not be refused."""

LINUX_NO_REPLACE, LINUX_SWAP = 1, 2
MAC_SWAP, MAC_NO_REPLACE = 2, 4


def open_file(path: str, flags: int, *, follow: bool = True) -> int:
    """Open a file, binary and not for programs that are started; a new one is private.

    Args:
        flags: as of `os.open`.
        follow: whether a symbolic link is accepted.
    """
    if sys.platform == "win32":
        if os.path.isdir(path):  # the system would say that access is denied
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return windows.patient(lambda: windows.open_shared(path, flags), windows.READ_S)
    return os.open(path, flags | OPENED | (0 if follow else NO_LINK), 0o600)


def is_in_use(error: OSError) -> bool:
    """Tell whether that failed because another program has the file open, which Windows alone minds."""
    return getattr(error, "winerror", None) in (32, 33)  # sharing violation, lock violation


def try_lock(descriptor: int) -> None:
    """Take the lock of an open file, which lasts until its last descriptor is closed.

    Raises:
        BlockingIOError: another open file has it.
    """
    if sys.platform == "win32":
        windows.lock(descriptor)
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # EACCES stands for the same on some file systems
            raise BlockingIOError(error.errno, error.strerror) from None


def dress(descriptor: int, old: os.stat_result | None, mode: int) -> None:
    """Give a new file its mode, and owner and group of the one whose place it takes."""
    if sys.platform != "win32":
        mine = os.fstat(descriptor)
        if old is not None and (mine.st_uid, mine.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, mode)


def attributes(path: str) -> dict[str, bytes]:
    """Return the access list and the user's extended attributes of a file, by name.

    Linux only: on Windows the swap keeps the list of the old file; on macOS attributes are not looked at.
    """
    found = {}
    if sys.platform == "linux":
        with _where_there_are_attributes():
            for name in os.listxattr(path):
                if name.startswith("user.") or name in ACCESS_LISTS:
                    found[name] = os.getxattr(path, name)
    return found


def loses_access_list(path: str) -> bool:
    """Tell whether a file has an access list that a new file in its place would not get: macOS'."""
    if sys.platform == "darwin":
        import ctypes

        library = ctypes.CDLL(None)
        library.acl_get_file.restype = ctypes.c_void_p
        found = library.acl_get_file(os.fsencode(path), MAC_ACCESS_LIST)
        if found:
            library.acl_free(ctypes.c_void_p(found))
        return bool(found)
    return False


def set_attributes(descriptor: int, wanted: Mapping[str, bytes], mode: int) -> None:
    """Give a new file attributes, and no access list but theirs; call `dress` afterwards.

    Args:
        mode: what the file can be used for; an access list gives no more from the beginning.
    """
    if sys.platform == "linux":
        inherited: list[str] = []
        with _where_there_are_attributes():
            inherited = os.listxattr(descriptor)
        if ACCESS_LIST in inherited and ACCESS_LIST not in wanted:  # the default one of the directory
            os.removexattr(descriptor, ACCESS_LIST)
        for name, value in sorted(wanted.items(), reverse=True):  # access lists last
            right = _narrowed(value, mode) if name == ACCESS_LIST else value
            if name not in inherited or os.getxattr(descriptor, name) != right:
                os.setxattr(descriptor, name, right)


@contextlib.contextmanager
def _where_there_are_attributes() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT:
            raise


def _narrowed(access_list: bytes, mode: int) -> bytes:
    """Return a POSIX access list (a header of 4 bytes; tag, permissions, id for each entry) within a mode."""
    narrowed = access_list[:4]
    for tag, permissions, who in struct.iter_unpack("<HHI", access_list[4:]):
        limit = {ACL_MASK: mode >> 3, ACL_OTHER: mode}.get(tag, 7)
        narrowed += struct.pack("<HHI", tag, permissions & limit, who)
    return narrowed


def is_own(found: os.stat_result) -> bool:
    """Tell whether a file belongs to this user; always on Windows, where the directory decides."""
    return sys.platform == "win32" or found.st_uid == os.geteuid()


def directory_for_all() -> str:
    """Return the directory of settings for all users; no variable of the environment says which it is."""
    if sys.platform == "win32":
        return windows.directory_for_all()
    return "/Library/Application Support" if sys.platform == "darwin" else "/etc"


def account(uid: int) -> str:
    """Return the name of a user's account, by its number; "" when it has none, and on Windows."""
    if sys.platform == "win32":
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def changeable_by_others(path: str, owners: Collection[int]) -> str:
    """Return what others than these users can change of a file, its directories and the links to it; or "".

    A directory with the sticky bit (/tmp, Nix's store) protects what is in it. On Windows, where the
    default access list of a directory lets users add files, the file's own owner and list decide.
    """
    if sys.platform == "win32":
        return "" if windows.is_administrators(windows.access_list(path)) else path
    left, at = [name for name in os.path.abspath(path).split("/") if name], "/"
    for _ in range(MAX_STEPS):
        found = os.lstat(at)
        is_link = stat.S_ISLNK(found.st_mode)
        is_shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in owners or (is_shared and not is_link):
            return at
        if is_link:
            target = os.readlink(at)
            at = os.path.dirname(at)
            left = [name for name in target.split("/") if name] + left
            at = "/" if target.startswith("/") else at
        if not left:
            return ""
        at = os.path.normpath(os.path.join(at, left.pop(0)))
    return path


def shared(path: str, found: os.stat_result) -> int:
    """Return what others than the owner can do with a file, as permissions of group and others."""
    if sys.platform == "win32":
        listed = windows.access_list(path)
        reading = stat.S_IROTH | stat.S_IXOTH if windows.lets_others_in(listed) else 0
        return reading | (stat.S_IWOTH if windows.lets_others_write(listed) else 0)
    return stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)


def owning(path: str) -> tuple[str, ...]:
    """Return the command that makes a file this user's."""
    if sys.platform == "win32":
        return ("takeown", "/f", path)
    return ("sudo", "chown", str(os.getuid()), path)


def closing(path: str) -> tuple[str, ...]:
    """Return the command that takes a file from all users but this one."""
    if sys.platform == "win32":
        return ("icacls", path, "/inheritance:r", "/grant:r", f"*{windows.own_sid()}:F")
    return ("chmod", "go=", path)


def sharing(path: str, permissions: int) -> tuple[str, ...]:
    """Return the command that gives permissions to group and others, in letters: macOS adds no numbers."""
    group, others = (stat.filemode(permissions)[at : at + 3].replace("-", "") for at in (4, 7))
    wanted = [f"{who}+{words}" for who, words in (("g", group), ("o", others)) if words]
    return ("chmod", ",".join(wanted), path)


def replace(new: str, target: str) -> None:
    """Rename, whatever there is at `target`."""
    if sys.platform == "win32":
        windows.replace(new, target)
    else:
        os.rename(new, target)


def swap(first: str, second: str) -> bool:
    """Let two files change places in one step; False if the system cannot.

    On Windows the second is the old one, whose access list stays where it was.
    """
    if sys.platform == "win32":
        return windows.swap(first, second)
    return _rename(first, second, LINUX_SWAP, MAC_SWAP)


def undo_swap(first: str, second: str) -> None:
    """Clear away what is left of a `swap` that was cut off: on Windows alone it has two steps.

    The old file goes back where its name is free, which is where the system itself was cut off.
    """
    if sys.platform == "win32":
        windows.undo_swap(first, second)


def move_to_free_name(source: str, target: str) -> bool:
    """Rename to a free name; False if the system cannot.

    Raises:
        FileExistsError: there is something at `target`; it stays.
    """
    if sys.platform == "win32":
        windows.patient(lambda: os.rename(source, target))
        return True
    return _rename(source, target, LINUX_NO_REPLACE, MAC_NO_REPLACE)


def _rename(source: str, target: str, linux_flag: int, mac_flag: int) -> bool:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(source), os.fsencode(target)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(old, new, mac_flag)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(LINUX_HERE, old, LINUX_HERE, new, linux_flag)
    else:
        return False
    if failed and ctypes.get_errno() not in CANNOT:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), source, None, target)
    return not failed


def is_mount_point(path: str) -> bool:
    """Tell whether something is mounted at this very path; a file then cannot be replaced (Linux)."""
    escaped = os.fsencode(path).replace(b"\\", b"\\134")
    for character in b" \t\n":
        escaped = escaped.replace(bytes([character]), b"\\%03o" % character)
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            return any(line.split(b" ")[4] == escaped for line in mounts)
    except OSError:
        return False


def may_run_programs(directory: str) -> bool:
    """Tell whether a program in this directory, or in one made there, can be started."""
    while directory and not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return not (
        directory and hasattr(os, "statvfs") and os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0)
    )


def other_owner(directory: str) -> str:
    """Return the user whose directory it is, when this process is root and that user is not; or ""."""
    if sys.platform == "win32" or os.geteuid() != 0 or not os.path.exists(directory):
        return ""
    owner = os.stat(directory).st_uid
    return (account(owner) or f"uid {owner}") if owner else ""


def private_directory(path: str) -> None:
    """Make a directory that only its owner can enter, parents too; existing ones stay as they are."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        private_directory(parent)
    try:
        if sys.platform == "win32":
            windows.make_private_directory(path)
            return
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # mkdir's mode is narrowed by the umask, chmod's is not
        sync_directory(parent)
    except FileExistsError:
        if not os.path.isdir(path):  # else another process was faster
            raise


def sync_directory(directory: str) -> None:
    """Make a rename in this directory survive a power cut; Windows opens no directory for that."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def claim(socket_path: str) -> int:
    """Take the right to listen on a socket, by a lock on a file beside it: one process at a time.

    It lasts until the last copy of the returned descriptor is closed.

    Raises:
        BlockingIOError: another process has it.
        OSError: there can be no file beside this socket.
    """
    private_directory(os.path.dirname(socket_path))
    descriptor = open_file(f"{socket_path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        try_lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def listen(socket_path: str) -> Any:
    """Listen for this user alone; what a killed process left at that path is removed. Needs the `claim`.

    Returns:
        A Unix socket, or what takes its place (`windows_pipe`).
    """
    if sys.platform == "win32":
        from thv_llm.system.windows_pipe import Listener

        return Listener(socket_path)
    import socket

    try:
        if not stat.S_ISSOCK(os.lstat(socket_path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file of that name")
        os.unlink(socket_path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(socket_path)
        os.chmod(socket_path, 0o600)  # before `listen` no client can connect
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
