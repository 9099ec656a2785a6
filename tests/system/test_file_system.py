"""Renames that drop nothing, where the system has them; the claim on a socket."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from thv_llm.system import file_system
from thv_llm.system.file_system import claim


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "fi\udcffrst ü", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    return first, second


@pytest.mark.posix
@pytest.mark.parametrize("permissions", [0o044, 0o040, 0o007, 0o065])
def test_the_command_that_gives_permissions_back_gives_these(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "with a blank"
    path.touch(0o600)

    command = file_system.sharing(str(path), permissions)
    subprocess.run(command, check=True)

    assert path.stat().st_mode & 0o777 == 0o600 | permissions
    assert command[1].startswith(("g+", "o+"))  # macOS adds no numbers


def test_two_files_change_places(pair: tuple[Path, Path]) -> None:
    first, second = pair
    if file_system.swap(str(first), str(second)):
        assert (first.read_text(), second.read_text()) == ("2", "1")
    else:
        assert (first.read_text(), second.read_text()) == ("1", "2")


def test_a_name_that_is_taken_stays_with_its_file(pair: tuple[Path, Path]) -> None:
    first, second = pair
    with suppress(FileExistsError):
        assert not file_system.move_to_free_name(str(first), str(second))
    assert (first.read_text(), second.read_text()) == ("1", "2")


def test_a_free_name_is_taken(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = pair
    if file_system.move_to_free_name(str(first), str(tmp_path / "free")):
        assert (tmp_path / "free").read_text() == "1"
        assert not first.exists()


def test_a_swap_with_nothing_is_an_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = pair
    with suppress(FileNotFoundError):
        assert not file_system.swap(str(first), str(tmp_path / "nothing"))
    assert first.read_text() == "1"


def test_where_the_system_has_no_such_rename_it_says_so(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: object())
    first, second = pair
    assert not file_system.swap(str(first), str(second))
    assert not file_system.move_to_free_name(str(first), str(second))


@pytest.mark.parametrize(
    ("platform", "name", "swap", "no_replace"),
    [("linux", "renameat2", 2, 1), ("darwin", "renamex_np", 2, 4)],
)
def test_the_kernel_is_asked_in_its_own_words(
    platform: str, name: str, swap: int, no_replace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RENAME_EXCHANGE and RENAME_NOREPLACE of linux/fs.h; RENAME_SWAP and RENAME_EXCL of macOS' stdio.h."""
    import ctypes

    asked: list[tuple[object, ...]] = []

    def rename(*arguments: object) -> int:
        asked.append(tuple(one for one in arguments if one != file_system.LINUX_HERE))
        return 0

    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _, use_errno: SimpleNamespace(**{name: rename}))

    assert file_system.swap("a", "b")
    assert file_system.move_to_free_name("a", "b")
    assert asked == [(b"a", b"b", swap), (b"a", b"b", no_replace)]


def test_one_at_a_time_has_it_until_its_last_copy_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "llm.sock")
    held = claim(path)
    copy = os.dup(held)

    os.close(held)
    with pytest.raises(BlockingIOError):
        claim(path)
    os.close(copy)

    os.close(claim(path))


def test_a_place_without_room_for_it_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Exception, match=r"file"):
        claim(str(tmp_path / "file" / "llm.sock"))
