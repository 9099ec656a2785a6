"""Reading a pasted line from a terminal without waiting longer than asked."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from thv_llm.oidc import interaction


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Return the far side's descriptor, and the near side as a stream."""
    far, near = os.openpty()
    with os.fdopen(near, "r+b", buffering=0) as raw:
        yield far, io.TextIOWrapper(raw)
    os.close(far)


def test_what_is_no_terminal_has_no_reader() -> None:
    assert interaction.terminal_lines(io.StringIO("x")) is None
    with open(os.devnull, encoding="utf-8") as null:
        assert interaction.terminal_lines(null) is None
    assert interaction.terminal_lines(null) is None


def test_a_line_is_returned_once_it_is_whole(terminal: tuple[int, TextIO]) -> None:
    far, near = terminal
    read = interaction.terminal_lines(near)
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
        read = interaction.terminal_lines(near_side)
        os.close(far)
        assert read is not None

        start, busy = time.monotonic(), time.process_time()
        assert read(0.1) is None
        assert read(0.1) is None
        assert 0.2 <= time.monotonic() - start < 2.0
        assert time.process_time() - busy < 0.1


def test_a_terminal_that_goes_away_is_as_silent_as_one_that_stays(terminal: tuple[int, TextIO]) -> None:
    far, near = terminal
    read = interaction.terminal_lines(near)
    assert read is not None
    os.write(far, b"\x04")  # end of file

    start = time.monotonic()
    assert read(0.05) is None
    assert read(0.05) is None
    assert 0.05 <= time.monotonic() - start < 2.0
