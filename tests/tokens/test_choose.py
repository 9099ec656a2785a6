from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import canaries, environs
from tests.fakes.secret_service import FakeSecretService
from thv_llm import paths
from thv_llm.secret import Secret
from thv_llm.store import AbsentError, LockedError, StoreError
from thv_llm.store.choice import choose

RIGHT = f"open {canaries.MARK}"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[FakeSecretService]:
    with FakeSecretService(tmp_path) as fake:
        yield fake


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return environs.user(tmp_path / "home")


def chosen(environ: dict[str, str], wanted: str = "", recorded: str = "", platform: str = "linux") -> str:
    store = choose(paths.find(environ), environ, wanted, recorded=recorded, platform=platform)
    return store.name


@pytest.mark.posix
def test_on_linux_the_secret_service_is_used_when_there_is_one_else_the_file(
    home: dict[str, str], bus: FakeSecretService
) -> None:
    assert chosen(home) == "file"
    assert chosen({**home, **bus.environ}) == "secret-service"


def test_on_macos_it_is_the_keychain(home: dict[str, str]) -> None:
    assert chosen(home, platform="darwin") == "keyring"


@pytest.mark.posix
def test_a_setting_decides_before_anything_else(home: dict[str, str], bus: FakeSecretService) -> None:
    environ = {**home, **bus.environ}

    assert chosen(environ, wanted="file", recorded="secret-service") == "file"
    assert chosen(home, wanted="keyring", recorded="file") == "secret-service"
    assert chosen(home, wanted="keyring", platform="darwin") == "keyring"


def test_a_backend_named_to_keyring_wins_over_the_systems_own(home: dict[str, str], tmp_path: Path) -> None:
    named = {**home, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    assert chosen(named, recorded="secret-service") == "keyring"
    assert chosen(named, wanted="file") == "file"

    file = tmp_path / "home" / ".config" / "python_keyring" / "keyringrc.cfg"
    file.parent.mkdir(parents=True)
    file.touch()
    assert chosen(home) == "keyring"


@pytest.mark.posix
def test_the_store_of_the_last_login_stays_the_store(home: dict[str, str], bus: FakeSecretService) -> None:
    assert chosen(home, recorded="secret-service") == "secret-service"
    assert chosen({**home, **bus.environ}, recorded="file") == "file"


def test_a_session_in_a_keyring_that_is_out_of_reach_is_an_error_not_an_empty_file(
    home: dict[str, str],
) -> None:
    store = choose(paths.find(home), home, recorded="secret-service", platform="linux")

    with pytest.raises(AbsentError):
        store.load("key")


@pytest.mark.posix
def test_a_silent_or_locked_keyring_is_not_passed_over(home: dict[str, str], bus: FakeSecretService) -> None:
    bus.locked = True
    environ = {**home, **bus.environ}
    store = choose(paths.find(environ), environ, platform="linux")
    with pytest.raises(LockedError):
        store.load("key")

    bus.error_at = {"ReadAlias": "org.freedesktop.DBus.Error.AccessDenied"}
    with pytest.raises(StoreError, match="AccessDenied"):
        choose(paths.find(environ), environ, platform="linux")


def test_the_passphrase_comes_from_the_environment_else_from_the_user_if_there_is_a_terminal(
    home: dict[str, str],
) -> None:
    environ = {**home, "THV_LLM_PASSPHRASE": RIGHT}
    store = choose(paths.find(environ), environ, "file")
    store.save("key", Secret("rt-1"))

    asked = choose(paths.find(home), home, "file", interactive=True, ask_passphrase=lambda: Secret(RIGHT))
    assert asked.load("key") == Secret("rt-1")

    alone = choose(paths.find(home), home, "file", ask_passphrase=lambda: Secret(RIGHT))
    with pytest.raises(LockedError):
        alone.load("key")
