"""See by strace which system calls of a command change files, and strike at one of them.

A strike is a SIGKILL that arrives before the call is made, or an error in place of the call.
strace counts the calls of each kind for each thread; ours change files in the main thread only,
which `calls` makes sure of, so a strike needs to look at no other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    *("openat", "write", "pwrite64", "ftruncate", "mkdirat", "renameat", "renameat2", "unlinkat"),
    *("fchmod", "fchmodat", "fchown", "fchownat", "linkat", "symlinkat", "utimensat", "fsync", "fdatasync"),
    *("open", "creat", "truncate", "mkdir", "rmdir", "rename", "unlink", "chmod", "chown", "link", "symlink"),
)
"""Newer processors have no calls of the last row."""
OPENING = ("openat", "open")
KILL = "signal=SIGKILL"
STRACE = shutil.which("strace") or ""
LINE = re.compile(r"(?:(?P<thread>\d+) +)?(?P<name>\w+)\((?P<rest>.*)")


class CannotTraceError(Exception):
    """There is no strace here, or it is not allowed to trace."""


WORKERS = re.compile(r"/(?:\.thv-llm-)?llm-(?:session|refresh-failure|discovery)")
"""Files of a worker that refreshes a session."""


@dataclass(frozen=True)
class Call:
    """A system call: the `number`th of its kind, from 1."""

    name: str
    number: int
    text: str


def check() -> None:
    """Raise unless a process can be traced here."""
    if not STRACE:
        raise CannotTraceError("strace is not installed (Debian: apt install strace)")
    done = subprocess.run([STRACE, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotTraceError(f"strace cannot trace here: {done.stderr.strip()}")


def looking(trace: Path) -> list[str]:
    """Return what goes in front of a command to see the calls of all its threads and processes."""
    return [STRACE, "-f", "-y", "-o", str(trace), "-e", _changing(), "--"]


def striking(trace: Path, call: Call, what: str) -> list[str]:
    """Return what goes in front of a command to strike at a call.

    Args:
        what: `KILL`, or "error=" and a name of errno(3).
    """
    strike = f"inject={call.name}:{what}:when={call.number}"
    return [STRACE, "-y", "-o", str(trace), "-e", _changing(), "-e", strike, "--"]


def _changing() -> str:
    return "trace=" + ",".join(f"?{name}" for name in CHANGING)


def calls(trace: Path, below: Path) -> tuple[Call, ...]:
    """Return the calls of a trace that change something below a directory.

    What a worker does for the session is left out: it is a process of its own, and is struck by itself.

    Raises:
        CannotTraceError: one of them was made by another thread or process than the first.
    """
    found: list[Call] = []
    counts: Counter[str] = Counter()
    first = ""
    for line in trace.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        thread, name, rest = match["thread"] or "", match["name"], match["rest"]
        first = first or thread
        counts[name] += thread == first
        if str(below) in rest and (name not in OPENING or "O_CREAT" in rest or "O_TRUNC" in rest):
            if thread != first and (name == "fsync" or WORKERS.search(rest)):
                continue
            if thread != first:
                raise CannotTraceError(f"another thread changes a file: {line}")
            found.append(Call(name, counts[name], line))
    return tuple(found)


def has_hit(found: Sequence[Call], call: Call, what: str) -> bool:
    """Whether a strike hit the call that it was meant for, or one like it that changes a file, too."""
    if what == KILL:
        return bool(found) and found[-1].name == call.name and found[-1].text.rstrip().endswith("= ?")
    return any(one.name == call.name and one.text.endswith("(INJECTED)") for one in found)
