"""Secret services for one machine: a D-Bus session of its own, with gnome-keyring, KeePassXC, or nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.fakes.provider import FakeProvider
from tests.logged_in import User, wait_for_worker

UNLOCK = "printf %s test | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; "
START = "gnome-keyring-daemon --start --components=secrets >/dev/null 2>&1; "
LOCK = (
    "dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets"
    " org.freedesktop.Secret.Service.Lock array:objpath:/org/freedesktop/secrets/collection/login"
    " >/dev/null; "
)


class Place(Protocol):
    """Where a session runs: a `Machine`, or a `Home`."""

    place: Path
    environ: dict[str, str]


@dataclass
class Home:
    """As much of a machine as a keyring needs."""

    place: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("home", "run"):
            (self.place / name).mkdir(mode=0o700, exist_ok=True)
        self.environ |= {
            "HOME": str(self.place / "home"),
            "XDG_RUNTIME_DIR": str(self.place / "run"),
            "PATH": os.environ["PATH"],
        }


class Keyring:
    """A D-Bus session while the context lasts; the programs of that place find it.

    Args:
        prepare: what runs in the session first (`UNLOCK`, `LOCK`, …).
    """

    def __init__(self, place: Place, prepare: str = UNLOCK) -> None:
        self._place = place
        self._script = prepare + 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec cat'
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", self._script],
            env={**self._place.environ, "XDG_DATA_HOME": str(self._place.place / "data")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        address = self._process.stdout.readline().strip()
        assert address, "no D-Bus session"
        self._place.environ["DBUS_SESSION_BUS_ADDRESS"] = address
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)
        self._end_services()

    def _end_services(self) -> None:
        """End what offered secrets here: it stays when the bus goes."""
        mark = f"XDG_RUNTIME_DIR={self._place.environ['XDG_RUNTIME_DIR']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                is_here = mark in (process / "environ").read_bytes().split(b"\0")
                if is_here and (process / "comm").read_text().startswith(("gnome-keyring", "keepassxc")):
                    os.kill(int(process.name), signal.SIGKILL)


EXPOSED_GROUP = bytes(range(1, 17))
DATABASE = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<KeePassFile><Meta><DatabaseName>Passwords</DatabaseName><CustomData><Item>
<Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{{{uuid.UUID(bytes=EXPOSED_GROUP)}}}</Value>
</Item></CustomData></Meta><Root><Group>
<UUID>{base64.b64encode(EXPOSED_GROUP).decode()}</UUID><Name>Root</Name>
</Group></Root></KeePassFile>
"""
"""What KeePassXC exports; its one group is offered to other programs."""
SETTINGS = """[General]
ConfigVersion=2
SingleInstance=false
UpdateCheckMessageShown=true
RememberLastDatabases=false
OpenPreviousDatabasesOnStartup=false
[GUI]
CheckForUpdates=false
[FdoSecrets]
Enabled=true
ShowNotification=false
ConfirmAccessItem={confirms}
ConfirmDeleteItem={confirms}
"""
BUS = "--dest=org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus"
OWNED = f"dbus-send --session --print-reply {BUS}.NameHasOwner string:org.freedesktop.secrets"
COLLECTION = "--dest=org.freedesktop.secrets /org/freedesktop/secrets/collection/db org.freedesktop.DBus"
LOCKED = (
    f"dbus-send --session --print-reply {COLLECTION}.Properties.Get"
    " string:org.freedesktop.Secret.Collection string:Locked"
)


def keepassxc(place: Path, *, is_open: bool = True, confirms: bool = False) -> str:
    """Make a database; return what has KeePassXC offer it as the Secret Service of a session.

    Args:
        place: for its files.
        is_open: its password was typed.
        confirms: the user must allow each program, as it comes.
    """
    place.mkdir()
    (place / "export.xml").write_text(DATABASE)
    (place / "keepassxc.ini").write_text(SETTINGS.format(confirms=str(confirms).lower()))
    make = ["keepassxc-cli", "import", "-q", "-p", "-t", "100", f"{place}/export.xml", f"{place}/db.kdbx"]
    subprocess.run(make, input=b"test\ntest\n", stdout=subprocess.DEVNULL, check=True)
    files = f'--config "{place}/keepassxc.ini" --localconfig "{place}/local.ini" "{place}/db.kdbx"'
    program = f'TMPDIR="{place}" QT_QPA_PLATFORM=offscreen keepassxc'
    start = f"echo test | {program} --pw-stdin {files}" if is_open else f"{program} {files}"
    # A call to the name before it is owned starts gnome-keyring.
    is_ready = f"{OWNED} | grep -q true && {LOCKED} | grep -q {'false' if is_open else 'true'}"
    return f"{start} >/dev/null 2>&1 & until {is_ready}; do sleep 0.1; done; "


def use_a_stored_session(home: Path, keyring: Mapping[str, str]) -> None:
    """Take a token from a session in the keyring of that environment: it lives on, and nothing is on disk."""
    environ = {name: value for name, value in keyring.items() if name != "HOME"}
    with FakeProvider() as provider:
        user = User(home, provider, keyring=True, **environ)

        done = user.token()
        wait_for_worker(user)

        assert provider.verify_access_token(done.stdout.strip())
        assert user.is_alive
        assert user.leaks() == []
