"""A logged-in user: settings, a stored session, a provider, and a clock that a test can set."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import environs
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.logged_in import HasSession
from thv_llm import paths, tokens
from thv_llm.oidc.login import LoginResult
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings, Settings
from thv_llm.store.encrypted_file import EncryptedFile


class FakeTime:
    """Both clocks; `sleep` only moves them."""

    def __init__(self) -> None:
        self.wall = time.time()
        self.steady = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_(seconds)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Rig(HasSession):
    """One user of one provider.

    Attributes:
        source: like the one of a process that runs; `another()` is another process'.
    """

    provider: FakeProvider

    def __init__(self, directory: Path, provider: FakeProvider, clock: FakeTime) -> None:
        self.environ = environs.user(directory)
        self.paths = paths.find(self.environ)
        self.provider = provider
        self.clock = clock
        self.settings = Settings(
            gateway_url="https://llm.example",
            ca_file=str(provider.ca_file),
            token_store="file",
            oidc=OidcSettings(issuer=provider.issuer, client_id="cli"),
        )
        self.key = self.settings.session_id
        self.store = EncryptedFile(self.paths.session_file, self.paths.session_file_key)
        self.source = self.another()

    def configure(self, **oidc: Any) -> None:
        """Change what belongs to the provider, and log in with it."""
        self.settings = self.settings._replace(oidc=self.settings.oidc._replace(**oidc))
        self.key = self.settings.session_id
        self.log_in()

    def another(self) -> tokens.TokenSource:
        return tokens.open(self.settings, self.paths, self.environ, clock=self.clock_as_value())

    def clock_as_value(self) -> tokens.Clock:
        return tokens.Clock(self.clock.now, self.clock.monotonic, self.clock.sleep)


@contextlib.contextmanager
def rigged(directory: Path, **behavior: Any) -> Iterator[Rig]:
    """Give a rig whose session is stored, as long as the context lasts.

    Args:
        behavior: of the provider, as `FakeProvider` takes it.
    """
    clock = FakeTime()
    with FakeProvider(tls=False, now=clock.now, **behavior) as provider:
        made = Rig(directory, provider, clock)
        made.log_in()
        yield made


def broken(status: int = 503, **headers: str) -> ServerResponse:
    """Return the response of a provider in trouble."""
    return ServerResponse(status=status, body={"error": "temporarily_unavailable"}, headers=dict(headers))


def login_result(access: str, refresh: str | None, expires_at: float) -> LoginResult:
    """Return what a login yields."""
    found = Tokens(Secret(access), expires_at, Secret(refresh) if refresh else None)
    return LoginResult(found, "user-1", "dev@example.com")
