"""Our side of a login, put together for tests: a provider, a browser, a user."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.browser import FakeBrowser, broken_browser
from tests.fakes.provider import FakeProvider
from thv_llm.oidc import discovery, login, token_endpoint
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import Provider
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.login import LoginResult
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

GATEWAY = "llm.example.com"


@dataclass
class Client:
    """thv-llm as the provider's client `cli`.

    Attributes:
        said: the lines that the user was shown.
        browser: the one that the latest login opened.
    """

    provider: FakeProvider
    timeout_s: float = 10.0
    oidc: OidcSettings = field(init=False)
    http: Provider = field(init=False)
    said: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    browser: FakeBrowser = field(init=False)

    def __post_init__(self) -> None:
        self.oidc = OidcSettings(issuer=self.provider.issuer, client_id="cli")
        # As SSL_CERT_FILE it stands for the system's store, whose loading would cost each test 30 ms.
        trust = {"SSL_CERT_FILE": self.provider.ca_file}
        self.http = Provider("", trust, timeout_s=self.timeout_s)

    def configure(self, **changes: Any) -> None:
        """Change the settings."""
        self.oidc = self.oidc._replace(**changes)

    def discover(self, **options: Any) -> Metadata:
        """Fetch the metadata."""
        return discovery.discover(
            self.oidc.issuer, self.http, **{"cache_path": "", "now": time.time(), **options}
        )

    def login(
        self,
        *,
        before: tuple[str, ...] = (),
        visits: int = 1,
        metadata: Metadata | None = None,
        **options: Any,
    ) -> LoginResult:
        """Log in with a browser that follows redirects (and makes the detours of `before`)."""
        metadata = metadata or self.discover()
        with FakeBrowser(self.provider.ca_file, before=before, visits=visits) as self.browser:
            interaction = Interaction(self.said.append, self.browser.open, sleep=self.slept.append)
            return login.login(
                self.oidc,
                self.http,
                metadata=metadata,
                **{"interaction": interaction, "now": time.time, "gateway_name": GATEWAY, **options},
            )

    def login_by_device(self, **options: Any) -> LoginResult:
        """Log in with a code; the time that passes is noted, not spent."""
        interaction = Interaction(self.said.append, broken_browser, sleep=self.slept.append)
        return self.login(flow="device", interaction=interaction, **options)

    def refresh(self, token: str, **options: Any) -> Tokens:
        """Use a refresh token."""
        options = {"now": time.time(), **options}
        return token_endpoint.refresh(self.discover(), self.oidc, Secret(token), self.http, **options)


def secrets_of(provider: FakeProvider) -> list[str]:
    """Return everything secret that the provider has given out or was sent."""
    names = ("code", "code_verifier", "refresh_token", "device_code", "token")
    sent = [request.form.get(name, "") for _, request in provider.requests for name in names]
    return [secret for secret in [*provider.grants.given_out, *sent] if secret]


def leaks(text: str, provider: FakeProvider) -> list[str]:
    """Return what of the secrets the text gives away."""
    return [secret for secret in secrets_of(provider) if secret in text]
