"""Both ends of the moment in which a service process comes to life.

The parent runs `thv-llm proxy start --detach` with a pipe as its stdout. The child leaves our
session, opens everything, then writes `ready`, or `error` with the parts of a ThvLlmError,
and closes the pipe. Its own stdout and stderr are the log from then on.

Light to import: `token` calls `ensure` after it has answered.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

from thv_llm import errors, paths
from thv_llm.errors import ThvLlmError
from thv_llm.service import detached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.state import State

RETRY_AFTER_S = 30.0
"""How soon `ensure` tries again when a service did not come up."""
READY = "ready"
MAX_REPORT_BYTES = 65_536

KEPT: tuple[str, ...] = (
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "DBUS_SESSION_BUS_ADDRESS",
)
KEPT += ("DISPLAY", "WAYLAND_DISPLAY", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHON_KEYRING_BACKEND")
KEPT_PREFIXES = ("THV_LLM_", "XDG_", "LC_", "KEYRING_PROPERTY_")
KEPT_SUFFIX = "_PROXY"
"""What the service inherits. The rest stays behind: it may be started from inside an AI tool,
whose environment holds keys, and it would keep them for weeks."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that the service gets."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES) or name.upper().endswith(KEPT_SUFFIX)
    }


def ensure(where: Paths, known: State, environ: Mapping[str, str]) -> None:
    """Start the service again if it should run; for `token`, when the agent did not answer.

    Returns at once and never fails. The time of the lock file tells when the last attempt
    began; a service that comes up sets it back to 0 (`came_up`).
    """
    if not known.service.wanted:
        return
    lock = where.lock("service")
    with contextlib.suppress(OSError, ThvLlmError):
        if os.path.exists(lock):
            if 0 <= time.time() - os.stat(lock).st_mtime < RETRY_AFTER_S:
                return
            os.utime(lock)
        process(environ)


def came_up(where: Paths) -> None:
    """Note that the service is up, so that `ensure` may start it at once when it dies."""
    with contextlib.suppress(OSError):
        os.utime(where.lock("service"), (0, 0))


def process(environ: Mapping[str, str], stdout: int | None = None) -> int:
    """Start the service process without waiting for it, and return the id of what forks it.

    Args:
        stdout: where it reports that it is ready; nobody asks when None.
    """
    command = paths.own_command("proxy", "start", "--detach")
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    report = [] if stdout is None else [(os.POSIX_SPAWN_DUP2, stdout, 1)]
    return os.posix_spawn(command[0], command, environment(environ), file_actions=[*null, *report])


def until_ready(environ: Mapping[str, str], timeout_s: float) -> bool:
    """Start the service process and wait for its report; False when it gave none.

    Raises:
        ThvLlmError: what it reported as the reason why it cannot run.
    """
    detached.occupy_standard_descriptors()
    reading, writing = os.pipe()
    try:
        pid = process(environ, writing)
    finally:
        os.close(writing)
    try:
        text = _read_all(reading, timeout_s)
    finally:
        os.close(reading)
        # What we started forks and ends at once; only one that hangs before that is left to init.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0 if text else os.WNOHANG)
    if text.startswith("error\n"):
        raise _rebuilt(text.removeprefix("error\n"))
    return text.startswith(READY)


def _read_all(descriptor: int, timeout_s: float) -> str:
    import select

    deadline = time.monotonic() + timeout_s
    text = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        piece = os.read(descriptor, 4096)
        if not piece or len(text) > MAX_REPORT_BYTES:
            break
        text += piece
    return text.decode("utf-8", "replace")


def _rebuilt(text: str) -> ThvLlmError:
    import json

    try:
        name, what, why, next_step = (str(part) for part in json.loads(text))
    except ValueError:
        return ThvLlmError("the service did not start", next_step="thv-llm proxy logs")
    kind = getattr(errors, name, None)
    if not isinstance(kind, type) or not issubclass(kind, ThvLlmError):
        kind = ThvLlmError
    return kind(what, why=why, next_step=next_step)


class Report:
    """The child's end: says once how it went. Nothing is said after that."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """Say that everything is open."""
        self._say(READY)

    def failed(self, error: ThvLlmError) -> None:
        """Say why it cannot run."""
        import json

        parts = [type(error).__name__, error.what, error.why, error.next_step]
        self._say("error\n" + json.dumps(parts))

    def _say(self, text: str) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # the parent has gone; the log has it, too
                os.write(self._descriptor, text.encode())
            os.close(self._descriptor)
            self._descriptor = -1


def detach() -> Report:
    """Leave the parent's session, terminal and directory; return where to report.

    Must be called while the process has one thread.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    return Report(os.dup(1))
