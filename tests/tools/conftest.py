"""For the tests of the engine: nobody waits for the disk."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `fsync` return at once: that it is called, and what its failure does, is shown in test_files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
