"""For the tests of whole commands: a developer's machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.machine import Machine, machine


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    """A machine with two tools, on which nothing was done yet."""
    with machine(tmp_path) as made:
        yield made
