"""Other processes: who they are, what they listen on, and signals that reach only the one meant.

Rule 1: a process id is no identity, ids are reused. A process is known by its id together
        with the time it started, and what it was started as.
Rule 2: no signal goes out unless the identity still holds at that moment.

Linux: `/proc`. macOS: `ps` and `lsof`, which every installation has. Windows: handles; another program's
command line is not shown there, so a process is known as ours by its id and creation time alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from thv_llm.system import file_system, memory, peers

PROC = "/proc"
TOOL_TIMEOUT_S = 3.0
SHOWS_COMMANDS = sys.platform != "win32"
"""Whether `Process.command` is a command line, or only the program's file."""

Run = Callable[[Sequence[str]], str]
"""Run a program and return its standard output, "" when it fails."""


@dataclass(frozen=True)
class Process:
    """One living process.

    Attributes:
        start: when it started, in the system's own words; compared, never parsed.
        command: its command line, words joined by spaces.
    """

    pid: int
    start: str
    command: str


def run(
    command: Sequence[str], *, environ: Mapping[str, str] | None = None, timeout_s: float = TOOL_TIMEOUT_S
) -> str:
    """Run a system tool in the C locale and return what it prints, "" when it fails.

    Args:
        environ: variables that it gets beside `PATH` and `LC_ALL`.
    """
    import subprocess

    try:
        done = subprocess.run(
            memory.as_at_start(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={**(environ or {}), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def become(program: str, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run a command in the place of this process, which ends with the command's exit code.

    Raises:
        OSError: it cannot be started.
    """
    if sys.platform == "win32":  # exec there returns to the shell before the command has ended
        import subprocess

        child = subprocess.Popen([program, *command[1:]], env=dict(environ))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command, too, which decides
        sys.exit(child.wait())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a command would inherit
        signal.signal(number, signal.SIG_DFL)
    os.execve(program, list(command), dict(environ))


def look(pid: int, *, platform: str = sys.platform, run: Run = run) -> Process | None:
    """Return what lives under this process id; None when nothing does (a zombie does not)."""
    if pid <= 0:
        return None
    if sys.platform == "win32":
        return _look_in_windows(pid)
    return _look_in_proc(pid) if platform == "linux" else _look_by_ps(pid, run)


def _look_in_proc(pid: int) -> Process | None:
    try:
        with open(f"{PROC}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # "PID (NAME) STATE …": the name can hold anything, so count from its last parenthesis.
            fields = file.read().rpartition(")")[2].split()
        with open(f"{PROC}/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            command = file.read().rstrip("\0").replace("\0", " ")
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        return None
    if fields[0] in ("Z", "X"):
        return None
    return Process(pid, f"{boot}/{fields[19]}", command)  # field 22 of proc(5): ticks since boot


def _look_by_ps(pid: int, run: Run) -> Process | None:
    # "Mon Nov 23 20:05:48 2026 Ss   /usr/bin/python3 …"
    words = run(["ps", "-ww", "-o", "lstart=,stat=,command=", "-p", str(pid)]).split(maxsplit=6)
    if len(words) < 7 or words[5].startswith("Z"):
        return None
    return Process(pid, " ".join(words[:5]), words[6].strip())


def end(process: Process) -> bool:
    """Have exactly this process end in order; False when it is not there. Windows has no way to ask."""
    return sys.platform != "win32" and send(process, signal.SIGTERM)


def send(process: Process, number: signal.Signals, *, platform: str = sys.platform, run: Run = run) -> bool:
    """Send a signal to exactly this process; False when it is not there any more."""
    if platform == "linux" and hasattr(os, "pidfd_open"):
        return _send_by_descriptor(process, number)
    if look(process.pid, platform=platform, run=run) != process:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


def _send_by_descriptor(process: Process, number: signal.Signals) -> bool:
    """Open the process first, compare then: the id cannot be reused in between."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if look(process.pid) != process:
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def listener(port: int, *, platform: str = sys.platform, run: Run = run) -> str:
    """Name who listens on a local TCP port, as "NAME (pid N)" or "a program of user N"; "" = unknown."""
    if platform == "linux":
        return _listener_in_proc(port)
    if sys.platform == "win32":
        return _listener_in_windows(port)
    fields = run(["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]).splitlines()
    pid = next((field[1:] for field in fields if field.startswith("p")), "")
    name = next((field[1:] for field in fields if field.startswith("c")), "")
    return f"{_printable(name)} (pid {pid})" if pid.isdigit() else ""


def _listener_in_proc(port: int) -> str:
    sockets = {f"socket:[{inode}]": uid for inode, uid in peers.listeners(port).items()}
    for pid in _pids() if sockets else ():
        if any(link in sockets for link in _descriptors(pid)):
            return f"{_name(pid)} (pid {pid})"
    return next((f"a program of user {file_system.account(uid) or uid}" for uid in sockets.values()), "")


def _descriptors(pid: int) -> list[str]:
    """Return what the open descriptors of a process are; nothing when it is not ours to see."""
    links: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{PROC}/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                links.append(os.readlink(f"{PROC}/{pid}/fd/{name}"))
    return links


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def _name(pid: int) -> str:
    try:
        with open(f"{PROC}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return _printable(file.read().strip())
    except OSError:
        return "a program"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


if sys.platform == "win32":
    from thv_llm.system import windows

    def _look_in_windows(pid: int) -> Process | None:
        try:
            with windows.opened(pid, windows.QUERY_LIMITED) as handle:
                created, program = windows.identity(handle)
        except OSError:
            return None
        return Process(pid, created, program)

    def kill(process: Process) -> bool:
        """End exactly this process at once; False when it is not there any more."""
        try:
            with windows.opened(process.pid, windows.QUERY_LIMITED | windows.TERMINATE) as handle:
                if windows.identity(handle)[0] != process.start:
                    return False
                windows.end(handle)
        except OSError:
            return False
        return True

    def _listener_in_windows(port: int) -> str:
        for pid in windows.listeners(port):
            found = look(pid)
            if found:
                return f"{_printable(os.path.basename(found.command))} (pid {pid})"
            if pid:
                return f"a program of another user (pid {pid})"
        return ""

else:

    def kill(process: Process) -> bool:
        """End exactly this process at once; False when it is not there any more."""
        return send(process, signal.SIGKILL)
