from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.lab import Lab, opened
from thv_llm.service import helper


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path) as lab:
        helper.write(lab.paths)
        yield lab
