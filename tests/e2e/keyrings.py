"""Secret services for one machine: a D-Bus session of its own, with a real gnome-keyring, or without."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

from tests.e2e.machine import Machine

UNLOCK = "printf %s test | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; "
START = "gnome-keyring-daemon --start --components=secrets >/dev/null 2>&1; "
LOCK = (
    "dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets"
    " org.freedesktop.Secret.Service.Lock array:objpath:/org/freedesktop/secrets/collection/login"
    " >/dev/null; "
)


class Keyring:
    """A D-Bus session while the context lasts; the machine's programs find it.

    Args:
        prepare: what runs in the session first (`UNLOCK`, `LOCK`, …).
    """

    def __init__(self, machine: Machine, prepare: str = UNLOCK) -> None:
        self._machine = machine
        self._script = prepare + 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec cat'
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", self._script],
            env={**self._machine.environ, "XDG_DATA_HOME": str(self._machine.place / "data")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        address = self._process.stdout.readline().strip()
        assert address, "no D-Bus session"
        self._machine.environ["DBUS_SESSION_BUS_ADDRESS"] = address
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._machine.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)
