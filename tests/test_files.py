"""`files`: what a replaced file keeps, what is refused, what a kill or a full disk leaves behind."""

from __future__ import annotations

import ctypes
import errno
import os
import shlex
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.system import file_system

OLD, NEW = b"old bytes\n", b"new bytes\n"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let one system call of `files` fail."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


@pytest.mark.posix
def test_a_replaced_file_keeps_its_mode_whatever_the_umask(old: Path, umask: int) -> None:
    files.replace(str(old), NEW)
    assert (old.read_bytes(), mode(old)) == (NEW, 0o640)


@pytest.mark.posix
def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    files.replace(str(tmp_path / "new"), NEW)
    assert ((tmp_path / "new").read_bytes(), mode(tmp_path / "new")) == (NEW, 0o600)


@pytest.mark.posix
def test_a_temporary_file_is_private_before_anything_is_written(
    old: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    seen: list[int] = []
    write = os.write

    def watching(descriptor: int, data: Any) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watching)
    files.replace(str(old), NEW)
    assert seen == [0]


@pytest.mark.posix
def test_new_directories_are_private_and_existing_ones_stay_as_they_are(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(0o755)
    files.private_directory(str(tmp_path / "a" / "b"))
    assert [mode(tmp_path), mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o755, 0o700, 0o700]


def test_a_file_in_the_place_of_a_directory_is_named(old: Path) -> None:
    with pytest.raises(ThvLlmError, match=r"cannot make the directory .*settings\.json"):
        files.private_directory(str(old / "x"))


def test_missing_directories_are_listed_outermost_first(tmp_path: Path) -> None:
    found = files.missing_directories(str(tmp_path / "a" / "b" / "file"))
    assert found == (str(tmp_path / "a"), str(tmp_path / "a" / "b"))


def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "theirs").write_text("x")
    files.remove_empty_directories([str(tmp_path / "a"), str(tmp_path / "a" / "b"), str(tmp_path / "gone")])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "theirs"]


@pytest.mark.posix
def test_a_chain_of_links_stays_a_chain(old: Path, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "second").symlink_to("../settings.json")
    first = tmp_path / "first"
    first.symlink_to(tmp_path / "dir" / "second")
    files.replace(str(first), NEW)
    assert (os.readlink(first), os.readlink(tmp_path / "dir" / "second")) == (
        str(tmp_path / "dir" / "second"),
        "../settings.json",
    )
    assert old.read_bytes() == NEW


@pytest.mark.root
def test_owner_and_group_are_kept(old: Path) -> None:
    os.chown(old, 4242, 4343)
    old.chmod(0o2640)
    files.replace(str(old), NEW)
    found = old.stat()
    assert (found.st_uid, found.st_gid, mode(old)) == (4242, 4343, 0o2640)


@pytest.mark.root
def test_a_file_whose_owner_cannot_be_kept_is_left_alone(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(old, 4242, 4343)
    refuse(monkeypatch, "fchown", errno.EPERM)
    with pytest.raises(ThvLlmError, match="cannot write"):
        files.replace(str(old), NEW)
    assert old.read_bytes() == OLD


ACL = "system.posix_acl_access"


def acl(group: str = "---", mask: str = "rw-") -> bytes:
    """Return an access list of Linux: user 33 can read and write, as far as the mask lets it."""
    entries = ((0x01, "rw-", -1), (0x02, "rw-", 33), (0x04, group, -1), (0x10, mask, -1), (0x20, "---", -1))
    packed = (
        struct.pack("<HHi", tag, sum(1 << 2 - n for n in range(3) if may[n] != "-"), who)
        for tag, may, who in entries
    )
    return struct.pack("<I", 2) + b"".join(packed)


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("security.")}


@pytest.mark.posix
@pytest.mark.parametrize("expected", [..., OLD], ids=["whatever it is", "as expected"])
def test_access_list_and_attributes_of_the_user_are_kept(old: Path, expected: Any) -> None:
    os.setxattr(old, "user.note", b"mine")
    os.setxattr(old, "user.empty", b"")
    os.setxattr(old, ACL, acl())
    before = attributes(old)
    assert (mode(old), set(before)) == (0o660, {"user.note", "user.empty", ACL})

    files.replace(str(old), NEW, expected=expected)

    assert (old.read_bytes(), mode(old), attributes(old)) == (NEW, 0o660, before)


@pytest.mark.posix
def test_an_access_list_that_was_not_there_does_not_come_in(old: Path) -> None:
    os.setxattr(old.parent, "system.posix_acl_default", acl(group="r--"))

    files.replace(str(old), NEW)
    files.replace(str(old.with_name("new")), NEW)

    assert (mode(old), attributes(old)) == (0o640, {})
    assert (mode(old.with_name("new")), attributes(old.with_name("new"))) == (0o600, {})


@pytest.mark.posix
def test_an_access_list_gives_no_more_than_the_file_is_left(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(old, ACL, acl(group="r--"))
    given: list[bytes] = []
    really = os.setxattr

    def watching(file: int, name: str, value: bytes) -> None:
        given.append(value)
        really(file, name, value)

    monkeypatch.setattr(os, "setxattr", watching)

    files.replace(str(old), NEW, denied=0o060)

    assert given == [acl(group="r--", mask="---")], "it was open for a moment"
    assert (mode(old), attributes(old)[ACL]) == (0o600, given[0])
    files.share(str(old), 0o060)
    assert attributes(old)[ACL] == acl(group="r--")


@pytest.mark.posix
@pytest.mark.parametrize("name", [ACL, "user.note"])
def test_a_file_whose_attributes_cannot_be_kept_is_left_alone(
    old: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.setxattr(old, name, acl())
    refuse(monkeypatch, "setxattr", errno.ENOTSUP)

    with pytest.raises(ThvLlmError) as caught:
        files.replace(str(old), NEW)

    assert f"cannot keep the access list and the attributes of {old}" in str(caught.value)
    assert (old.read_bytes(), attributes(old)) == (OLD, {name: acl()})
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.posix
@pytest.mark.parametrize("access_list", [None, 0x7F00_DEAD_BEEF])
def test_a_file_whose_access_list_macos_would_lose_is_left_alone(
    old: Path, monkeypatch: pytest.MonkeyPatch, access_list: int | None
) -> None:
    """acl_get_file(3) of macOS returns a pointer that must be freed, NULL when there is no list."""
    asked: list[tuple[object, ...]] = []
    freed: list[int | None] = []

    def get(*arguments: object) -> int | None:
        asked.append(arguments)
        return access_list

    library = SimpleNamespace(acl_get_file=get, acl_free=lambda pointer: freed.append(pointer.value))
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)

    if access_list is None:
        files.require_writable(str(old))
        files.replace(str(old), NEW)
        assert old.read_bytes() == NEW
    else:
        for write in (files.require_writable, lambda path: files.replace(path, NEW)):
            with pytest.raises(ThvLlmError, match="an access list, which cannot be kept on macOS") as caught:
                write(str(old))
            assert f"chmod -N {shlex.quote(str(old))}" in caught.value.next_step
        assert (old.read_bytes(), os.listdir(old.parent)) == (OLD, [old.name])
    assert asked == [(os.fsencode(old), 0x100)] * 2
    assert freed == ([] if access_list is None else [access_list] * 2)


@pytest.mark.posix
@pytest.mark.parametrize("call", ["listxattr", "getxattr"])
def test_a_file_system_without_attributes_has_none(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    refuse(monkeypatch, call, errno.ENOTSUP)
    files.replace(str(old), NEW)
    assert (old.read_bytes(), mode(old)) == (NEW, 0o640)


@pytest.mark.root
def test_attributes_that_the_system_manages_are_its_business(old: Path) -> None:
    os.setxattr(old, "trusted.overlay.opaque", b"y")
    files.replace(str(old), NEW)
    assert (old.read_bytes(), attributes(old)) == (NEW, {})


def a_hard_link(path: Path) -> None:
    os.link(path, path.with_name("other name"))


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_loop_of_links(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def a_read_only_file(path: Path) -> None:
    path.chmod(0o444)


@pytest.mark.posix
@pytest.mark.parametrize(
    "make", [a_hard_link, a_fifo, a_directory, a_dangling_link, a_loop_of_links, a_read_only_file]
)
def test_what_would_lose_something_is_refused(old: Path, make: Callable[[Path], None]) -> None:
    make(old)
    before, others = os.lstat(old), sorted(os.listdir(old.parent))
    with pytest.raises(ThvLlmError) as caught:
        files.replace(str(old), NEW)
    assert str(old) in str(caught.value)
    after = os.lstat(old)
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert sorted(os.listdir(old.parent)) == others


@pytest.mark.posix
@pytest.mark.parametrize("make", [a_fifo, a_directory, a_loop_of_links])
def test_only_regular_files_are_read_and_a_fifo_does_not_hang(
    old: Path, make: Callable[[Path], None]
) -> None:
    make(old)
    with pytest.raises(ThvLlmError, match="cannot read"):
        files.read(str(old))


@pytest.mark.posix
def test_reading_follows_links_and_knows_absent_files(old: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(old)
    assert files.read(str(tmp_path / "link")) == OLD
    assert files.read(str(tmp_path / "nothing")) is None


@pytest.mark.posix
@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("fsync", errno.EIO),
        ("fchmod", errno.EPERM),
        ("open", errno.EACCES),
        ("open", errno.EROFS),
        ("rename", errno.EXDEV),
        ("rename", errno.EACCES),
    ],
)
def test_a_failing_system_call_leaves_the_old_bytes_and_says_which_file(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patched:
        refuse(patched, call, number)
        with pytest.raises(ThvLlmError) as caught:
            files.replace(str(old), NEW)
    assert f"cannot write {old}" in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert old.read_bytes() == OLD
    assert os.listdir(old.parent) == [old.name]


def test_a_full_disk_says_what_to_do(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(ThvLlmError, match="free some disk space"):
        files.replace(str(old), NEW)


def test_short_writes_are_continued(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    files.replace(str(old), NEW)
    assert old.read_bytes() == NEW


def test_another_writer_is_noticed_right_before_the_rename(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def meanwhile(descriptor: int) -> None:
        old.write_bytes(b"theirs")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(files.FileChangedError):
        files.replace(str(old), NEW, expected=OLD)
    assert old.read_bytes() == b"theirs"
    assert os.listdir(old.parent) == [old.name]


@pytest.fixture(params=["the system can swap files", "the system cannot"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "the system cannot":
        monkeypatch.setattr(file_system, "swap", lambda first, second: False)
        monkeypatch.setattr(file_system, "move_to_free_name", lambda source, target: False)


@pytest.mark.posix
@pytest.mark.usefixtures("_both_ways")
def test_what_is_as_expected_is_replaced_or_made(old: Path, tmp_path: Path) -> None:
    files.replace(str(old), NEW, expected=OLD)
    files.replace(str(tmp_path / "new"), NEW, expected=None)
    assert (old.read_bytes(), mode(old)) == (NEW, 0o640)
    assert (tmp_path / "new").read_bytes() == NEW
    assert sorted(os.listdir(tmp_path)) == ["new", old.name]


@pytest.mark.posix
@pytest.mark.parametrize("times", [1, 2])
def test_what_came_between_the_last_look_and_the_rename_goes_back_to_its_place(
    old: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    swap = file_system.swap
    written: list[bytes] = []

    def late(first: str, second: str) -> bool:
        if len(written) < times:
            written.append(f"theirs {len(written)}".encode())
            old.with_name("beside").write_bytes(written[-1])
            old.with_name("beside").rename(old)
        return swap(first, second)

    monkeypatch.setattr(file_system, "swap", late)
    with pytest.raises(files.FileChangedError):
        files.replace(str(old), NEW, expected=OLD)
    assert old.read_bytes() == written[-1]
    assert os.listdir(old.parent) == [old.name]


def test_what_came_up_or_went_between_the_last_look_and_the_rename_is_noticed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, move = file_system.swap, file_system.move_to_free_name

    def vanishing(first: str, second: str) -> bool:
        old.unlink()
        return swap(first, second)

    def appearing(source: str, target: str) -> bool:
        old.write_bytes(b"theirs")
        return move(source, target)

    monkeypatch.setattr(file_system, "swap", vanishing)
    monkeypatch.setattr(file_system, "move_to_free_name", appearing)
    with pytest.raises(files.FileChangedError):
        files.replace(str(old), NEW, expected=OLD)
    with pytest.raises(files.FileChangedError):
        files.replace(str(old), NEW, expected=None)
    assert old.read_bytes() == b"theirs"
    assert os.listdir(old.parent) == [old.name]


def test_an_old_file_that_another_process_sweeps_away_is_no_failure(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = files.read

    def read_and_sweep(path: str) -> bytes | None:
        data = read(path)
        if files.TEMP_PREFIX in path:
            os.unlink(path)
        return data

    monkeypatch.setattr(files, "read", read_and_sweep)
    files.replace(str(old), NEW, expected=OLD)

    assert old.read_bytes() == NEW
    assert os.listdir(old.parent) == [old.name]


def test_a_file_that_came_up_meanwhile_is_not_overwritten(old: Path) -> None:
    with pytest.raises(files.FileChangedError):
        files.replace(str(old), NEW, expected=None)
    assert old.read_bytes() == OLD


@pytest.mark.posix
def test_a_file_is_deleted_only_as_expected(old: Path, tmp_path: Path) -> None:
    with pytest.raises(files.FileChangedError):
        files.delete(str(old), expected=NEW)
    (tmp_path / "link").symlink_to(old)
    files.delete(str(tmp_path / "link"), expected=OLD)
    assert sorted(os.listdir(tmp_path)) == [old.name]
    files.delete(str(old), expected=OLD)
    assert not old.exists()


def test_what_a_killed_run_left_goes_with_the_next_write(old: Path) -> None:
    old.with_name(files.TEMP_PREFIX + old.name).write_bytes(b"half")
    files.replace(str(old), NEW)
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("name", ["env", "0123456789abcdef", "backup.json"])
def test_a_file_that_only_looks_like_one_of_ours_stays(old: Path, name: str) -> None:
    theirs = old.with_name(files.TEMP_PREFIX + name)
    theirs.write_bytes(b"theirs")
    files.replace(str(old), NEW)
    files.replace(str(old), OLD, temporary=files.temporary_name(str(old)))
    files.replace(str(old), NEW, temporary=str(theirs))
    assert (theirs.read_bytes(), old.read_bytes()) == (b"theirs", NEW)
    assert sorted(os.listdir(old.parent)) == sorted([theirs.name, old.name])


def test_a_recorded_left_over_goes_but_not_while_its_writer_is_at_work(old: Path) -> None:
    left = Path(files.temporary_name(str(old)))
    with left.open("wb") as file:
        file_system.try_lock(file.fileno())
        files.remove_temporary(str(left), str(old))
        assert left.exists()
    files.remove_temporary(str(left), str(old))
    assert not left.exists()


@pytest.mark.posix
def test_a_record_that_was_tampered_with_removes_nothing(old: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = old.with_name(files.TEMP_PREFIX + "0" * 16)
    link.symlink_to(old)
    stay = [old, old.with_name("mine"), elsewhere / (files.TEMP_PREFIX + "1" * 16)]
    for path in stay[1:]:
        path.write_bytes(OLD)
    for path in (*stay, link):
        files.remove_temporary(str(path), str(old))
    assert all(path.read_bytes() == OLD for path in (*stay, link))


def test_a_link_that_looks_like_a_left_over_is_not_followed(old: Path) -> None:
    old.with_name(files.TEMP_PREFIX + old.name).symlink_to(old)
    files.replace(str(old), NEW)
    assert old.read_bytes() == NEW


@pytest.mark.posix
def test_parallel_writers_never_tear_a_file(old: Path) -> None:
    texts = [bytes([65 + number]) * 50_000 for number in range(4)]

    def write(text: bytes) -> None:
        for _ in range(10):
            files.replace(str(old), text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert files.read(str(old)) in (OLD, *texts)
    for thread in threads:
        thread.join()
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("number", [32, 33])
def test_a_file_that_another_program_has_open_is_not_called_forbidden(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object) -> None:
        error = PermissionError(errno.EACCES, "The process cannot access the file")
        error.winerror = number  # type: ignore[attr-defined,unused-ignore]
        raise error

    monkeypatch.setattr(file_system, "replace", failing)

    with pytest.raises(ThvLlmError, match="another program has it open") as caught:
        files.replace(str(old), NEW)
    assert "permission" not in str(caught.value)
    assert old.read_bytes() == OLD
    assert os.listdir(old.parent) == [old.name]
