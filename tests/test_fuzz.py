"""A short round of the fuzzer, and everything that ever broke a reader."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench import fuzz

SAMPLES = 60


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_input_is_taken_or_refused(target: str) -> None:
    rng = random.Random(target)
    for _ in range(SAMPLES):
        fuzz.TARGETS[target](fuzz.sample(target, rng))


def test_what_once_broke_a_reader_breaks_it_no_more() -> None:
    for path in fuzz.KEPT.rglob("*"):
        if path.is_file():
            fuzz.TARGETS[path.parent.name](path.read_bytes())


def test_what_breaks_a_reader_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(fuzz, "KEPT", tmp_path)
    monkeypatch.setitem(fuzz.TARGETS, "request", fragile)

    count, broken = fuzz.rounds("request", seconds=5.0, seed=1)

    assert count == 10
    assert all(path.is_file() for path in broken)
