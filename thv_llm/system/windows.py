"""What Windows does in its own way: access lists, sharing violations, processes, secrets. By ctypes.

Rule 1: what is private is so by an access list of its own that inherits nothing: this user and the system.
Rule 2: a process is its id together with its creation time; a handle is opened first, compared then.
Rule 3: another program (a virus scanner, an indexer) can hold any file for a moment: renames try again.

Errors are those of the system (OSError with `winerror`).

Source: Microsoft's pages of the named functions; what was seen is said in `tests/windows.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from ctypes import wintypes
from typing import Any, TypeVar

assert sys.platform == "win32"

Result = TypeVar("Result")

ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION = 5, 32, 33
BUSY = frozenset({ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION})
BUSY_S = 2.0
"""How long a program that looks at every new file can hold one."""
READ_S = 0.5
"""The same for a file that is only opened: one that cannot be read at all is to be told soon."""
FIRST_PAUSE_S = 0.01

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
DELETE, NORMAL = 0x00010000, 0x80
SHARE_ALL = 7  # read, write, delete: what is open can be renamed
CREATE_NEW, OPEN_EXISTING, OPEN_ALWAYS = 1, 3, 4
INVALID_HANDLE = ctypes.c_void_p(-1).value
FULL_WIDTH = ("CreateFileW", "OpenProcess", "GetCurrentProcess", "LocalFree", "CreateNamedPipeW")
"""Functions of kernel32 that return a handle or a pointer, not an int."""

LOCK_AT_ONCE, IO_PENDING = 3, 997  # LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY
LOCKED_AT = 1 << 40
"""Locks are mandatory, so the locked byte lies behind everything that is read."""

ASIDE = ".old"
"""Ends the name of the old file in the middle of a swap."""

TOKEN_QUERY, TOKEN_USER = 8, 1
DACL, OWNER = 4, 1  # SECURITY_INFORMATION
SE_FILE_OBJECT = 1
SDDL_REVISION = 1
SHELL_FOLDERS = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders"
ADMINISTRATORS = ("BA", "SY", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464")
"""Administrators, the system, and the installer of Windows, in SDDL."""
READ_RIGHTS = ("FR", "FX", "FRFX", "0x120089", "0x1200a9", "GR", "GRGX")

NO_LIST = "NO_ACCESS_CONTROL"
"""Stands for a list that allows everything to all users, as on a drive without any."""

OTHERS = ("WD", "BU", "AU", "AN", "IU", "BG")
"""Everyone, Users, Authenticated Users, Anonymous, Interactive, Guests, as access lists write them."""

QUERY_LIMITED, TERMINATE = 0x1000, 1
STILL_ACTIVE = 259
TCP_LISTENERS = 3  # TCP_TABLE_OWNER_PID_LISTENER
UI_FORBIDDEN = 1
NO_FAULT_BOXES = 0x8003
NO_HEAP_IN_REPORTS = 1  # WER_FAULT_REPORTING_FLAG_NOHEAP


class SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (
        ("length", wintypes.DWORD),
        ("descriptor", ctypes.c_void_p),
        ("inherits", wintypes.BOOL),
    )


class Blob(ctypes.Structure):
    """DATA_BLOB."""

    _fields_ = (("size", wintypes.DWORD), ("data", ctypes.c_void_p))


class Overlapped(ctypes.Structure):
    """OVERLAPPED, as far as it says where in a file."""

    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("low", wintypes.DWORD),
        ("high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


@functools.cache
def directory_for_all() -> str:
    """Return the directory of settings for all users, as the registry names it."""
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, SHELL_FOLDERS) as key:
            return str(winreg.QueryValueEx(key, "Common AppData")[0])
    except OSError:
        return r"C:\ProgramData"


def library(name: str) -> Any:
    """Return a system library; its functions that give handles or pointers give them in full width."""
    loaded = ctypes.WinDLL(name, use_last_error=True)
    for function in FULL_WIDTH if name == "kernel32" else ():
        getattr(loaded, function).restype = ctypes.c_void_p
    return loaded


def failure(path: str | None = None, code: int | None = None) -> OSError:
    """Return the last error of a call as an exception."""
    number = ctypes.get_last_error() if code is None else code
    return OSError(0, ctypes.FormatError(number).strip(), path, number)


def patient(work: Callable[[], Result], limit_s: float = BUSY_S) -> Result:
    """Return what `work` returns; while another program has the file open, try again.

    Raises:
        OSError: it still had it at the end of `limit_s`, or something else is wrong.
    """
    until, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
    while True:
        try:
            return work()
        except OSError as error:
            if error.winerror not in BUSY or time.monotonic() + pause_s > until:
                raise
        time.sleep(pause_s)
        pause_s *= 1.5


# --- files ---


def open_shared(path: str, flags: int) -> int:
    """Open a file that can be renamed or removed while it is open; a new one is private.

    Not by `os.open`: that forbids both, and tells of a file that another program has open as of one
    that this user cannot read.

    Args:
        flags: as of `os.open`, but O_TRUNC.
    """
    import msvcrt

    disposition = CREATE_NEW if flags & os.O_EXCL else OPEN_ALWAYS if flags & os.O_CREAT else OPEN_EXISTING
    access = GENERIC_READ | (GENERIC_WRITE if flags & (os.O_WRONLY | os.O_RDWR) else 0)
    handle = _opened(path, access, disposition)
    return msvcrt.open_osfhandle(handle, flags | os.O_NOINHERIT | os.O_BINARY)


def _opened(path: str, access: int, disposition: int) -> int:
    new = ctypes.byref(private_descriptor())
    where, kernel = ctypes.c_wchar_p(path), library("kernel32")
    handle = kernel.CreateFileW(where, access, SHARE_ALL, new, disposition, NORMAL, None)
    if handle == INVALID_HANDLE:
        raise failure(path)
    return int(handle)


def lock(descriptor: int) -> None:
    """Take the lock of an open file.

    Raises:
        BlockingIOError: another descriptor has it.
    """
    import msvcrt

    # Not by `msvcrt.locking`: it tells a lock that is held from other failures by `errno`, where that is set.
    handle, where = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor)), Overlapped(high=LOCKED_AT >> 32)
    if not library("kernel32").LockFileEx(handle, LOCK_AT_ONCE, 0, 1, 0, ctypes.byref(where)):
        error = failure()
        if error.winerror in (LOCK_VIOLATION, IO_PENDING):
            raise BlockingIOError(errno.EAGAIN, error.strerror)
        raise error


def replace(new: str, target: str) -> None:
    """Rename, whatever there is at `target`, also one that is read-only."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(target, stat.S_IREAD | stat.S_IWRITE)
    try:
        patient(lambda: os.replace(new, target))
    except PermissionError:  # which says as well that another program has it open
        handle = _opened(target, DELETE, OPEN_EXISTING)
        library("kernel32").CloseHandle(ctypes.c_void_p(handle))
        raise


def swap(new: str, target: str) -> bool:
    """Put a new file into the place of another, which keeps its access list, and the old one under `new`."""
    aside = new + ASIDE

    def replaced() -> None:
        if not library("kernel32").ReplaceFileW(
            ctypes.c_wchar_p(target), ctypes.c_wchar_p(new), ctypes.c_wchar_p(aside), 0, None, None
        ):
            raise failure(target)

    try:
        patient(replaced)
    except OSError:
        undo_swap(new, target)  # it can have moved the old one, and then not the new one
        raise
    patient(lambda: os.rename(aside, new))
    return True


def undo_swap(new: str, target: str) -> None:
    """Put back the old file that a `swap` has moved aside, or remove it where the new one is in its place."""
    with contextlib.suppress(OSError):
        try:
            os.rename(new + ASIDE, target)
        except FileExistsError:
            os.unlink(new + ASIDE)


@functools.cache
def private_descriptor(*, for_directory: bool = False) -> SecurityAttributes:
    """Return a security descriptor for this user and the system alone."""
    flags = "OICI" if for_directory else ""
    text = f"D:P(A;{flags};FA;;;{own_sid()})(A;{flags};FA;;;SY)"
    found = ctypes.c_void_p()
    convert = library("advapi32").ConvertStringSecurityDescriptorToSecurityDescriptorW
    if not convert(ctypes.c_wchar_p(text), SDDL_REVISION, ctypes.byref(found), None):
        raise failure()
    return SecurityAttributes(ctypes.sizeof(SecurityAttributes), found, False)


def make_private_directory(path: str) -> None:
    """Make a directory that this user and the system alone can enter."""
    attributes = private_descriptor(for_directory=True)
    if not library("kernel32").CreateDirectoryW(ctypes.c_wchar_p(path), ctypes.byref(attributes)):
        raise failure(path)


def access_list(path: str) -> str:
    """Return owner and access list of a file in Microsoft's notation (SDDL)."""
    found, text = ctypes.c_void_p(), ctypes.c_void_p()
    advapi, what = library("advapi32"), DACL | OWNER
    code = advapi.GetNamedSecurityInfoW(
        ctypes.c_wchar_p(path), SE_FILE_OBJECT, what, None, None, None, None, ctypes.byref(found)
    )
    if code:
        raise failure(path, code)
    try:
        convert = advapi.ConvertSecurityDescriptorToStringSecurityDescriptorW
        if not convert(found, SDDL_REVISION, what, ctypes.byref(text), None):
            raise failure(path)
        return _taken(text)
    finally:
        library("kernel32").LocalFree(found)


def lets_others_in(listed: str) -> bool:
    """Tell whether an access list (SDDL) allows anything to a group that every user is in."""
    return NO_LIST in listed or any(entry[-1] in OTHERS for entry in _allowing(listed))


def lets_others_write(listed: str) -> bool:
    """Tell whether an access list allows more than reading to such a group."""
    return NO_LIST in listed or any(
        entry[-1] in OTHERS and entry[2] not in READ_RIGHTS for entry in _allowing(listed)
    )


def is_administrators(listed: str) -> bool:
    """Tell whether a file belongs to administrators or the system, and no other user can write to it."""
    others = [entry for entry in _allowing(listed) if entry[-1] not in ADMINISTRATORS]
    owner = listed.partition("D:")[0].removeprefix("O:")
    is_theirs = owner in ADMINISTRATORS and NO_LIST not in listed
    return is_theirs and all(entry[2] in READ_RIGHTS for entry in others)


def _allowing(listed: str) -> list[list[str]]:
    """Return the entries of an access list that allow something: type, flags, rights, …, user."""
    entries = [entry.partition(")")[0].split(";") for entry in listed.partition("D:")[2].split("(")[1:]]
    return [entry for entry in entries if entry[0] == "A"]


def _taken(text: ctypes.c_void_p) -> str:
    """Return a text that the system has allocated, and free it."""
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        library("kernel32").LocalFree(text)


# --- users ---


@functools.cache
def own_sid() -> str:
    """Return the security id of this user."""
    return _sid_of(library("kernel32").GetCurrentProcess())


def sid_of(pid: int) -> str:
    """Return the security id of a process's user; "" when this user cannot know."""
    try:
        with opened(pid, QUERY_LIMITED) as handle:
            return _sid_of(handle)
    except OSError:
        return ""


def _sid_of(process: int) -> str:
    kernel, advapi, token = library("kernel32"), library("advapi32"), wintypes.HANDLE()
    if not advapi.OpenProcessToken(ctypes.c_void_p(process), TOKEN_QUERY, ctypes.byref(token)):
        raise failure()
    try:
        size = wintypes.DWORD()
        advapi.GetTokenInformation(token, TOKEN_USER, None, 0, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        if not advapi.GetTokenInformation(token, TOKEN_USER, data, size, ctypes.byref(size)):
            raise failure()
        text = ctypes.c_void_p()
        sid = ctypes.c_void_p.from_buffer(data)  # TOKEN_USER begins with the pointer to it
        if not advapi.ConvertSidToStringSidW(sid, ctypes.byref(text)):
            raise failure()
        return _taken(text)
    finally:
        kernel.CloseHandle(token)


# --- processes ---


@contextlib.contextmanager
def opened(pid: int, rights: int) -> Iterator[int]:
    """Open a process, so that its id cannot be reused for as long."""
    handle = library("kernel32").OpenProcess(rights, False, pid)
    if not handle:
        raise failure()
    try:
        yield handle
    finally:
        library("kernel32").CloseHandle(ctypes.c_void_p(handle))


def identity(handle: int) -> tuple[str, str]:
    """Return when an open process was created (100 ns since 1601), and its program's file.

    Raises:
        OSError: it has ended, or this user cannot look at it.
    """
    kernel, code = library("kernel32"), wintypes.DWORD()
    kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code))
    if code.value != STILL_ACTIVE:
        raise ProcessLookupError
    times = [wintypes.FILETIME() for _ in range(4)]
    if not kernel.GetProcessTimes(ctypes.c_void_p(handle), *map(ctypes.byref, times)):
        raise failure()
    name, size = ctypes.create_unicode_buffer(32768), wintypes.DWORD(32768)
    kernel.QueryFullProcessImageNameW(ctypes.c_void_p(handle), 0, name, ctypes.byref(size))
    return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime), name.value


def end(handle: int) -> None:
    """End an open process, without a word to it."""
    if not library("kernel32").TerminateProcess(ctypes.c_void_p(handle), 1):
        raise failure()


def listeners(port: int) -> list[int]:
    """Return the ids of the processes that listen on a TCP port of this machine; 0 = not known."""
    found = []
    for family, row_bytes, port_at, pid_at in ((2, 24, 8, 20), (23, 56, 20, 52)):
        size, table = wintypes.DWORD(), library("iphlpapi").GetExtendedTcpTable
        table(None, ctypes.byref(size), False, family, TCP_LISTENERS, 0)
        data = ctypes.create_string_buffer(size.value + 64 * row_bytes)
        size.value = len(data)
        if table(data, ctypes.byref(size), False, family, TCP_LISTENERS, 0):
            continue
        count = int.from_bytes(data.raw[:4], "little")
        for at in range(4, 4 + count * row_bytes, row_bytes):
            row = data.raw[at : at + row_bytes]
            if int.from_bytes(row[port_at : port_at + 2], "big") == port:
                found.append(int.from_bytes(row[pid_at : pid_at + 4], "little"))
    return found


def write_no_dumps() -> None:
    """Keep this process's memory out of error reports, and show no box when it crashes."""
    kernel = library("kernel32")
    kernel.SetErrorMode(NO_FAULT_BOXES)
    with contextlib.suppress(AttributeError, OSError):
        kernel.WerSetFlags(NO_HEAP_IN_REPORTS)


# --- the registry ---

RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"


class RunKey:
    """The command lines that Windows runs when this user logs in, by name."""

    def get(self, name: str) -> str | None:
        """Return one of them, None when there is none of that name."""
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, RUN_KEY) as key:
                return str(winreg.QueryValueEx(key, name)[0])
        except FileNotFoundError:
            return None

    def set(self, name: str, line: str | None) -> None:
        """Set one of them, or remove it."""
        import winreg

        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, RUN_KEY) as key:
            if line is None:
                winreg.DeleteValue(key, name)
            else:
                winreg.SetValueEx(key, name, 0, winreg.REG_SZ, line)


# --- consoles ---


def console_mode(descriptor: int) -> int | None:
    """Return the mode of a console; None for everything else, whatever `isatty` says."""
    import msvcrt

    mode = wintypes.DWORD()
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
    return mode.value if library("kernel32").GetConsoleMode(handle, ctypes.byref(mode)) else None


def add_console_mode(descriptor: int, flag: int) -> bool:
    """Switch something on in the mode of a console; False when it does not know that."""
    import msvcrt

    mode = console_mode(descriptor)
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
    return mode is not None and bool(library("kernel32").SetConsoleMode(handle, mode | flag))


# --- secrets ---


def protect(data: bytes, bound_to: bytes) -> bytes:
    """Encrypt for this user of this machine (DPAPI).

    Args:
        bound_to: what must be given again to decrypt it.
    """
    return _by_dpapi("CryptProtectData", data, bound_to)


def unprotect(data: bytes, bound_to: bytes) -> bytes:
    """Decrypt what `protect` returned.

    Raises:
        OSError: it is another user's, was changed, or this logon has no access to the user's keys.
    """
    return _by_dpapi("CryptUnprotectData", data, bound_to)


def _by_dpapi(function: str, data: bytes, bound_to: bytes) -> bytes:
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in (data, bound_to)]
    given, entropy = (Blob(len(buffer), ctypes.addressof(buffer)) for buffer in buffers)
    out = Blob()
    call = getattr(library("crypt32"), function)
    arguments = (ctypes.byref(given), None, ctypes.byref(entropy), None, None, UI_FORBIDDEN)
    if not call(*arguments, ctypes.byref(out)):
        raise failure()
    try:
        return ctypes.string_at(out.data, out.size)
    finally:
        library("kernel32").LocalFree(ctypes.c_void_p(out.data))
