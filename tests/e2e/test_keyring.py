"""The session in a real gnome-keyring: the stores' contract, and what other programs see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.install import BIN
from tests.e2e.keyrings import LOCK, START, UNLOCK, Home, Keyring, use_a_stored_session
from tests.store.contract import KEY, StoreContract
from thv_llm import paths
from thv_llm.secret import Secret
from thv_llm.store import AbsentError, LockedError, StoreError
from thv_llm.store.choice import choose
from thv_llm.store.secret_service import SecretService

KEYRING = str(BIN / "keyring" / "keyring")
"""The command of the keyring package, with the compiled packages that it wants on Linux."""
NO_KEYRING = ""
"""A session bus without a Secret Service."""


Session = Callable[[str], dict[str, str]]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Start a D-Bus session, prepared by a script; returns its environment."""
    started: list[Keyring] = []

    def start(prepare: str) -> dict[str, str]:
        home = Home(tmp_path)
        started.append(Keyring(home, prepare).__enter__())
        return home.environ

    yield start
    for keyring in started:
        keyring.__exit__(None, None, None)


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, session: Session) -> SecretService:
        return SecretService(session(UNLOCK))


def test_other_programs_of_the_desktop_read_the_entry(session: Session) -> None:
    environ = session(UNLOCK)
    SecretService(environ).save(KEY, Secret("rt-1"))

    lookup = ["secret-tool", "lookup", "service", "thv-llm", "username", KEY]
    assert subprocess.run(lookup, env=environ, capture_output=True, check=True).stdout == b"rt-1"
    get = [KEYRING, "get", "thv-llm", KEY]
    assert subprocess.run(get, env=environ, capture_output=True, check=True).stdout == b"rt-1\n"


def test_an_entry_of_the_keyring_package_is_read_and_changed_in_place(session: Session) -> None:
    environ = session(UNLOCK)
    put = [KEYRING, "set", "thv-llm", KEY]
    subprocess.run(put, env=environ, input=b"rt-1", capture_output=True, check=True)
    store = SecretService(environ)

    assert store.load(KEY) == Secret("rt-1")
    store.save(KEY, Secret("rt-2"))

    search = ["secret-tool", "search", "--all", "service", "thv-llm"]
    found = subprocess.run(search, env=environ, capture_output=True, text=True, check=True).stdout
    assert found.count("secret = ") == 1
    assert "secret = rt-2" in found


def test_a_locked_keyring_is_said_at_once_and_nothing_else_is_chosen(session: Session) -> None:
    environ = session(UNLOCK + "sleep 0.2; " + LOCK)
    start = time.monotonic()

    with pytest.raises(LockedError, match="locked"):
        choose(paths.find(environ), environ, platform="linux").load(KEY)

    assert time.monotonic() - start < 2


def test_a_keyring_that_was_never_unlocked_does_not_look_empty(session: Session) -> None:
    environ = session(START)

    with pytest.raises(StoreError):
        SecretService(environ).load(KEY)


def test_a_desktop_without_a_keyring_uses_the_file(session: Session) -> None:
    environ = {**session(NO_KEYRING), "DBUS_STARTER_ADDRESS": ""}

    store = choose(paths.find(environ), environ, platform="linux")

    if store.name == "file":  # else the bus could start one by itself
        with pytest.raises(AbsentError):
            SecretService(environ).probe()


def test_a_keyring_that_stops_responding_is_given_up_after_five_seconds(session: Session) -> None:
    environ = session(UNLOCK)
    SecretService(environ).save(KEY, Secret("rt-1"))
    ask = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    ask += ["org.freedesktop.DBus.GetConnectionUnixProcessID", "string:org.freedesktop.secrets"]
    said = subprocess.run(ask, env=environ, capture_output=True, text=True, check=True).stdout
    pid = int(said.split()[-1])

    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(StoreError, match="does not respond"):
            SecretService(environ).load(KEY)
        assert 4.5 < time.monotonic() - start < 7
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_token_from_a_session_in_the_keyring(session: Session, tmp_path: Path) -> None:
    use_a_stored_session(tmp_path / "user", session(UNLOCK))
