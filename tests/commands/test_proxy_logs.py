from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.homes import Stream
from thv_llm import log
from thv_llm.commands import watching
from thv_llm.context import Context
from thv_llm.errors import ThvLlmError


def context(home: Path, sleep: Callable[[float], None] = lambda seconds: None) -> Context:
    return Context({"THV_LLM_HOME": str(home)}, Stream(), Stream(), Stream(), sleep=sleep)


def shown(context: Context) -> list[str]:
    assert isinstance(context.stdout, Stream)
    return context.stdout.getvalue().splitlines()


def test_the_last_lines_are_shown(tmp_path: Path) -> None:
    there = context(tmp_path)
    Path(there.paths.log).write_text("".join(f"line {number}\n" for number in range(200)))

    watching.show_log(there, follow=False)

    assert shown(there) == [f"line {number}" for number in range(150, 200)]


def test_a_long_log_is_not_read_from_its_start(tmp_path: Path) -> None:
    there = context(tmp_path)
    Path(there.paths.log).write_text("x" * 70_000 + "\nlast\n")

    watching.show_log(there, follow=False)

    assert shown(there)[-1] == "last"


def test_without_a_log_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ThvLlmError, match="no log yet"):
        watching.show_log(context(tmp_path), follow=False)


@pytest.mark.posix
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

    there = context(tmp_path, sleep)
    Path(there.paths.log).write_text("one\n")

    watching.show_log(there, follow=True)

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

    there = context(tmp_path, sleep)
    Path(there.paths.log).write_text("")

    watching.show_log(there, follow=True)

    assert shown(there) == [f"line {number}" for number in range(20)]
    assert len(set(open_files)) == 1


def test_what_is_in_the_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    there = context(tmp_path)
    file = log.File(there.paths.log)
    file.write("\x1b[2Jboo\n")
    file.close()

    watching.show_log(there, follow=False)

    assert "\x1b" not in shown(there)[0]


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
