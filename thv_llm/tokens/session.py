"""From settings to a `TokenSource`: which session, which store, which provider."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thv_llm import state
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings, Settings
from thv_llm.state import SessionFacts, State
from thv_llm.store.choose import choose
from thv_llm.store.model import SessionStore
from thv_llm.tokens.renewal import renew
from thv_llm.tokens.source import Clock, TokenSource

if TYPE_CHECKING:
    from thv_llm.oidc.login import LoginResult
    from thv_llm.oidc.token_endpoint import Tokens


def open(
    settings: Settings,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    now: Callable[[], float] = time.time,
    clock: Clock | None = None,
    interactive: bool = False,
    ask_passphrase: Callable[[], Secret] | None = None,
) -> TokenSource:
    """Return the token source of the configured session. Nothing is read or asked yet.

    Args:
        clock: in place of `now`, for tests that set the other clock, too.
        interactive: a person is there to unlock a keyring.
        ask_passphrase: asks for the passphrase of an encrypted session file.
    """
    clock = clock or Clock(now=now)
    stores = _Stores(settings, paths, environ, interactive, ask_passphrase)
    key = session_key(settings.oidc)

    def record(store: str, result: LoginResult | None) -> None:
        stores.leave_others(store, key)
        _record(paths, store, result, clock.now())

    return TokenSource(
        key,
        open_store=stores.current,
        renew=_renewal(settings, paths, environ, clock),
        lock_path=paths.lock("session"),
        failure_path=paths.refresh_failure,
        record=record,
        clock=clock,
    )


@dataclass(frozen=True)
class _Stores:
    """Finds the session's store, each time anew: a login may have moved it."""

    settings: Settings
    paths: Paths
    environ: Mapping[str, str]
    interactive: bool
    ask_passphrase: Callable[[], Secret] | None

    def current(self) -> SessionStore:
        return self._choose(self.settings.token_store, self._recorded())

    def leave_others(self, name: str, key: str) -> None:
        """Remove the session from the store of the last login if this one is another."""
        before = self._recorded()
        if before and before != name:
            with contextlib.suppress(ThvLlmError):  # it is out of reach
                self._choose("", before).delete(key)

    def _recorded(self) -> str:
        return state.load(self.paths.state).session.store

    def _choose(self, wanted: str, recorded: str) -> SessionStore:
        return choose(
            self.paths,
            self.environ,
            wanted,
            recorded=recorded,
            interactive=self.interactive,
            ask_passphrase=self.ask_passphrase,
        )


def session_key(oidc: OidcSettings) -> str:
    """Return the name under which a session is stored: readable, and different for every difference."""
    parts = [oidc.issuer, oidc.client_id, sorted(oidc.scopes), oidc.audience, oidc.resource]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"{oidc.client_id} {oidc.issuer} {digest}"


def _renewal(
    settings: Settings, paths: Paths, environ: Mapping[str, str], clock: Clock
) -> Callable[[Secret, float], Tokens]:
    def once(secret: Secret) -> Tokens:
        from thv_llm.oidc import discovery, token_endpoint
        from thv_llm.oidc.http import Provider

        http = Provider(settings.ca_file, environ)
        metadata = discovery.discover(
            settings.oidc.issuer, http, cache_path=paths.discovery_cache, now=clock.now()
        )
        subject = state.load(paths.state).session.subject
        return token_endpoint.refresh(metadata, settings.oidc, secret, http, now=clock.now(), subject=subject)

    def whole(secret: Secret, deadline: float) -> Tokens:
        try:
            return renew(once, secret, deadline=deadline, monotonic=clock.monotonic, sleep=clock.sleep)
        except UnreachableError:
            from thv_llm.oidc import discovery

            discovery.forget(paths.discovery_cache)  # its endpoints may be out of date
            raise

    return whole


def _record(paths: Paths, store: str, result: LoginResult | None, now: float) -> None:
    """Keep where the session is, and whose, or that there is none."""

    def change(known: State) -> State:
        if result is None:
            return replace(known, session=SessionFacts())
        facts = SessionFacts(store, result.subject, result.who, result.tokens.expires_at, now)
        return replace(known, session=facts)

    state.update(paths, change)
