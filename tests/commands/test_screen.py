from __future__ import annotations

import io

import pytest

from tests.commands.homes import Stream
from thv_llm.commands import screen
from thv_llm.system import terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (45.9, "45 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400, "1 day"),
        (90000, "1 day 1 h"),
        (400000, "4 days"),
    ],
)
def test_a_span_is_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert screen.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (14234, "14.2 kB"),
        (999_600, "1.0 MB"),
        (2.5e9, "2.5 GB"),
    ],
)
def test_a_size_has_three_digits_or_so(count: float, text: str) -> None:
    assert screen.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.4 ms"),
        (9.96, "10 ms"),
        (210.4, "210 ms"),
        (999.7, "1.00 s"),
        (1840, "1.84 s"),
        (12345, "12.3 s"),
    ],
)
def test_a_short_time_has_three_digits_or_so(value: float, text: str) -> None:
    assert screen.milliseconds(value) == text


@pytest.mark.posix
@pytest.mark.parametrize(
    ("is_terminal", "environ", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),  # no-color.org: "when present and not an empty string"
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_color_is_for_terminals_that_want_it(
    is_terminal: bool, environ: dict[str, str], expected: bool
) -> None:
    assert screen.colors(Stream(is_terminal=is_terminal), environ) is expected
    assert not screen.colors(io.StringIO(), environ)


def test_painted_text_is_plain_when_color_is_off() -> None:
    assert screen.painted("FAIL", "red", on=False) == "FAIL"
    assert screen.painted("FAIL", "red", on=True) == "\x1b[31mFAIL\x1b[0m"


def test_wrapped_text_fits_80_columns_behind_its_indent() -> None:
    lines = terminal.fitted("x" * 10 + screen.wrapped("word " * 40, 10), 80).splitlines()

    assert len(lines) > 2
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 10) for line in lines[1:])


def test_a_long_path_is_not_broken() -> None:
    path = "/" + "directory/" * 12

    assert path in screen.wrapped(f"cannot read {path} today", 20)
