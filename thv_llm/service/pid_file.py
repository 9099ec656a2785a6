"""The pid file: which process is our service, and what it was started from.

The service writes it when it is ready and removes it when it ends. A reader believes
nothing but what `process` confirms: a process with that id that started at that time, as us.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, fields

from thv_llm import __version__, files, paths, policy
from thv_llm.paths import Paths
from thv_llm.system import processes
from thv_llm.system.processes import Process

DRAIN_S = 10.0
"""How long running streams can go on after the service was told to stop."""
REFRESH_S = 50.0
"""What the longest refresh of `tokens` takes. Cutting it off can lose the session, so it is waited for."""
STOP_TIMEOUT_S = DRAIN_S + REFRESH_S
"""How long the end of a service can take: for itself, its stopper, and the service manager."""

VERB = " proxy start"
"""In the command line of every service, however it was started."""


@dataclass(frozen=True)
class ServiceRun:
    """One run of the service.

    Attributes:
        start: the system's own word for when the process started; "" where it has none.
        started_at: the same in seconds since the epoch, for people.
        program: the `.pyz` or launcher it runs from.
        stamp: what identified that file's content then (see `stamp`).
        port: where its proxy listens; None when it runs the agent alone.
        settings: what identified the settings then (see `fingerprint`).
    """

    pid: int
    start: str
    started_at: float
    program: str
    stamp: str
    version: str
    port: int | None
    settings: str

    def process(self) -> Process | None:
        """Return the living process that this is about; None when it has ended or is another's."""
        found = processes.look(self.pid)
        if found is None or not self.start or found.start != self.start:
            return None
        if processes.SHOWS_COMMANDS and VERB not in found.command:
            return None
        return found

    def is_older(self) -> bool:
        """Tell whether the program on disk is not the one that runs."""
        return self.stamp != stamp(self.program)


def of_this_process(where: Paths, *, port: int | None, now: float) -> ServiceRun:
    """Describe the process that calls it."""
    program = paths.program()
    me = processes.look(os.getpid())
    return ServiceRun(
        pid=os.getpid(),
        start=me.start if me else "",
        started_at=now,
        program=program,
        stamp=stamp(program),
        version=__version__,
        port=port,
        settings=fingerprint(where),
    )


def from_json(document: object) -> ServiceRun | None:
    """Rebuild a record; None when it is not one."""
    if not isinstance(document, dict):
        return None
    values = {field.name: document.get(field.name) for field in fields(ServiceRun)}
    port = values.pop("port")
    texts = [values[name] for name in ("start", "program", "stamp", "version", "settings")]
    if type(values["pid"]) is not int or not isinstance(values["started_at"], (int, float)):
        return None
    if not all(isinstance(text, str) for text in texts) or not isinstance(port, int | None):
        return None
    return ServiceRun(**values, port=port)  # type: ignore[arg-type]  # all checked above


def read(path: str) -> ServiceRun | None:
    """Return what the pid file says; None when there is none or it makes no sense."""
    import json

    data = files.read(path)
    try:
        document = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return from_json(document)


def write(path: str, run: ServiceRun) -> None:
    """Write the pid file."""
    import json

    files.replace(path, json.dumps(asdict(run)).encode() + b"\n")


def remove(path: str) -> None:
    """Delete the pid file."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def stamp(program: str) -> str:
    """Identify the content of the program's file: its size and the time of its last change."""
    try:
        found = os.stat(program)
    except OSError:
        return "gone"
    return f"{found.st_size}:{found.st_mtime_ns}"


def fingerprint(where: Paths) -> str:
    """Identify the settings in effect, as they stand on disk."""
    import hashlib

    return hashlib.sha256((files.read(where.settings) or b"") + policy.contents()).hexdigest()[:16]
