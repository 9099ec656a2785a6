"""One heap for all threads of the service.

glibc gives new threads heaps of their own, up to eight for each core, and what a thread that lived
for one request has left in one stays there: 60 MB after half an hour instead of 40. Python runs one
thread at a time, so they hardly ever wait for each other at the one heap.
"""

from __future__ import annotations

import contextlib
import sys

M_ARENA_MAX = -8  # malloc.h of glibc; mallopt(3)


def share() -> None:
    """Have threads that are started from now on share the heap, where the C library is glibc."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
