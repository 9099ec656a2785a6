"""What the system gives this process: memory (who can read it, how threads share it), descriptors.

Best effort: what a system does not offer is done without.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

PR_SET_DUMPABLE = 4  # linux/prctl.h
M_ARENA_MAX = -8  # malloc.h of glibc; mallopt(3)

MOST_DESCRIPTORS = 8192
"""More are of no use, and some programs close every number up to the limit."""
WINDOWS_SOCKETS = 512
"""What one `select` takes there, by how Python is built."""

_limit_at_start: int | None = None


@contextlib.contextmanager
def many_descriptors() -> Iterator[int]:
    """Raise the limit of open descriptors as far as this user can, and yield it. Source: getrlimit(2).

    Programs that are started meanwhile get `as_at_start`, because `select` fails on high numbers.
    """
    global _limit_at_start
    if sys.platform == "win32":
        yield WINDOWS_SOCKETS
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield MOST_DESCRIPTORS
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _limit_at_start = soft
    try:
        yield wanted
    finally:
        _limit_at_start = None
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def as_at_start(command: Sequence[str]) -> list[str]:
    """Return a command line that runs this one with the limit that this process was started with."""
    if _limit_at_start is None:
        return list(command)
    return ["/bin/sh", "-c", f'ulimit -S -n {_limit_at_start}; exec "$@"', "sh", *command]


def harden() -> None:
    """Write no core files or crash reports, and (Linux) refuse debuggers and readers of /proc/PID/mem."""
    if sys.platform == "win32":
        from thv_llm.system import windows

        windows.write_no_dumps()
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def share_one_heap() -> None:
    """Have threads that are started from now on share the heap, where the C library is glibc.

    glibc gives new threads heaps of their own, up to eight for each core, and what a thread that
    lived for one request has left in one stays there: 60 MB after half an hour instead of 40. Python
    runs one thread at a time, so they hardly ever wait for each other at the one heap.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
