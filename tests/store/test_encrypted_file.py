from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests import canaries
from tests.store.contract import KEY, StoreContract
from thv_llm import files, system
from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret
from thv_llm.store import DamagedError, LockedError, StoreError, encrypted_file
from thv_llm.store.encrypted_file import EncryptedFile

RIGHT = f"open {canaries.MARK}"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted_file, "COST", bytes((4, 8, 1)))


def at(directory: Path, passphrase: str = "") -> EncryptedFile:
    home = directory / "toolhive"
    return EncryptedFile(
        str(home / "s.enc"), str(home / "s.key"), passphrase=Secret(passphrase) if passphrase else None
    )


class TestContractWithAKeyFile(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> EncryptedFile:
        return at(tmp_path)


class TestContractWithAPassphrase(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> EncryptedFile:
        return at(tmp_path, "pass phrase ü")


@pytest.mark.parametrize("passphrase", ["", RIGHT])
def test_another_process_reads_it_and_the_secret_is_nowhere_in_the_clear(
    tmp_path: Path, passphrase: str
) -> None:
    at(tmp_path, passphrase).save(KEY, Secret("rt-canary"))

    assert at(tmp_path, passphrase).load(KEY) == Secret("rt-canary")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes()
            assert b"idp.example" not in path.read_bytes()


@pytest.mark.posix
@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_files_and_directories_are_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        at(tmp_path).save(KEY, Secret("rt-1"))
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"toolhive": 0o700, "s.enc": 0o600, "s.key": 0o600}


@pytest.mark.posix
def test_a_changed_or_cut_file_is_refused_and_kept(tmp_path: Path) -> None:
    store = at(tmp_path)
    store.save(KEY, Secret("rt-1"))
    path = tmp_path / "toolhive" / "s.enc"
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 1, 20, len(whole) - 1)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]

    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(StoreError, match="cannot open the session"):
            at(tmp_path).load(KEY)
        assert path.read_bytes() == data


def test_a_new_login_moves_a_broken_file_aside(tmp_path: Path) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    path = tmp_path / "toolhive" / "s.enc"
    path.write_bytes(b"garbage")

    at(tmp_path).save(KEY, Secret("rt-2"))

    assert at(tmp_path).load(KEY) == Secret("rt-2")
    assert (tmp_path / "toolhive" / "s.enc.broken").read_bytes() == b"garbage"


def test_a_broken_file_is_not_deleted_for_the_sake_of_one_session(tmp_path: Path) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    path = tmp_path / "toolhive" / "s.enc"
    path.write_bytes(b"garbage")

    with pytest.raises(DamagedError, match=re.escape(system.removal_of(str(path)))):
        at(tmp_path).delete(KEY)

    assert path.read_bytes() == b"garbage"


def test_deleting_the_last_session_leaves_no_file_behind_nor_one_that_was_put_aside(tmp_path: Path) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    (tmp_path / "toolhive" / "s.enc").write_bytes(b"garbage")
    at(tmp_path).save(KEY, Secret("rt-2"))

    at(tmp_path).delete(KEY)

    assert list((tmp_path / "toolhive").iterdir()) == []


def test_no_nonce_is_used_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    store = at(tmp_path)
    store.save(KEY, Secret("rt-1"))
    monkeypatch.setattr(files, "replace", lambda path, data: written.append(data))

    for _ in range(200):
        store.save(KEY, Secret("rt-1"))

    size = encrypted_file.HEADER_BYTES
    assert len({data[size - 12 : size] for data in written}) == 200


def test_without_its_passphrase_the_session_is_locked_not_absent(tmp_path: Path) -> None:
    at(tmp_path, RIGHT).save(KEY, Secret("rt-1"))
    before = (tmp_path / "toolhive" / "s.enc").read_bytes()

    with pytest.raises(LockedError, match="set THV_LLM_PASSPHRASE, then: thv-llm proxy restart; if"):
        at(tmp_path).load(KEY)
    with pytest.raises(LockedError):
        at(tmp_path).save(KEY, Secret("rt-2"))
    with pytest.raises(LockedError):
        at(tmp_path).delete(KEY)
    wrong = at(tmp_path, f"not {RIGHT}")
    for use in (wrong.load, wrong.delete, lambda key: wrong.save(key, Secret("rt-2"))):
        with pytest.raises(LockedError, match="the passphrase is wrong, or the file is damaged"):
            use(KEY)

    assert (tmp_path / "toolhive" / "s.enc").read_bytes() == before


def test_a_user_is_asked_for_the_passphrase_once(tmp_path: Path) -> None:
    at(tmp_path, RIGHT).save(KEY, Secret("rt-1"))
    asked: list[str] = []

    def ask() -> Secret:
        asked.append("asked")
        return Secret(RIGHT)

    home = tmp_path / "toolhive"
    store = EncryptedFile(str(home / "s.enc"), str(home / "s.key"), ask=ask)
    assert store.load(KEY) == Secret("rt-1")
    store.save(KEY, Secret("rt-2"))

    assert store.load(KEY) == Secret("rt-2")
    assert asked == ["asked"]
    assert at(tmp_path, RIGHT).load(KEY) == Secret("rt-2")


def test_a_forged_cost_cannot_make_us_eat_all_memory(tmp_path: Path) -> None:
    at(tmp_path, RIGHT).save(KEY, Secret("rt-1"))
    path = tmp_path / "toolhive" / "s.enc"
    data = bytearray(path.read_bytes())
    data[len(encrypted_file.MAGIC) + 1] = 40
    path.write_bytes(data)

    with pytest.raises(StoreError, match="cost is out of range"):
        at(tmp_path, RIGHT).load(KEY)


@pytest.mark.posix
def test_a_missing_key_file_is_said_by_name(tmp_path: Path) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    (tmp_path / "toolhive" / "s.key").unlink()

    with pytest.raises(StoreError, match=r"s\.key, is missing"):
        at(tmp_path).load(KEY)


@pytest.mark.posix
@pytest.mark.parametrize("length", [0, 31, 33])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_login_replaces_a_key_file_that_is_no_key(tmp_path: Path, length: int, is_first: bool) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    (tmp_path / "toolhive" / "s.key").write_bytes(bytes(length))
    if is_first:
        (tmp_path / "toolhive" / "s.enc").unlink()

    at(tmp_path).save(KEY, Secret("rt-2"))

    assert at(tmp_path).load(KEY) == Secret("rt-2")
    assert (tmp_path / "toolhive" / "s.enc.broken").exists() is not is_first


def test_it_says_what_protects_the_session(tmp_path: Path) -> None:
    assert "your passphrase" in at(tmp_path, "x").describe()
    assert "not from programs you run" in at(tmp_path).describe()

    at(tmp_path, "x").save(KEY, Secret("rt-1"))
    assert "your passphrase" in at(tmp_path).describe()


def test_ready_says_beforehand_that_a_save_would_fail(tmp_path: Path) -> None:
    (tmp_path / "toolhive").write_text("a file where the directory should be")

    with pytest.raises(ThvLlmError):
        at(tmp_path).ready()


class TestContractWhereTheSystemEncrypts(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path, sealing: list[OSError]) -> EncryptedFile:
        return at(tmp_path)


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """Stand for a system that encrypts for its user (Windows); an error in the list is its result."""
    refusals: list[OSError] = []

    def seal(data: bytes, bound_to: bytes) -> bytes:
        if refusals:
            raise refusals[0]
        return bound_to[::-1] + bytes(byte ^ 0x5A for byte in data)

    def unseal(data: bytes, bound_to: bytes) -> bytes:
        if refusals or not data.startswith(bound_to[::-1]):
            raise refusals[0] if refusals else OSError(13, "The data is invalid.")
        return bytes(byte ^ 0x5A for byte in data[len(bound_to) :])

    for name, value in {"SEALS": True, "seal": seal, "unseal": unseal}.items():
        monkeypatch.setattr(system, name, value)
    return refusals


@pytest.mark.usefixtures("sealing")
def test_no_key_lies_about_where_the_system_encrypts(tmp_path: Path) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))

    assert at(tmp_path).load(KEY) == Secret("rt-1")
    assert os.listdir(tmp_path / "toolhive") == ["s.enc"]
    assert "encrypted by Windows for your account" in at(tmp_path).describe()


def test_a_logon_without_its_keys_is_an_error_and_nothing_weaker_is_used(
    tmp_path: Path, sealing: list[OSError]
) -> None:
    sealing.append(OSError(13, "Key not valid for use in specified state."))

    with pytest.raises(StoreError, match="Windows does not encrypt for this logon") as caught:
        at(tmp_path).save(KEY, Secret("rt-1"))
    assert "THV_LLM_PASSPHRASE" in caught.value.next_step
    assert os.listdir(tmp_path / "toolhive") == []


def test_what_another_logon_encrypted_is_told_from_no_session(tmp_path: Path, sealing: list[OSError]) -> None:
    at(tmp_path).save(KEY, Secret("rt-1"))
    sealing.append(OSError(13, "Key not valid for use in specified state."))

    with pytest.raises(DamagedError, match="this logon cannot use the keys of your account"):
        at(tmp_path).load(KEY)


def test_a_passphrase_is_used_where_the_system_encrypts_too(tmp_path: Path, sealing: list[OSError]) -> None:
    sealing.append(OSError("this must not be asked"))
    at(tmp_path, RIGHT).save(KEY, Secret("rt-1"))

    assert at(tmp_path, RIGHT).load(KEY) == Secret("rt-1")
