from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.service.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with FakeProvider() as provider, FakeGateway(provider.verify_access_token) as gateway:
        lab = Lab(tmp_path, provider, gateway)
        try:
            yield lab
        finally:
            lab.close()
