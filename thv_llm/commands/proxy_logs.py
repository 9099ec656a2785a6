"""`thv-llm proxy logs`: the service's log, and what comes after it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from thv_llm import log
from thv_llm.errors import ThvLlmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thv_llm.world import World

LAST_LINES = 50
POLL_S = 0.2
TAIL_BYTES = 64_000
"""Enough for the last lines; a record has 2,000 characters at most."""


def show(world: World, *, follow: bool) -> None:
    """Print the last lines of the log; with `follow`, new ones until the reader ends it."""
    try:
        file = open(world.paths.log, "rb")  # noqa: SIM115 - `_lines` replaces it when the log is rotated
    except FileNotFoundError:
        raise ThvLlmError(
            "there is no log yet",
            why="the service has not run in the background",
            next_step="thv-llm proxy start --background",
        ) from None
    with file:
        _skip_all_but_the_last(file)
        for line in file:
            _print(world, line)
        if follow:
            try:
                for line in _lines(file, world):
                    _print(world, line)
            except KeyboardInterrupt:
                return


def _skip_all_but_the_last(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - TAIL_BYTES))
    tail = file.read()
    kept = tail.splitlines(keepends=True)[-LAST_LINES:]
    file.seek(start + len(tail) - sum(len(line) for line in kept))


def _lines(file: BinaryIO, world: World) -> Iterator[bytes]:
    """Yield new lines for ever, also those in the file that takes the place of a full one."""
    rest = b""
    try:
        while True:
            piece = file.readline()
            if piece:
                rest += piece
                if rest.endswith(b"\n"):
                    yield rest
                    rest = b""
            elif _was_replaced(file, world.paths.log):
                file.close()
                file = open(world.paths.log, "rb")  # noqa: SIM115 - closed below
            else:
                world.sleep(POLL_S)
    finally:
        file.close()


def _was_replaced(file: BinaryIO, path: str) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _print(world: World, line: bytes) -> None:
    world.answer(log.redact(line.decode("utf-8", "replace").rstrip("\r\n")))
