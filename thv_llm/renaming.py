"""Rename without dropping what another program has put at the target at that very moment.

`os.rename` replaces whatever is there. The kernel can also swap two names, or refuse when the
target exists; Python has no name for either, so they are reached by ctypes.

Source: renameat2(2) of Linux, renamex_np(2) of macOS.
"""

from __future__ import annotations

import errno
import os
import sys

CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""This kernel, or this file system, has no such rename."""

LINUX_HERE = -100
"""AT_FDCWD: paths are as for every other call."""

LINUX_NO_REPLACE, LINUX_SWAP = 1, 2
MAC_SWAP, MAC_NO_REPLACE = 2, 4


def swap(first: str, second: str) -> bool:
    """Let two files change places in one step; False if the system cannot."""
    return _rename(first, second, LINUX_SWAP, MAC_SWAP)


def move_to_free_name(source: str, target: str) -> bool:
    """Rename to a name that nobody has; False if the system cannot.

    Raises:
        FileExistsError: there is something at `target`; it stays.
    """
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
