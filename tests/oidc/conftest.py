"""For the tests of the protocol: a client of a fake provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.provider import FakeProvider
from tests.oidc.client import Client


@pytest.fixture
def client() -> Iterator[Client]:
    """A client, and its provider as long as the test lasts."""
    with FakeProvider() as provider:
        yield Client(provider)
