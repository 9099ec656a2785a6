"""The world of a test of the whole: a provider, a gateway that checks its tokens, an empty machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.keyrings import Keyring
from tests.e2e.machine import PYZ, Machine
from tests.e2e.npm_provider import NpmProvider
from tests.fakes.gateway import FakeGateway

ANSWER = "Pong: seventeen green parrots."
"""What the gateway says; a tool that prints it has asked the gateway."""


@pytest.fixture(scope="session")
def provider() -> Iterator[NpmProvider]:
    assert PYZ.is_file(), "build it first: make pyz"
    with NpmProvider() as running:
        yield running


@pytest.fixture
def gateway(provider: NpmProvider) -> Iterator[FakeGateway]:
    """A gateway that admits good tokens of the provider, and nothing else."""
    with FakeGateway(provider.verify, text=ANSWER) as running:
        yield running


@pytest.fixture
def new_machine(
    tmp_path: Path, provider: NpmProvider, gateway: FakeGateway
) -> Iterator[Callable[..., Machine]]:
    """Make machines: `new_machine("claude", keyring=True)`."""
    with ExitStack() as open_things:
        number = 0

        def make(*tools: str, keyring: bool = False) -> Machine:
            nonlocal number
            number += 1
            place = tmp_path / f"machine {number}"  # the space is meant: homes have such names
            place.mkdir(mode=0o700)
            machine = open_things.enter_context(Machine(place, provider, gateway, tools))
            if keyring:
                open_things.enter_context(Keyring(machine))
            return machine

        yield make
