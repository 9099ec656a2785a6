"""A process that outlives its caller, and reports to it through a pipe.

A helper is killed when it is slow, alone or with its whole process group. What must not be cut
off in the middle, the exchange of a refresh token, runs here: in a session of its own, deaf to
the signals that end a group, with none of the caller's files open, so that no process that waits for
the end of the caller's output waits for us.

The worker of a helper is a fork on Linux: its caller must still have one thread and have loaded
little. On macOS forks must not use the system's frameworks (keychain, proxies), so there, and for
other callers everywhere, a program is started anew.

Windows has no forks and hands no locks on: the caller keeps what it holds until the worker has
reported. A program that is started there leaves the caller's console and, where that is allowed, the
job (a terminal, an SSH session) with whose end it would be ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

WORKER_FLAG = "--as-worker"
"""The option of `thv-llm token` by which a program that was started anew is the worker, and which."""

DEAF_TO = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if sys.platform != "win32" else []))
KEPT = 3
"""What the caller passes on. 0 and 2 lead to /dev/null, 1 is the pipe."""

HANDS_LOCKS_ON = sys.platform != "win32"
"""Whether the worker has the lock that belongs to what is kept; else its caller has it until it ends."""

HIGHEST_DESCRIPTOR = 4096
READ_BYTES = 65536
MAX_REPORT_BYTES = 65536


def first_line(
    work: Callable[[], None], command: Sequence[str], *, keep: int | None, platform: str = sys.platform
) -> str:
    """Start a worker and return the first line that it writes to descriptor 1; "" if it ends before.

    Args:
        work: what a fork does.
        command: what to start where forks cannot do it.
        keep: a descriptor that the worker gets as well; it is closed here.
    """
    if sys.platform == "win32":
        try:
            return _line_of(_started(command, os.environ, b""))
        finally:
            if keep is not None:
                os.close(keep)
    if platform == "darwin":
        return _first_line(lambda writing: _spawn(command, os.environ, writing, keep), keep)
    return _first_line(lambda writing: _fork(work, writing, keep), keep)


def first_line_of(command: Sequence[str], environ: Mapping[str, str], data: bytes) -> str:
    """Do the same with a program that is started anew: for callers that have threads, or loaded much.

    Args:
        data: what the worker gets from `handed_over`; at most a few kilobytes.
    """
    if sys.platform == "win32":
        return _line_of(_started(command, environ, data))
    keep = _pipe_with(data)
    return _first_line(lambda writing: _spawn(command, environ, writing, keep), keep)


def handed_over() -> bytes:
    """Return what the caller of this worker has for it."""
    return b"".join(iter(lambda: os.read(0 if sys.platform == "win32" else KEPT, READ_BYTES), b""))


def start(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start a program that has nothing of ours, and do not wait for it."""
    if sys.platform == "win32":
        _left(_started(command, environ, None))
    else:
        _spawn_alone(command, environ, None)


def report_of(command: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> str:
    """Start such a program; return what it writes to descriptor 1 until it closes that, or a NUL.

    Returns:
        "" when nothing came within `timeout_s`; what it does then is its own affair.
    """
    if sys.platform == "win32":
        return _report_in_windows(_started(command, environ, b""), timeout_s)
    occupy_standard_descriptors()
    reading, writing = os.pipe()
    try:
        pid = _spawn_alone(command, environ, writing)
    finally:
        os.close(writing)
    try:
        text = _read_until(reading, timeout_s)
    finally:
        os.close(reading)
        # What we started forks and ends at once; only one that hangs before that is left to init.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0 if text else os.WNOHANG)
    return text


def _spawn_alone(command: Sequence[str], environ: Mapping[str, str], stdout: int | None) -> int:
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    report = [] if stdout is None else [(os.POSIX_SPAWN_DUP2, stdout, 1)]
    return os.posix_spawn(command[0], list(command), environ, file_actions=[*null, *report])


def _read_until(descriptor: int, timeout_s: float) -> str:
    import select
    import time

    deadline = time.monotonic() + timeout_s
    text = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        piece = os.read(descriptor, READ_BYTES)
        if not piece or len(text) > MAX_REPORT_BYTES:
            break
        text += piece
        if piece.endswith(b"\0"):
            break
    return text.decode("utf-8", "replace").rstrip("\0")


if sys.platform == "win32":

    def _started(
        command: Sequence[str], environ: Mapping[str, str], data: bytes | None
    ) -> subprocess.Popen[bytes]:
        """Start a program; with `data` it has pipes, and these bytes to read, else nothing."""
        import subprocess

        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        null = subprocess.DEVNULL
        for leaving in (subprocess.CREATE_BREAKAWAY_FROM_JOB, 0):
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=null if data is None else subprocess.PIPE,
                    stdout=null if data is None else subprocess.PIPE,
                    stderr=null,
                    env=dict(environ),
                    cwd=os.path.dirname(sys.executable),  # no directory of the user's is held
                    creationflags=flags | leaving,
                )
                break
            except PermissionError:  # the job lets no process go
                if not leaving:
                    raise
        if process.stdin:
            with process.stdin, contextlib.suppress(OSError):
                process.stdin.write(data or b"")
        return process

    def _left(process: subprocess.Popen[bytes]) -> None:
        process.returncode = 0  # it lives on, and nothing is to be said about that

    def _line_of(process: subprocess.Popen[bytes]) -> str:
        assert process.stdout
        with process.stdout as lines:
            line = lines.readline()
        _left(process)
        return line[:-1].decode("utf-8", "replace").rstrip("\r") if line.endswith(b"\n") else ""

    def _report_in_windows(process: subprocess.Popen[bytes], timeout_s: float) -> str:
        import threading

        found: list[bytes] = []

        def read() -> None:
            assert process.stdout
            with process.stdout as stream:  # its end is not awaited: others can have inherited it
                while piece := os.read(stream.fileno(), READ_BYTES):
                    found.append(piece)
                    if piece.endswith(b"\0"):
                        break

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(timeout_s)
        _left(process)
        return b"".join(found).decode("utf-8", "replace").rstrip("\0")


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


def report(line: str) -> None:
    """Report to the caller, once; its end is no reason to stop."""
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
    if sys.platform == "win32":
        return
    with contextlib.suppress(PermissionError):  # already the leader of one
        os.setsid()
    with contextlib.suppress(OSError):  # nothing was passed on
        os.set_inheritable(KEPT, False)


def leave_parent() -> None:
    """Go on as a process of its own: no terminal, no session of the caller's, no directory held.

    Must be called while the process has one thread. On Windows it was started as one already.
    """
    if sys.platform == "win32":
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)


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
    finally:  # nothing of the caller's own ending must run here
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


def _pipe_with(data: bytes) -> int:
    """Return the reading end of a pipe that holds this and then ends."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
    finally:
        os.close(writing)
    return reading
