from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.worlds import Stream
from thv_llm import log, paths
from thv_llm.commands import proxy_logs
from thv_llm.errors import ThvLlmError
from thv_llm.world import World


def world(home: Path, sleep: Callable[[float], None] = lambda seconds: None) -> World:
    return World({}, Stream(), Stream(), Stream(), paths.find({"THV_LLM_HOME": str(home)}), sleep=sleep)


def shown(world: World) -> list[str]:
    assert isinstance(world.stdout, Stream)
    return world.stdout.getvalue().splitlines()


def test_the_last_lines_are_shown(tmp_path: Path) -> None:
    there = world(tmp_path)
    Path(there.paths.log).write_text("".join(f"line {number}\n" for number in range(200)))

    proxy_logs.show(there, follow=False)

    assert shown(there) == [f"line {number}" for number in range(150, 200)]


def test_a_long_log_is_not_read_from_its_start(tmp_path: Path) -> None:
    there = world(tmp_path)
    Path(there.paths.log).write_text("x" * 70_000 + "\nlast\n")

    proxy_logs.show(there, follow=False)

    assert shown(there)[-1] == "last"


def test_without_a_log_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ThvLlmError, match="no log yet"):
        proxy_logs.show(world(tmp_path), follow=False)


def test_following_goes_on_in_the_file_that_replaces_a_full_one_until_interrupted(tmp_path: Path) -> None:
    steps = ["append", "half", "rest", "rotate", "interrupt"]

    def sleep(seconds: float) -> None:
        step = steps.pop(0)
        path = Path(there.paths.log)
        if step == "append":
            _append(path, "two\n")
        elif step == "half":
            _append(path, "thr")
        elif step == "rest":
            _append(path, "ee\n")
        elif step == "rotate":
            os.replace(path, f"{path}.1")
            path.write_text("four\n")
        else:
            raise KeyboardInterrupt

    there = world(tmp_path, sleep)
    Path(there.paths.log).write_text("one\n")

    proxy_logs.show(there, follow=True)

    assert shown(there) == ["one", "two", "three", "four"]
    assert steps == []


def test_a_log_that_was_replaced_many_times_costs_one_open_file(tmp_path: Path) -> None:
    rotations = iter(range(20))
    open_files: list[int] = []

    def sleep(_: float) -> None:
        open_files.append(len(os.listdir("/dev/fd")))
        number = next(rotations, None)
        if number is None:
            raise KeyboardInterrupt
        os.replace(there.paths.log, f"{there.paths.log}.1")
        Path(there.paths.log).write_text(f"line {number}\n")

    there = world(tmp_path, sleep)
    Path(there.paths.log).write_text("")

    proxy_logs.show(there, follow=True)

    assert shown(there) == [f"line {number}" for number in range(20)]
    assert len(set(open_files)) == 1


def test_what_is_in_the_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    there = world(tmp_path)
    file = log.File(there.paths.log)
    file.write("\x1b[2Jboo\n")
    file.close()

    proxy_logs.show(there, follow=False)

    assert "\x1b" not in shown(there)[0]


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
