"""The same world on an island: provider and gateway have the README's names, without other servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.island import NameServer, island
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER
from tests.fakes.gateway import FakeGateway

PROVIDER = "id.example.com"
GATEWAY = "llm.example.com"
ADDRESSES = {PROVIDER: "203.0.113.1", GATEWAY: "203.0.113.2"}
HTTPS = 443


@pytest.fixture
def names() -> Iterator[NameServer]:
    """The island's name server."""
    with island(ADDRESSES) as names:
        yield names


@pytest.fixture
def provider(names: NameServer) -> Iterator[NpmProvider]:
    """The certified provider, as strict as it usually is."""
    with NpmProvider(PROVIDER, HTTPS) as running:
        yield running


@pytest.fixture
def gateway(provider: NpmProvider) -> Iterator[FakeGateway]:
    """A gateway that admits good tokens of the provider, and nothing else."""
    with FakeGateway(provider.verify, text=ANSWER, host=GATEWAY, port=HTTPS) as running:
        yield running
