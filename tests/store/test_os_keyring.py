from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from keyring.backend import KeyringBackend

from tests.fakes import keyrings
from tests.store.contract import KEY, StoreContract
from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret
from thv_llm.store import AbsentError, StoreError
from thv_llm.store.os_keyring import OsKeyring

LONG = Secret("r" * 5000)


def store_in(directory: Path, backend: KeyringBackend | None, timeout_s: float = 5) -> OsKeyring:
    return OsKeyring(overflow_path=str(directory / "long.enc"), backend=backend, timeout_s=timeout_s)


class TestContract(StoreContract):
    @pytest.fixture(params=[keyrings.MemoryKeyring, keyrings.CuttingKeyring, keyrings.ShortKeyring])
    def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> OsKeyring:
        return store_in(tmp_path, request.param())


def test_a_short_secret_is_readable_for_the_keyring_package(tmp_path: Path) -> None:
    backend = keyrings.MemoryKeyring()

    store_in(tmp_path, backend).save(KEY, Secret("rt-1"))

    assert backend.get_password("thv-llm", KEY) == "rt-1"
    assert list(tmp_path.iterdir()) == []


def test_what_the_backend_would_cut_goes_to_the_file_whose_key_it_keeps(tmp_path: Path) -> None:
    backend = keyrings.CuttingKeyring()

    store_in(tmp_path, backend).save(KEY, LONG)

    entry = backend.get_password("thv-llm", KEY) or ""
    assert entry.startswith("thv-llm:in-encrypted-file:")
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("long.enc.")
    assert LONG.reveal().encode() not in file.read_bytes()
    assert store_in(tmp_path, backend).load(KEY) == LONG

    file.write_bytes(b"garbage")
    store_in(tmp_path, backend).save(KEY, LONG)
    store_in(tmp_path, backend).delete(KEY)
    assert list(tmp_path.iterdir()) == []


def test_two_long_sessions_have_a_file_each(tmp_path: Path) -> None:
    backend = keyrings.CuttingKeyring()
    other = Secret("s" * 5000)

    store_in(tmp_path, backend).save(KEY, LONG)
    store_in(tmp_path, backend).save("other", other)

    assert store_in(tmp_path, backend).load(KEY) == LONG
    store_in(tmp_path, backend).delete(KEY)
    assert store_in(tmp_path, backend).load("other") == other
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_whose_key_the_keyring_has_lost_makes_room_for_a_new_one(tmp_path: Path) -> None:
    for _ in range(2):
        backend = keyrings.CuttingKeyring()
        store_in(tmp_path, backend).save(KEY, LONG)

    assert store_in(tmp_path, backend).load(KEY) == LONG
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("value", "is_ready"), [(Secret("short"), True), (LONG, False)])
def test_where_the_file_is_in_use_its_place_must_be_ready_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Secret, is_ready: bool
) -> None:
    store = store_in(tmp_path, keyrings.CuttingKeyring())
    store.save(KEY, value)
    store.load(KEY)

    def full(path: str, data: bytes) -> None:
        raise ThvLlmError("cannot write", why="No space left on device")

    monkeypatch.setattr(files, "replace", full)
    with contextlib.nullcontext() if is_ready else pytest.raises(ThvLlmError, match="No space left"):
        store.ready()


def test_once_in_the_file_even_a_short_value_stays_there_so_that_there_is_one_authority(
    tmp_path: Path,
) -> None:
    backend = keyrings.CuttingKeyring()
    store_in(tmp_path, backend).save(KEY, LONG)
    entry = backend.get_password("thv-llm", KEY)

    store_in(tmp_path, backend).save(KEY, Secret("rt-2"))

    assert backend.get_password("thv-llm", KEY) == entry
    assert store_in(tmp_path, backend).load(KEY) == Secret("rt-2")


@pytest.mark.parametrize("value", [Secret("rt-1"), LONG])
def test_a_backend_that_keeps_nothing_is_found_out_and_nothing_stays_behind(
    tmp_path: Path, value: Secret
) -> None:
    with pytest.raises(StoreError, match="did not keep"):
        store_in(tmp_path, keyrings.ForgetfulKeyring()).save(KEY, value)

    assert list(tmp_path.iterdir()) == []


def test_a_locked_backend_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    store = store_in(tmp_path, keyrings.LockedKeyring())

    with pytest.raises(StoreError, match="KeyringLocked") as caught:
        store.load(KEY)
    assert not isinstance(caught.value, AbsentError)
    with pytest.raises(StoreError):
        store.save(KEY, LONG)
    assert list(tmp_path.iterdir()) == []


def test_a_backend_that_does_not_come_back_is_given_up_in_time(tmp_path: Path) -> None:
    backend = keyrings.SilentKeyring()
    start = time.monotonic()

    with pytest.raises(StoreError, match="does not respond"):
        store_in(tmp_path, backend, timeout_s=0.1).load(KEY)

    assert time.monotonic() - start < 2
    backend.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "store":
            thread.join()


def test_what_a_backend_says_is_not_shown_because_it_may_hold_the_secret(tmp_path: Path) -> None:
    backend = keyrings.ShortKeyring()
    backend.get_password = lambda service, username: None  # type: ignore[method-assign]

    with pytest.raises(StoreError) as caught:
        store_in(tmp_path, backend).save(KEY, Secret("canary" * 500))

    assert "canary" not in str(caught.value)


def test_a_backend_named_in_the_environment_is_used_even_a_poor_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.fakes.keyrings.MemoryKeyring")
    store = store_in(tmp_path, None)
    store.save(KEY, Secret("rt-1"))
    assert "tests.fakes.keyrings.MemoryKeyring" in store.describe()

    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    with pytest.raises(StoreError, match="did not keep"):
        store_in(tmp_path, None).save(KEY, Secret("rt-1"))


@pytest.mark.parametrize("name", ["no.such.Backend", "nonsense", "keyring.backends.null.Missing", ""])
def test_a_named_backend_that_cannot_be_loaded_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", name)

    with pytest.raises(StoreError, match="PYTHON_KEYRING_BACKEND"):
        store_in(tmp_path, None).load(KEY)


@pytest.mark.skipif(sys.platform == "darwin", reason="has its keychain")
def test_backends_that_keep_nothing_are_refused_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keyring
    from keyring.backends import fail, null

    monkeypatch.delenv("PYTHON_KEYRING_BACKEND", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for kind in (fail.Keyring, null.Keyring):
        backend = kind()
        monkeypatch.setattr(keyring.core, "_keyring_backend", backend)
        with pytest.raises(AbsentError, match="no keyring that keeps"):
            store_in(tmp_path, None).load(KEY)
    assert os.listdir(tmp_path) == []
