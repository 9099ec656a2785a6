"""Reading a pasted line from a terminal without waiting longer than asked."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from thv_llm.system import terminal


@pytest.fixture
def pty() -> Iterator[tuple[int, TextIO]]:
    """Return the far side's descriptor, and the near side as a stream."""
    far, near = os.openpty()
    with os.fdopen(near, "r+b", buffering=0) as raw:
        yield far, io.TextIOWrapper(raw)
    os.close(far)


def test_what_is_no_terminal_has_no_reader() -> None:
    assert terminal.lines(io.StringIO("x")) is None
    with open(os.devnull, encoding="utf-8") as null:
        assert terminal.lines(null) is None
    assert terminal.lines(null) is None


def test_a_line_is_returned_once_it_is_whole(pty: tuple[int, TextIO]) -> None:
    far, near = pty
    read = terminal.lines(near)
    assert read is not None

    assert read(0.0) is None
    os.write(far, b"http://127.0.0.1/callback?code=c")
    assert read(0.0) is None
    os.write(far, b"&state=s  \nnext\n")
    assert read(1.0) == "http://127.0.0.1/callback?code=c&state=s"
    assert read(1.0) == "next"
    assert read(0.0) is None


def test_a_terminal_that_was_closed_neither_hangs_nor_spins() -> None:
    far, near = os.openpty()
    with os.fdopen(near, "r+b", buffering=0) as raw:
        near_side = io.TextIOWrapper(raw)
        read = terminal.lines(near_side)
        os.close(far)
        assert read is not None

        start, busy = time.monotonic(), time.process_time()
        assert read(0.1) is None
        assert read(0.1) is None
        assert 0.2 <= time.monotonic() - start < 2.0
        assert time.process_time() - busy < 0.1


def test_a_terminal_that_goes_away_is_as_silent_as_one_that_stays(pty: tuple[int, TextIO]) -> None:
    far, near = pty
    read = terminal.lines(near)
    assert read is not None
    os.write(far, b"\x04")  # end of file

    start = time.monotonic()
    assert read(0.05) is None
    assert read(0.05) is None
    assert 0.05 <= time.monotonic() - start < 2.0


class Console:
    """Gives the keys that were pressed, as Windows' console does, and keeps what it was told to show."""

    def __init__(self, keys: str = "") -> None:
        self.keys = list(keys)
        self.shown = ""

    def kbhit(self) -> bool:
        return bool(self.keys)

    def getwch(self) -> str:
        return self.keys.pop(0)

    def putwch(self, character: str, /) -> None:
        self.shown += character


@pytest.mark.parametrize(
    ("keys", "line", "shown"),
    [
        ("http://127.0.0.1/?code=c\r", "http://127.0.0.1/?code=c", "http://127.0.0.1/?code=c\r\n"),
        ("  żółw \r", "żółw", "  żółw \r\n"),
        ("ab\b\bxy\r", "xy", "ab\b \b\b \bxy\r\n"),
        ("\b\ba\r", "a", "a\r\n"),
        ("a\xe0Hb\0;c\r", "abc", "abc\r\n"),
        ("a\x1bb\r", "ab", "ab\r\n"),
        ("\r", "", "\r\n"),
    ],
)
def test_keys_become_a_line_as_they_would_in_a_shell(keys: str, line: str, shown: str) -> None:
    console = Console(keys)

    assert terminal.TypedLines(console).read(0.0) == line
    assert console.shown == shown


def test_a_line_of_keys_is_kept_until_it_is_whole() -> None:
    console = Console("first half, ")
    lines = terminal.TypedLines(console)

    assert lines.read(0.05) is None
    console.keys += "second half\rnext\r"
    assert lines.read(0.0) == "first half, second half"
    assert lines.read(0.0) == "next"
    assert lines.read(0.0) is None


def test_control_c_among_the_keys_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        terminal.TypedLines(Console("abc\x03")).read(0.0)
