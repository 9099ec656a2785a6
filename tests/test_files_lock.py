"""`files.lock`: who is kept out, and what a lock does not need."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from thv_llm import files
from thv_llm.errors import ThvLlmError


def test_a_lock_keeps_other_processes_out_and_names_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "made" / "x.lock")
    code = (
        "import sys\nfrom thv_llm import files\nfrom thv_llm.errors import ThvLlmError\n"
        f"try:\n    with files.lock({path!r}, timeout_s=0, what='the thing'): print('in')\n"
        "except ThvLlmError as error: print(error)\n"
    )

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    with files.lock(path, timeout_s=0, what="the thing"):
        said = other()
        assert "the thing is in use" in said
        assert str(os.getpid()) in said
    assert other() == "in\n"


@pytest.mark.posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
def test_a_lock_is_private_and_can_be_taken_again_under_any_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "x.lock"
    before = os.umask(umask)
    try:
        for _ in range(2):
            with files.lock(str(path), timeout_s=0, what="the thing"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.posix
def test_a_lock_needs_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "x.lock")

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with files.lock(path, timeout_s=0, what="the thing"):
        with pytest.raises(files.LockHeldError):
            with files.lock(path, timeout_s=0, what="the thing"):
                pass


@pytest.mark.posix
def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(ThvLlmError, match="cannot lock"):
        with files.lock(str(tmp_path / "x.lock"), timeout_s=0, what="the thing"):
            pass
    assert not (tmp_path / "theirs").exists()
