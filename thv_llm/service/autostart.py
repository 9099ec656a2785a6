"""Have the service started at every login: a systemd user unit, a launchd agent, Windows' Run key.

Rule 1: we write one file of our own, and remove only a file that says it is ours.
Rule 2: the service finds its settings by itself, those of the network too. Only the variables
        that say where they are go in; no secret does.
Rule 3: the file still works when the Python that wrote it has been replaced by another.

Windows' Run key has one line for each program, of at most 260 characters. Nothing watches what it starts;
a service that ended is brought back by the next helper.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from thv_llm import agent_client, files, paths, system
from thv_llm.errors import ThvLlmError, shown
from thv_llm.service.pid_file import STOP_TIMEOUT_S
from thv_llm.system import detach, processes
from thv_llm.system.processes import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from thv_llm.paths import Paths

    class RunKey(Protocol):
        """What is started when this user logs in: names, and command lines."""

        def get(self, name: str) -> str | None:
            """Return a command line, None when there is none of that name."""

        def set(self, name: str, line: str | None) -> None:
            """Set a command line, or remove it."""


LABEL = "thv-llm"
RUN_KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run"
LAUNCHD_LABEL = "dev.thv-llm.service"
MARK = "written by thv-llm proxy install"
TOOL_TIMEOUT_S = STOP_TIMEOUT_S + 10.0
"""The manager waits for the end of what it stops."""
LINGER = "/var/lib/systemd/linger"
"""Has a file for each user whose manager runs without a session."""
SESSION = ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""How `systemctl --user` finds the manager."""
KEPT = ("THV_LLM_HOME", "THV_LLM_SOCKET", "XDG_CONFIG_HOME", "PYTHON_KEYRING_BACKEND")
ANY_PYTHON = '[ -x "$0" ] && exec "$0" "$@"; exec python3 "$@"'
"""A shell command: run the named Python, or another one when it is missing."""
MAX_RUN_LINE = 260
FOR_DIRECTORY = re.compile(rf"{MARK} for (?P<directory>.+?)\.(?: thv-llm proxy uninstall|</string>)")


@dataclass(frozen=True)
class Autostart:
    """The service manager of this machine.

    Attributes:
        kind: `systemd`, `launchd` or `Windows`.
        file: the unit or property list, ours alone.
        socket: where the manager of this user's sessions listens; "" where it always runs.
        run: runs the manager's tool; what it prints, "" on failure.
    """

    kind: str
    file: str
    run: Run
    socket: str = ""

    def is_available(self) -> bool:
        """Tell whether this user has a manager now; in containers and under `su` there is none."""
        return not self.socket or os.path.exists(self.socket)

    def is_installed(self, where: Paths) -> bool:
        """Tell whether our file is there, and is about this directory of ours."""
        return os.fsencode(mark(where)) in (files.read(self.file) or b"")

    def install(self, where: Paths, environ: Mapping[str, str]) -> None:
        """Write the file, have it loaded now and at every login; it starts the service.

        Raises:
            ThvLlmError: the file is another program's, or the manager does not take it.
        """
        if files.read(self.file) is not None and not self.is_installed(where) and not self._is_stale():
            raise ThvLlmError(
                f"{self.file} is there already",
                why=f"it does not say that it is for {where.directory}",
                next_step="move it away, then thv-llm proxy install",
            )
        files.private_directory(os.path.dirname(self.file))
        temporary = files.temporary_name(self.file)  # its directory is the user's
        files.replace(self.file, self._text(where, environ), denied=files.SHARED, temporary=temporary)
        try:
            self._load()
        except ThvLlmError:
            self.uninstall(where)
            raise

    def _is_stale(self) -> bool:
        """Tell whether our file is for a directory of ours that is no longer there."""
        from xml.sax.saxutils import unescape

        found = FOR_DIRECTORY.search(os.fsdecode(files.read(self.file) or b""))
        return found is not None and not os.path.isdir(unescape(found["directory"]))

    def is_current(self, where: Paths, environ: Mapping[str, str]) -> bool:
        """Tell whether the file says what `install` would write today."""
        return files.read(self.file) == self._text(where, environ)

    def _text(self, where: Paths, environ: Mapping[str, str]) -> bytes:
        command = ["/bin/sh", "-c", ANY_PYTHON, *paths.own_command("proxy", "start", "--managed")]
        return (unit if self.kind == "systemd" else plist)(command, environ, where)

    def uninstall(self, where: Paths) -> bool:
        """Have it unloaded (which stops it) and remove the file; False when it was not installed."""
        if not self.is_installed(where):
            return False
        if self.kind == "systemd":
            self._does("systemctl", "--user", "disable", "--now", f"{LABEL}.service")
        else:
            self.run(["launchctl", "bootout", f"gui/{system.user_id()}/{LAUNCHD_LABEL}"])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file)
        if self.kind == "systemd":
            self._does("systemctl", "--user", "daemon-reload")
        return True

    def start(self, where: Paths) -> bool:
        """Have the manager start the service; False when it cannot, or is not set up for it."""
        if not self.is_installed(where):
            return False
        if self.kind == "systemd":
            return self._does("systemctl", "--user", "restart", f"{LABEL}.service")
        return self._does("launchctl", "kickstart", "-k", f"gui/{system.user_id()}/{LAUNCHD_LABEL}")

    def _load(self) -> None:
        if self.kind == "systemd":
            self._tell("systemctl", "--user", "daemon-reload")
            self._tell("systemctl", "--user", "enable", "--now", f"{LABEL}.service")
        else:
            self.run(["launchctl", "bootout", f"gui/{system.user_id()}/{LAUNCHD_LABEL}"])  # an earlier one
            self._tell("launchctl", "bootstrap", f"gui/{system.user_id()}", self.file)

    def _tell(self, *command: str) -> None:
        """Run the manager's tool.

        Raises:
            ThvLlmError: it failed; with the last line of what it said.
        """
        # `run` tells failure from silence only by what is printed, so a word of ours follows.
        said = self.run(["/bin/sh", "-c", '"$@" 2>&1 && echo done || echo failed', "sh", *command]).split(
            "\n"
        )
        if said[-2:] != ["done", ""]:
            words = [line for line in said if line not in ("", "failed")] or ["it does not respond"]
            raise ThvLlmError(
                f"{self.kind} did not take the service",
                why=f"{' '.join(command[:3])}: {shown(words[-1], 120)}",
                next_step="try again in a session of your own on this machine (not by su or in a container)",
            )

    def _does(self, *command: str) -> bool:
        try:
            self._tell(*command)
        except ThvLlmError:
            return False
        return True


@dataclass(frozen=True)
class AtWindowsLogin(Autostart):
    """The Run key of this user, as a service manager that only starts.

    Attributes:
        file: the value's full name, for people.
        key: the values of the key.
    """

    key: RunKey | None = None

    @property
    def _key(self) -> RunKey:
        return system.run_key() if self.key is None else self.key

    @property
    def _name(self) -> str:
        return self.file.removeprefix(f"{RUN_KEY}\\")

    def is_installed(self, where: Paths) -> bool:  # noqa: ARG002 - the name says which directory it is for
        """Tell whether our value is there."""
        return self._key.get(self._name) is not None

    def is_current(self, where: Paths, environ: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Tell whether it says what `install` would write today."""
        return self._key.get(self._name) == _run_line(environ)

    def install(self, where: Paths, environ: Mapping[str, str]) -> None:  # noqa: ARG002
        """Write the value, and start the service as the next login will.

        Raises:
            ThvLlmError: Windows would not take so long a line, or refuses.
        """
        line = _run_line(environ)
        if len(line) > MAX_RUN_LINE:
            raise ThvLlmError(
                "Windows cannot start the service at login",
                why=f"its command line has {len(line)} characters, and {MAX_RUN_LINE} are allowed",
                next_step="move the program, or Python, to a shorter path",
            )
        try:
            self._key.set(self._name, line)
        except OSError as error:
            why = f"cannot write {self.file}: {error.strerror or type(error).__name__}"
            raise ThvLlmError("Windows did not take the service", why=why) from error
        detach.start(paths.own_command("proxy", "start", "--managed"), environ)

    def uninstall(self, where: Paths) -> bool:
        """Remove the value; False when it was not there. The caller stops the service."""
        if not self.is_installed(where):
            return False
        self._key.set(self._name, None)
        return True

    def start(self, where: Paths) -> bool:  # noqa: ARG002
        """Say that it is started in another way."""
        return False


def _run_line(environ: Mapping[str, str]) -> str:
    """Return the command line that starts the service, without a window, where $THV_LLM_HOME points to."""
    import subprocess

    python, *command = paths.own_command("proxy", "start", "--managed")
    if environ.get("THV_LLM_HOME"):  # the key has no place for variables
        command += ["--at", agent_client.directory(environ)]
    return subprocess.list2cmdline([system.windowless(python), *command])


def mark(where: Paths) -> str:
    """Return the words by which we know a file of ours; XML-escaped, which most paths do not show."""
    from xml.sax.saxutils import escape

    return f"{MARK} for {escape(where.directory)}."


def of(
    environ: Mapping[str, str], platform: str, run: Run | None = None, run_key: RunKey | None = None
) -> Autostart:
    """Return the service manager for a user of this platform."""
    if run is None:
        session = {name: environ[name] for name in SESSION if name in environ}
        run = partial(processes.run, environ=session, timeout_s=TOOL_TIMEOUT_S)
    home = agent_client.home(environ)
    if platform == "win32":
        own = agent_client.directory(environ)
        is_usual = own == agent_client.directory({**environ, "THV_LLM_HOME": ""})
        name = LABEL if is_usual else f"{LABEL} {own}"
        return AtWindowsLogin("Windows", f"{RUN_KEY}\\{name}", run, key=run_key)
    if platform == "darwin":
        return Autostart(
            "launchd", os.path.join(home, "Library", "LaunchAgents", f"{LAUNCHD_LABEL}.plist"), run
        )
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    unit = os.path.join(base, "systemd", "user", f"{LABEL}.service")
    manager = os.path.join(environ.get("XDG_RUNTIME_DIR") or "/nonexistent", "systemd", "private")
    return Autostart("systemd", unit, run, manager)


def goes_with_the_last_session(environ: Mapping[str, str]) -> bool:
    """Tell whether the user manager, and the service with it, ends when a remote user logs out.

    Source: loginctl(1), enable-linger.
    """
    import getpass

    with contextlib.suppress(KeyError, OSError):  # no such user in the passwd database
        return not (system.has_display(environ) or os.path.exists(f"{LINGER}/{getpass.getuser()}"))
    return False


def unit(command: Sequence[str], environ: Mapping[str, str], where: Paths) -> bytes:
    """Return the systemd unit. Source: systemd.service(5), systemd.syntax(7)."""
    settings = [f"Environment={_quoted(f'{name}={value}')}" for name, value in _kept(environ)]
    lines = [
        f"# {_printable(mark(where))} thv-llm proxy uninstall removes it.",
        "[Unit]",
        "Description=thv-llm: access tokens and proxy for the LLM gateway",
        "After=network-online.target dbus.socket",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart=:{' '.join(_quoted(word) for word in command)}",  # with `:`, `$` is no variable
        *settings,
        "UMask=0077",
        "NoNewPrivileges=yes",
        "LimitCORE=0",
        "Restart=on-failure",
        "RestartSec=10",
        f"TimeoutStopSec={STOP_TIMEOUT_S:.0f}",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines).encode()


def _kept(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, environ[name]) for name in KEPT if environ.get(name)]


def _quoted(word: str) -> str:
    """Quote one word for a unit file, where `%` starts a specifier."""
    word = _printable(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"'


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ThvLlmError(f"{shown(text)} cannot stand in a unit file", why="it has control characters")
    return text


def plist(command: Sequence[str], environ: Mapping[str, str], where: Paths) -> bytes:
    """Return the launchd property list. Source: launchd.plist(5)."""
    import plistlib

    document = {
        "Label": LAUNCHD_LABEL,
        "ServiceDescription": f"thv-llm: {MARK} for {where.directory}.",
        "ProgramArguments": list(command),
        "EnvironmentVariables": dict(_kept(environ)),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},  # a stop that was asked for stays one
        "ThrottleInterval": 10,
        "ProcessType": "Background",
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "ExitTimeOut": int(STOP_TIMEOUT_S),
        "StandardErrorPath": where.log,
    }
    return plistlib.dumps(document)
