"""The provider of the rotation rows: npm's `oidc-provider`, or the fake one where that is not installed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, Protocol

from tests import logged_in
from tests.e2e.install import MODULES, NODE
from tests.e2e.npm_provider import NpmProvider
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse

IS_REAL = NODE.is_file() and (MODULES / "oidc-provider").is_dir()
NAME = "npm oidc-provider" if IS_REAL else "the fake provider (`make e2e` installs npm's oidc-provider)"


class Provider(logged_in.Provider, Protocol):
    """A provider that rotates, ends the session of a token that comes back, and counts."""

    audience: str

    def seen(self) -> dict[str, int]:
        """Return how many `refreshes` there were, and how many responses were `lost`."""

    def secrets(self) -> dict[str, list[str]]:
        """Tell the canaries of every secret."""


class CountingFake(FakeProvider):
    """The fake provider, which tells what it has seen as npm's does."""

    def __init__(self, *, delay_ms: float, lose_every: int, reuse_grace_s: float) -> None:
        super().__init__(reuse_grace_s=reuse_grace_s)
        self.latency_s = delay_ms / 1000
        self._numbers = itertools.count(1)
        self._lost = 0
        self._lose_every = lose_every
        self.alter["refresh"] = self._lose

    def _lose(self, response: ServerResponse) -> ServerResponse:
        if self._lose_every and next(self._numbers) % self._lose_every == self._lose_every // 2:
            self._lost += 1
            response.raw = b""
        return response

    def seen(self) -> dict[str, int]:
        """Return how much of what it has seen."""
        return {"refreshes": self.count("refresh"), "lost": self._lost}

    def secrets(self) -> dict[str, list[str]]:
        """Return nothing: all that it gives out carries the canaries' mark."""
        return {}


@contextlib.contextmanager
def opened(*, delay_ms: float, lose_every: int = 0, reuse_grace_s: float = 0) -> Iterator[Provider]:
    """Provide a provider of its own."""
    behavior: dict[str, Any] = {
        "delay_ms": delay_ms,
        "lose_every": lose_every,
        "reuse_grace_s": reuse_grace_s,
    }
    if not IS_REAL:
        with CountingFake(**behavior) as fake:
            yield fake
        return
    with NpmProvider() as real:
        real.change(**behavior)
        yield real
