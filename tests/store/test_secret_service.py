from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.secret_service import NO_SUCH_SERVICE, FakeSecretService
from tests.store.contract import KEY, StoreContract
from thv_llm.secret import Secret
from thv_llm.store import AbsentError, LockedError, StoreError
from thv_llm.store.secret_service import SecretService, bus_address

SOON_S = 0.2


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[FakeSecretService]:
    with FakeSecretService(tmp_path) as fake:
        yield fake


@pytest.fixture
def store(bus: FakeSecretService) -> SecretService:
    return SecretService(bus.environ, timeout_s=5)


class TestContract(StoreContract):
    """The promises of every store."""


class TestContractWithPrompts(StoreContract):
    """The same with a service that does everything behind a prompt."""

    @pytest.fixture
    def store(self, bus: FakeSecretService) -> SecretService:
        bus.prompts = True
        return SecretService(bus.environ, timeout_s=5)


def test_an_entry_has_the_attributes_of_the_keyring_package(
    bus: FakeSecretService, store: SecretService
) -> None:
    store.save(KEY, Secret("rt-1"))

    (item,) = bus.items.values()
    assert item.attributes == {
        "service": "thv-llm",
        "username": KEY,
        "application": "Python keyring library",
        "xdg:schema": "org.freedesktop.Secret.Generic",
    }
    assert item.secret == b"rt-1"


def test_an_entry_is_changed_in_place_because_keepassxc_asks_about_replacements(
    bus: FakeSecretService, store: SecretService
) -> None:
    store.save(KEY, Secret("rt-1"))
    store.save(KEY, Secret("rt-2"))

    assert bus.calls.count("CreateItem") == 1
    assert bus.calls.count("SetSecret") == 1


def test_a_locked_entry_is_an_error_without_a_prompt(bus: FakeSecretService, store: SecretService) -> None:
    store.save(KEY, Secret("rt-1"))
    bus.locked = True

    with pytest.raises(LockedError, match="locked"):
        store.load(KEY)
    with pytest.raises(LockedError, match="locked"):
        store.save(KEY, Secret("rt-2"))
    with pytest.raises(LockedError, match="locked"):
        store.delete(KEY)
    assert "Prompt" not in bus.calls


def test_a_locked_collection_that_hides_its_entries_is_not_taken_for_an_empty_one(
    bus: FakeSecretService, store: SecretService
) -> None:
    store.save(KEY, Secret("rt-1"))
    bus.locked = bus.hides_locked = True

    with pytest.raises(LockedError):
        store.load(KEY)


@pytest.mark.parametrize("hides", [False, True])
def test_a_user_is_asked_to_unlock(bus: FakeSecretService, store: SecretService, hides: bool) -> None:
    store.save(KEY, Secret("rt-1"))
    bus.locked, bus.hides_locked = True, hides

    assert SecretService(bus.environ, interactive=True).load(KEY) == Secret("rt-1")


def test_a_dismissed_prompt_is_a_locked_keyring(bus: FakeSecretService) -> None:
    bus.locked, bus.unlocks = True, False

    with pytest.raises(LockedError, match="dismissed"):
        SecretService(bus.environ, interactive=True).load(KEY)


def test_an_entry_that_needs_the_user_each_time_is_no_place_for_a_session(bus: FakeSecretService) -> None:
    bus.guards = True

    with pytest.raises(LockedError, match="asks the user about each program"):
        SecretService(bus.environ, interactive=True).save(KEY, Secret("rt-1"))  # as a login does

    with pytest.raises(LockedError, match="KeePassXC"):
        SecretService(bus.environ).load(KEY)
    assert SecretService(bus.environ, interactive=True).load(KEY) == Secret("rt-1")


@pytest.mark.parametrize("call", ["auth", "Hello", "OpenSession", "SearchItems", "GetSecret"])
def test_a_service_that_falls_silent_at_any_call_is_given_up_in_time(
    bus: FakeSecretService, store: SecretService, call: str
) -> None:
    store.save(KEY, Secret("rt-1"))
    bus.silent_at = call
    start = time.monotonic()

    with pytest.raises(StoreError, match="does not respond") as caught:
        SecretService(bus.environ, timeout_s=SOON_S).load(KEY)

    assert not isinstance(caught.value, AbsentError)
    assert time.monotonic() - start < SOON_S + 2


def test_no_bus_no_service_and_no_collection_are_absent(tmp_path: Path, bus: FakeSecretService) -> None:
    with pytest.raises(AbsentError, match="no D-Bus session"):
        SecretService({}).load(KEY)
    with pytest.raises(AbsentError, match="does not respond"):
        SecretService({"DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path}/nobody"}).load(KEY)

    bus.collection = "/"
    with pytest.raises(AbsentError, match="no default collection"):
        SecretService(bus.environ).probe()

    bus.error_at = {"OpenSession": NO_SUCH_SERVICE}
    with pytest.raises(AbsentError, match="no keyring is running"):
        SecretService(bus.environ).load(KEY)


def test_any_other_refusal_is_told_by_its_name_and_is_not_absence(bus: FakeSecretService) -> None:
    bus.error_at = {"SearchItems": "org.example.Odd"}

    with pytest.raises(StoreError, match=r"org\.example\.Odd") as caught:
        SecretService(bus.environ).load(KEY)

    assert not isinstance(caught.value, AbsentError)


def test_a_service_that_keeps_nothing_is_found_out(bus: FakeSecretService, store: SecretService) -> None:
    bus.loses = True
    with pytest.raises(StoreError, match="did not keep"):
        store.save(KEY, Secret("rt-1"))

    bus.loses = False
    store.save(KEY, Secret("rt-1"))
    bus.loses = True
    with pytest.raises(StoreError, match="did not keep"):
        store.save(KEY, Secret("rt-2"))


def test_without_an_address_the_bus_of_the_runtime_directory_is_used(tmp_path: Path) -> None:
    assert bus_address({"XDG_RUNTIME_DIR": str(tmp_path)}) == ""

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
    assert bus_address({"XDG_RUNTIME_DIR": str(tmp_path)}) == str(tmp_path / "bus")


def test_addresses_that_we_cannot_speak_to_are_no_bus() -> None:
    for address in ("tcp:host=localhost,port=1", "autolaunch:", "nonsense", "unix:"):
        assert bus_address({"DBUS_SESSION_BUS_ADDRESS": address}) == ""
    assert bus_address({"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=/tmp/x"}) == "\0/tmp/x"
