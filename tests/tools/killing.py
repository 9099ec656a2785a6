"""End the process before any system call that changes a file; in this process, by an exception.

From that call on nothing changes any more, not even what a `finally` would clean up, as after a
`kill -9`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.tools.machines import Machine
from thv_llm.system import file_system

CHANGING = ("mkdir", "chmod", "fchmod", "fchown", "write", "pwrite", "ftruncate", "rename", "unlink", "rmdir")


class Killed(BaseException):
    """The process ends here: nothing that it would still do to a file happens."""


@contextmanager
def killed_before(number: int) -> Iterator[Callable[[], bool]]:
    """End the process before its file-changing system call of that number (from 0).

    Yields a function that tells whether it came that far.
    """
    calls = 0
    with pytest.MonkeyPatch.context() as patched:

        def count() -> None:
            nonlocal calls
            if calls >= number:
                raise Killed
            calls += 1

        def changing(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                count()
                return call(*args, **kwargs)

            return counted

        def opening(path: str, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_CREAT and not os.path.exists(path):
                count()
            return real_open(path, flags, *args, **kwargs)

        real_open = os.open
        for name in CHANGING:
            if hasattr(os, name):
                patched.setattr(os, name, changing(getattr(os, name)))
        patched.setattr(os, "open", opening)
        if sys.platform == "win32":
            for name in ("open_shared", "make_private_directory"):
                patched.setattr(file_system.windows, name, changing(getattr(file_system.windows, name)))
        for name in ("swap", "move_to_free_name"):
            patched.setattr(file_system, name, changing(getattr(file_system, name)))
        with suppress(Killed):
            yield lambda: calls >= number


def everywhere(act: Callable[[Machine], object], prepared: Callable[[int], Machine]) -> Iterator[Machine]:
    """Yield a machine for each place at which `act` can be killed."""
    for number in range(500):
        machine = prepared(number)
        with killed_before(number) as reached:
            act(machine)
        yield machine
        if not reached():
            return
    raise AssertionError("there is no end to it")
