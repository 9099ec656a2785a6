"""The session in a real KeePassXC, whose Secret Service goes other ways than that of gnome-keyring."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.keyrings import Home, Keyring, keepassxc, use_a_stored_session
from tests.store.contract import KEY, StoreContract
from thv_llm.secret import Secret
from thv_llm.store import LockedError
from thv_llm.store.secret_service import SecretService


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Provide a desktop on which KeePassXC runs with an open database."""
    found = Home(tmp_path_factory.mktemp("k"))
    with Keyring(found, keepassxc(found.place / "keepassxc")):
        yield found


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, home: Home) -> Iterator[SecretService]:
        found = SecretService(home.environ)
        yield found
        found.delete(KEY)


def test_other_programs_of_the_desktop_read_the_entry(home: Home) -> None:
    SecretService(home.environ).save(KEY, Secret("rt-1"))

    lookup = ["secret-tool", "lookup", "service", "thv-llm", "username", KEY]
    assert subprocess.run(lookup, env=home.environ, capture_output=True, check=True).stdout == b"rt-1"


def test_a_token_from_a_session_in_the_database(home: Home, tmp_path: Path) -> None:
    use_a_stored_session(tmp_path / "user", home.environ)


def test_a_locked_database_is_said_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with Keyring(home, keepassxc(tmp_path / "keepassxc", is_open=False)):
        start = time.monotonic()

        with pytest.raises(LockedError, match="it must be unlocked first"):
            SecretService(home.environ).load(KEY)

        assert time.monotonic() - start < 2


def test_where_the_user_must_allow_each_program_a_login_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with Keyring(home, keepassxc(tmp_path / "keepassxc", confirms=True)):
        with pytest.raises(LockedError, match="asks the user about each program"):
            SecretService(home.environ, interactive=True).save(KEY, Secret("rt-1"))

        with pytest.raises(LockedError, match="KeePassXC"):
            SecretService(home.environ).load(KEY)
