"""The detached service process: start it, find it, stop it.

Rule 1: a service is ours when it proves that it knows the local key (`agent_protocol.is_ours`), or, if it
        does not respond, when the pid file's process started when the file says, as us.
Rule 2: nothing is signaled that is not provably ours; stale files are removed, not obeyed.
Rule 3: ready means: it said so itself and then passed the challenge.

The parent runs `thv-llm proxy start --detach` with a pipe as its stdout. The child leaves our
session, opens everything, then writes `ready`, or `error` with the parts of a ThvLlmError,
and closes the pipe. Its own stdout and stderr are the log from then on.

The lock `service`, held for the life of the process, keeps it the only one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from thv_llm import errors, files, paths, state, system
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.service import agent_protocol, autostart, pid_file
from thv_llm.service.autostart import Autostart
from thv_llm.service.pid_file import DRAIN_S, STOP_TIMEOUT_S, ServiceRun
from thv_llm.state import ServiceState, State
from thv_llm.system import detach as system_detach
from thv_llm.system import processes

START_TIMEOUT_S = 15.0
HUNG_TIMEOUT_S = 3.0
"""The same for a service that does not respond: it has no streams worth waiting for."""
KILL_TIMEOUT_S = 2.0
POLL_S = 0.02
RETRY_AFTER_S = 30.0
"""How soon `ensure` tries again when a service did not come up."""
READY = "ready"

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
KEPT += ("CI", "DISPLAY", "WAYLAND_DISPLAY", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHON_KEYRING_BACKEND")
KEPT += ("SYSTEMROOT", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "USERNAME", "TEMP", "TMP", "PATHEXT")
KEPT_PREFIXES = ("THV_LLM_", "XDG_", "LC_", "KEYRING_PROPERTY_")
ALSO_TAKEN = ", or reserved by Windows" if system.NAME == "win32" else ""
KEPT_SUFFIX = "_PROXY"
"""What the service inherits. The rest stays behind: it can be started from inside an AI tool,
whose environment holds keys, and it would keep them for weeks."""


@dataclass(frozen=True)
class Running:
    """Our service, alive.

    Attributes:
        responds: it passed the challenge; else only its process was recognized.
    """

    record: ServiceRun
    responds: bool


@dataclass(frozen=True)
class PortUse:
    """Who has a port: `free`, `ours` or `foreign`; the owner's name and pid if known."""

    kind: str
    owner: str = ""


def find(where: Paths) -> Running | None:
    """Return our running service; stale files of a dead one are removed.

    Fast (about a millisecond) when it runs or never ran; a silent socket costs
    up to `agent_protocol.TIMEOUT_S`.
    """
    sound = state.load_if_sound(where.state)  # a broken one must not hide the service
    key = sound.local_key if sound else None
    known = pid_file.read(where.pid)
    is_ours = key and os.path.exists(where.socket) and agent_protocol.is_ours(where.socket, key)
    if is_ours and (running := pid_file.from_json(facts(where).get("record")) or known):
        return Running(running, responds=True)
    if known and known.process():
        return Running(known, responds=False)
    if known:
        pid_file.remove(where.pid)
    return None


def facts(where: Paths) -> dict[str, object]:
    """Return what the running service says of itself, {} when it says nothing."""
    import json

    try:
        document = json.loads(agent_protocol.call(where.socket, "status"))
    except (OSError, ThvLlmError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def start(where: Paths, environ: Mapping[str, str]) -> tuple[Running, bool]:
    """Start the service unless it runs, and wait until it has proven itself.

    Returns:
        The service, and whether this call started it.

    Raises:
        ThvLlmError: it did not start; what it said itself, if it said anything.
    """
    found = find(where)
    if found and found.responds:
        return found, False
    if found:
        raise ThvLlmError(
            "the service is there but does not respond",
            why=f"process {found.record.pid} hangs, or is just ending",
            next_step="thv-llm proxy restart",
        )
    files.private_directory(where.directory)
    deadline = time.monotonic() + START_TIMEOUT_S
    is_managed = autostart.of(environ, system.NAME).start(where)
    if not is_managed and not until_ready(environ, START_TIMEOUT_S):
        raise _did_not_start(where, "it ended, or hung, without a word")
    # When another process started it at the same moment, it is perhaps not ready yet.
    return wait(where, deadline - time.monotonic()), True


def wait(where: Paths, timeout_s: float = START_TIMEOUT_S) -> Running:
    """Return the service as soon as it responds; for one that another process starts.

    Raises:
        ThvLlmError: it does not, for that long.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := find(where)) or not found.responds:
        if time.monotonic() > deadline:
            raise _did_not_start(where, "it does not pass the identity check on its socket")
        time.sleep(POLL_S)
    return found


def _did_not_start(where: Paths, why: str) -> ThvLlmError:
    return ThvLlmError(
        "the service did not start", why=why, next_step=f"see {where.log}, then thv-llm doctor"
    )


def stop(where: Paths, *, waiting: Callable[[], None] = lambda: None) -> bool:
    """Stop our service, letting running streams and refreshes end; False when it was not running.

    Args:
        waiting: called when it takes longer than streams are given: it is at a refresh.

    Raises:
        ThvLlmError: it would not go.
    """
    found = find(where)
    if found is None:
        return False
    process = found.record.process()
    is_hung = not found.responds and os.path.exists(where.socket)  # without one it is ending already
    timeout_s = HUNG_TIMEOUT_S if is_hung else STOP_TIMEOUT_S
    if not (found.responds and _asked_to_stop(where)) and process:
        processes.end(process)
    drain_s = min(timeout_s, DRAIN_S + 1.0)
    has_gone = _gone(where, found, drain_s)
    if not has_gone and timeout_s > drain_s:
        waiting()
        has_gone = _gone(where, found, timeout_s - drain_s)
    if not has_gone and process:
        processes.kill(process)
        has_gone = _gone(where, found, KILL_TIMEOUT_S)
    if not has_gone:
        raise ThvLlmError(
            "the service does not stop",
            why=f"process {found.record.pid} is still there after {timeout_s:.0f} s",
            next_step="thv-llm doctor",
        )
    pid_file.remove(where.pid)
    return True


def _asked_to_stop(where: Paths) -> bool:
    try:
        agent_protocol.call(where.socket, "stop")
    except (OSError, ThvLlmError):
        return False
    return True


def renew_keys(where: Paths) -> None:
    """Have a running service see at once which keys there are."""
    with contextlib.suppress(OSError, ThvLlmError):  # none runs; or one of 0.1.0, which is restarted
        agent_protocol.call(where.socket, "keys")


def _is_there(where: Paths, running: Running) -> bool:
    if running.record.start:
        return running.record.process() is not None
    return bool(facts(where))  # no way to look at processes here: ask


def _gone(where: Paths, running: Running, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while _is_there(where, running):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def restart(
    where: Paths, environ: Mapping[str, str], *, waiting: Callable[[], None] = lambda: None
) -> Running:
    """Stop the service if it runs, and start it from the program of this process."""
    stop(where, waiting=waiting)
    return start(where, environ)[0]


def manage(where: Paths, environ: Mapping[str, str], manager: Autostart) -> Running:
    """Hand the service to the service manager, which starts it now and at every login.

    Raises:
        ThvLlmError: the manager did not take it; the service is as it was before.
    """
    new = files.missing_directories(manager.file) if os.path.isabs(manager.file) else ()
    stop(where)
    try:
        manager.install(where, environ)
    except ThvLlmError:
        files.remove_empty_directories(new)
        match(where, environ)
        raise
    if new:
        state.update(where, lambda known: replace(known, service=replace(known.service, created_dirs=new)))
    return wait(where)


def unmanage(where: Paths, manager: Autostart) -> bool:
    """Take the service from the service manager, which ends it; False when it did not have it."""
    if not manager.uninstall(where):
        return False
    stop(where)  # not every manager does
    made = state.load(where.state).service.created_dirs
    if made:
        files.remove_empty_directories(made)
        state.update(where, lambda known: replace(known, service=replace(known.service, created_dirs=())))
    return True


def match(where: Paths, environ: Mapping[str, str]) -> str:
    """Make the running service what settings and `State.service` ask for.

    Returns:
        What was done, in the past tense; "" when everything was right.
    """
    wanted = state.load(where.state).service
    found = find(where)
    if not wanted.wanted:
        return "Stopped the service." if found and stop(where) else ""
    if found and found.responds and not reasons_to_restart(where, found.record):
        return ""
    running = restart(where, environ)
    return f"{'Restarted' if found else 'Started'} the service ({described(running.record)})."


def obstacle(where: Paths) -> ThvLlmError | None:
    """Return what keeps a service from starting, so that only a user can help; None when nothing is known."""
    try:
        paths.require_socket(where.socket)
    except ThvLlmError as error:
        return error
    return None


def silence(where: Paths, known: State) -> str:
    """Say what is known of a service whose process is there and has not responded."""
    if not known.local_key:
        return "cannot be checked: there is no record of its key"
    if not os.path.exists(where.socket):
        return f"has lost its socket {where.socket}: it opens a new one within seconds, or is just ending"
    return "does not respond"


def described(run: ServiceRun) -> str:
    """Return the process and what it offers, for people."""
    offers = f"proxy on http://127.0.0.1:{run.port}" if run.port else "no proxy, no tool needs it"
    return f"pid {run.pid}, {offers}"


def reasons_to_restart(where: Paths, run: ServiceRun) -> list[str]:
    """Say why the running service is not what a new one would be."""
    known = state.load_if_sound(where.state)
    wanted = known.service if known else ServiceState()
    reasons = []
    if run.is_older():
        reasons.append(f"it runs thv-llm {run.version} from a file that was replaced since")
    if run.settings != pid_file.fingerprint(where):
        reasons.append("the settings changed since it started")
    if wanted.wanted and wanted.proxy != (run.port is not None):
        reasons.append("a tool needs the proxy" if wanted.proxy else "no tool needs the proxy any more")
    return reasons


def port_use(where: Paths, port: int) -> PortUse:
    """Tell who has a port of 127.0.0.1. A foreign listener sees a connection, and is sent nothing."""
    found = find(where)
    if found and found.record.port == port:
        return PortUse("ours", f"thv-llm (pid {found.record.pid})")
    if not is_listening(port):
        return PortUse("free")
    return PortUse("foreign", processes.listener(port))


def is_listening(port: int) -> bool:
    """Tell whether a connection to a port of 127.0.0.1 is accepted, or kept waiting; nothing is sent."""
    try:
        socket.create_connection(("127.0.0.1", port), agent_protocol.TIMEOUT_S).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def taken(port: int, owner: str) -> ThvLlmError:
    """Return the error for a port that a foreign process has."""
    return ThvLlmError(
        f"port {port} on 127.0.0.1 is taken",
        why=f"it is used by {owner or 'another program'}{'' if owner else ALSO_TAKEN}",
        next_step="end that program, or thv-llm setup --proxy-port PORT",
    )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that the service gets."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES) or name.upper().endswith(KEPT_SUFFIX)
    }


def ensure(where: Paths, known: State, environ: Mapping[str, str]) -> None:
    """Start the service again if it should run; for `token`, when the agent did not respond.

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
        system_detach.start(_command(), environment(environ))


def came_up(where: Paths) -> None:
    """Note that the service is up, so that `ensure` can start it at once when it dies."""
    with contextlib.suppress(OSError):
        os.utime(where.lock("service"), (0, 0))


def until_ready(environ: Mapping[str, str], timeout_s: float) -> bool:
    """Start the service process and wait for its report; False when it gave none.

    Raises:
        ThvLlmError: what it reported as the reason why it cannot run.
    """
    text = system_detach.report_of(_command(), environment(environ), timeout_s)
    if text.startswith("error\n"):
        raise _rebuilt(text.removeprefix("error\n"))
    return text.startswith(READY)


def _command() -> list[str]:
    return paths.own_command("proxy", "start", "--detach")


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
            with contextlib.suppress(OSError):  # the parent has ended; the log has it, too
                os.write(self._descriptor, f"{text}\0".encode())
            os.close(self._descriptor)
            self._descriptor = -1


def detach() -> Report:
    """Leave the parent's session, terminal and directory; return where to report.

    Must be called while the process has one thread.
    """
    system_detach.leave_parent()
    return Report(os.dup(1))
