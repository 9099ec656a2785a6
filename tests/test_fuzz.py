"""A short round of the fuzzer, and everything that ever broke a reader."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench import fuzz

KEPT = sorted(path for path in fuzz.KEPT.rglob("*") if path.is_file())
SAMPLES = 150


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_input_is_taken_or_refused(target: str) -> None:
    rng = random.Random(target)
    for _ in range(SAMPLES):
        fuzz.TARGETS[target](fuzz.sample(target, rng))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_a_reader_breaks_it_no_more(path: Path) -> None:
    fuzz.TARGETS[path.parent.name](path.read_bytes())
