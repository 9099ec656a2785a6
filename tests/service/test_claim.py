from __future__ import annotations

import os
from pathlib import Path

import pytest

from thv_llm.service.claim import claim


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
