"""For the tests of the engine: a machine that does not wait for the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.machines import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of the test's own."""
    return Machine(tmp_path)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `fsync` return at once: that it is called, and what its failure does, is shown in test_files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
