"""The world of a test of the whole: a provider, a gateway that checks its tokens, an empty machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.keyrings import Keyring
from tests.e2e.machine import PYZ, Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER
from tests.fakes.gateway import FakeGateway


@pytest.fixture(scope="session")
def _provider() -> Iterator[NpmProvider]:
    assert PYZ.is_file(), "build it first: make pyz"
    with NpmProvider() as running:
        yield running


@pytest.fixture
def provider(_provider: NpmProvider) -> NpmProvider:
    """The certified provider, as strict as it usually is."""
    _provider.change()
    return _provider


@pytest.fixture
def gateway(provider: NpmProvider) -> Iterator[FakeGateway]:
    """A gateway that admits good tokens of the provider, and nothing else."""
    with FakeGateway(provider.verify, text=ANSWER) as running:
        yield running


@pytest.fixture
def new_machine(provider: NpmProvider, gateway: FakeGateway) -> Iterator[NewMachine]:
    """Make machines: `new_machine("claude", keyring=True)`."""
    with ExitStack() as opened:

        def make(*tools: str, keyring: bool = False) -> Machine:
            # Short, because a socket's path has at most 103 bytes; with a space, because homes have.
            place = Path(opened.enter_context(TemporaryDirectory(prefix="e2e ", ignore_cleanup_errors=True)))
            machine = opened.enter_context(Machine(place, provider, gateway, tools))
            if keyring:
                opened.enter_context(Keyring(machine))
            return machine

        yield make
