"""The person at the machine, as a login sees them.

Plain values, so that a test can be that person.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

MAX_LINE_BYTES = 16384  # a pasted redirect URL; codes of a few kB exist


def _nobody(url: str) -> None:
    """Tell nobody."""


def _no_code(url: str, code: str, lifetime_s: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Interaction:
    """What a login may ask of the person.

    Attributes:
        say: show one line.
        open_browser: show a URL; False when no browser could be started.
        read_line: wait at most that many seconds for one line; None when none came. The
            attribute itself is None when there is no terminal to read from.
        announce: told the URL at which the person can finish this login (`login_once`).
        announce_code: told that page, the code to enter there, and for how many seconds it is good.
        sleep: wait that many seconds.
    """

    say: Callable[[str], None]
    open_browser: Callable[[str], bool]
    read_line: Callable[[float], str | None] | None = None
    announce: Callable[[str], None] = _nobody
    announce_code: Callable[[str, str, float], None] = _no_code
    sleep: Callable[[float], None] = time.sleep


def terminal_lines(stdin: TextIO) -> Callable[[float], str | None] | None:
    """Return a `read_line` for this terminal, None when it is none.

    It reads by `select`, not by a thread: a thread would still sit in the terminal when the
    login has ended another way, and take the next thing that is typed.
    """
    try:
        if not stdin.isatty():
            return None
        descriptor = stdin.fileno()
    except (OSError, ValueError):
        return None
    return _LineReader(descriptor).read


class _LineReader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""
        self._is_open = True

    def read(self, timeout_s: float) -> str | None:
        """Return one line without its end, None when there is none in time."""
        until = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            rest_s = max(0.0, until - time.monotonic())
            if not self._is_open:
                time.sleep(rest_s)  # the terminal is gone; keep the pace of one that is silent
                return None
            if not select.select([self._descriptor], [], [], rest_s)[0]:
                return None
            self._fill()
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    def _fill(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            data = b""
        self._is_open = bool(data)
        self._pending = (self._pending + data)[-MAX_LINE_BYTES:]
