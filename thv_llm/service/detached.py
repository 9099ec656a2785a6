"""A process that outlives its caller, and reports to it through a pipe.

A helper is killed when it is slow, alone or with its whole process group. What must not be cut
off in the middle, the exchange of a refresh token, runs here: in a session of its own, deaf to
the signals that end a group, with none of the caller's files open, so that nobody who waits for
the end of the caller's output waits for us.

The worker of a helper is a fork on Linux: its caller must still have one thread and have loaded
little. On macOS forks may not use the system's frameworks (keychain, proxies), so there, and for
other callers everywhere, a program is started anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WORKER_FLAG = "--as-worker"
"""The option of `thv-llm token` by which a program that was started anew is the worker, and which."""

DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KEPT = 3
"""What the caller passes on. 0 and 2 lead to /dev/null, 1 is the pipe."""

HIGHEST_DESCRIPTOR = 4096
READ_BYTES = 65536


def first_line(
    work: Callable[[], None], command: Sequence[str], *, keep: int | None, platform: str = sys.platform
) -> str:
    """Start a worker and return the first line that it writes to descriptor 1; "" if it ends before.

    Args:
        work: what a fork does.
        command: what to start where forks cannot do it.
        keep: a descriptor that the worker gets as well; it is closed here.
    """
    if platform == "darwin":
        return first_line_of(command, os.environ, keep=keep)
    return _first_line(lambda writing: _fork(work, writing, keep), keep)


def first_line_of(command: Sequence[str], environ: Mapping[str, str], *, keep: int | None) -> str:
    """Do the same with a program that is started anew: for callers that have threads, or loaded much."""
    return _first_line(lambda writing: _spawn(command, environ, writing, keep), keep)


def _first_line(start: Callable[[int], None], keep: int | None) -> str:
    occupy_standard_descriptors()
    reading, writing = os.pipe()
    try:
        start(writing)
    finally:
        os.close(writing)
        if keep is not None:
            os.close(keep)
    try:
        return _line_from(reading)
    finally:
        os.close(reading)


def answer(line: str) -> None:
    """Report to the caller, once; that he has gone is no reason to stop."""
    try:
        data = line.encode("utf-8", "replace") + b"\n"
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        pass
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def settle_in() -> None:
    """Leave the caller's session and be deaf to the signals that end a process group.

    What was passed on does not go to programs that the worker starts.
    """
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):  # already the leader of one
        os.setsid()
    with contextlib.suppress(OSError):  # nothing was passed on
        os.set_inheritable(KEPT, False)


def occupy_standard_descriptors() -> None:
    """Make sure that no pipe gets a number below 3 because the caller closed its stdout."""
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(null, False)
    os.close(null)


def _fork(work: Callable[[], None], writing: int, keep: int | None) -> None:
    if os.fork():
        return
    try:
        _only(writing, keep)
        settle_in()
        work()
    finally:  # nothing of the caller's own ending may run here
        os._exit(0)


def _only(writing: int, keep: int | None) -> None:
    """Keep the pipe as 1 and `keep` as 3; 0 and 2 lead nowhere; everything else is closed."""
    pipe, null = os.dup(writing), os.open(os.devnull, os.O_RDWR)
    kept = os.dup(keep) if keep is not None else os.dup(null)
    numbers = [os.dup2(null, 0), os.dup2(pipe, 1), os.dup2(null, 2), os.dup2(kept, KEPT)]
    for number in numbers:
        os.set_inheritable(number, False)
    os.closerange(KEPT + 1, HIGHEST_DESCRIPTOR)


def _spawn(command: Sequence[str], environ: Mapping[str, str], writing: int, keep: int | None) -> None:
    kept = []
    if keep == KEPT:  # a descriptor that is copied onto itself would still close
        os.set_inheritable(keep, True)
    elif keep is not None:
        kept = [(os.POSIX_SPAWN_DUP2, keep, KEPT)]
    actions = [
        *kept,
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    os.posix_spawn(command[0], list(command), environ, file_actions=actions)


def _line_from(reading: int) -> str:
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(reading, READ_BYTES)
        if not more:
            return ""
        data += more
    return data[:-1].decode("utf-8", "replace")
