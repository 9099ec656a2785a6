from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.provider import FakeProvider
from tests.tokens.rig import FakeTime, Rig


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def provider(clock: FakeTime) -> Iterator[FakeProvider]:
    with FakeProvider(tls=False, now=clock.now) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, provider: FakeProvider, clock: FakeTime) -> Rig:
    made = Rig(tmp_path, provider, clock)
    made.sign_in()
    return made
