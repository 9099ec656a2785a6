from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests import environs
from thv_llm import __version__, paths
from thv_llm.paths import Paths
from thv_llm.service import pid_file
from thv_llm.tokens import source


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    return paths.find(environs.user(tmp_path, THV_LLM_HOME=str(tmp_path)))


def test_what_was_written_is_read_again(where: Paths) -> None:
    mine = pid_file.of_this_process(where, port=14000, now=1.5)
    pid_file.write(where.pid, mine)

    assert pid_file.read(where.pid) == mine
    assert (mine.pid, mine.port, mine.version) == (os.getpid(), 14000, __version__)
    assert environs.is_private(where.pid)


@pytest.mark.parametrize(
    "change",
    [{"pid": "1"}, {"pid": True}, {"port": "x"}, {"port": 1.5}, {"start": None}, {"started_at": "now"}],
)
def test_a_record_with_a_value_of_the_wrong_kind_is_none(where: Paths, change: dict[str, object]) -> None:
    good = asdict(pid_file.of_this_process(where, port=None, now=1.0))

    assert pid_file.from_json(good) is not None
    assert pid_file.from_json({**good, **change}) is None
    for name in good:
        if name != "port":
            assert pid_file.from_json({key: good[key] for key in good if key != name}) is None


def test_a_replaced_program_makes_it_older(where: Paths, tmp_path: Path) -> None:
    program = tmp_path / "thv-llm.pyz"
    program.write_text("one")
    mine = replace(
        pid_file.of_this_process(where, port=None, now=1.0),
        program=str(program),
        stamp=pid_file.stamp(str(program)),
    )
    assert not mine.is_older()

    program.write_text("another")
    assert mine.is_older()
    program.unlink()
    assert mine.is_older()


def test_the_fingerprint_follows_the_settings(where: Paths) -> None:
    before = pid_file.fingerprint(where)
    Path(where.settings).write_text("x = 1\n")

    assert pid_file.fingerprint(where) != before


def test_removing_what_is_not_there_is_fine(where: Paths) -> None:
    pid_file.remove(where.pid)


@pytest.mark.posix
def test_a_process_that_is_not_a_service_is_not_ours(where: Paths) -> None:
    mine = pid_file.of_this_process(where, port=None, now=1.0)

    assert mine.start
    assert mine.process() is None


def test_a_stop_has_time_for_running_streams_and_the_longest_refresh() -> None:
    assert source.DEADLINE_S + source.RESCUE_S + sum(source.SAVE_PAUSES_S) < pid_file.REFRESH_S
