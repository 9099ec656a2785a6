"""Run a program, and see that nothing it started outlives it.

    python3 tests/orphans.py COMMAND...

Exits as the program does; with 1 when processes were still there `GRACE_S` after its end. They are
named and killed. Linux hands us whatever loses its parent (prctl(2), PR_SET_CHILD_SUBREAPER), so
nothing escapes by detaching itself; elsewhere the program is just run. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SET_CHILD_SUBREAPER = 36
GRACE_S = 15.0
"""Services look every 5 s whether their home is still there; an interpreter can take a while to end."""
POLL_S = 0.05


def children() -> dict[int, str]:
    """Return our living children, and whom they started, with their command lines."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(place.name)] = int(parent)
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in found | {os.getpid()}} - found:
        found |= more
    return {pid: _command(pid) for pid in sorted(found)}


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").replace("\0", " ")
    return "?"


def _reap(until: int | None = None) -> int | None:
    """Collect who has ended; with `until`, wait for that child and return its exit code."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, 0 if until else os.WNOHANG)
            if pid == until:
                return os.waitstatus_to_exitcode(status)
            if not pid:
                return None
    return None


def left() -> dict[int, str]:
    """Return who is still there after a while."""
    deadline = time.monotonic() + GRACE_S
    while (found := children()) and time.monotonic() < deadline:
        _reap()
        time.sleep(POLL_S)
    return found


def end() -> None:
    """Kill them all, until none is left to start another."""
    while found := children():
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
        _reap()


def main(command: list[str]) -> int:
    """Run it."""
    if sys.platform != "linux":
        return subprocess.run(command, check=False).returncode
    if ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        program = subprocess.Popen(command)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program gets it, too, and ends in its own way
        code = program.returncode = _reap(until=program.pid)
        found = left()
        for pid, line in found.items():
            print(f"still there: {pid} {line}", flush=True)
        return code or (1 if found else 0)
    finally:
        end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
