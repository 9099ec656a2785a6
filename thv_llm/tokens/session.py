"""From settings to a `TokenSource`: which session, which store, which provider."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thv_llm import sessions
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.sessions import SessionFacts, Sessions, StoredSession
from thv_llm.settings import OidcSettings, Settings
from thv_llm.store.choose import choose, open_named
from thv_llm.store.model import SessionStore
from thv_llm.tokens.renewal import renew
from thv_llm.tokens.source import Clock, TokenSource

if TYPE_CHECKING:
    from ssl import SSLContext

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
    context: Callable[[], SSLContext] | None = None,
) -> TokenSource:
    """Return the token source of the configured session. Nothing is read or asked yet.

    Args:
        clock: in place of `now`, for tests that set the other clock, too.
        interactive: a person is there to unlock a keyring.
        ask_passphrase: asks for the passphrase of an encrypted session file.
        context: gives the TLS context for the provider, where one is in the making already.
    """
    clock = clock or Clock(now=now)
    key = session_key(settings.oidc)
    stores = Stores(settings, paths, environ, interactive, ask_passphrase)

    def record(store: str, result: LoginResult) -> None:
        tokens = result.tokens
        facts = SessionFacts(store, key, result.subject, result.who, tokens.expires_at, clock.now())
        _update(paths, lambda known: known.after_login(facts))
        _leave_others(stores, facts.place, tokens.refresh)

    return TokenSource(
        key,
        open_store=lambda: stores.of(key),
        renew=_renewal(settings, key, paths, environ, clock, context),
        lock_path=paths.lock("session"),
        failure_path=paths.refresh_failure,
        record=record,
        ended=lambda store: _update(paths, lambda known: known.without(StoredSession(store, key))),
        clock=clock,
    )


class Stores(NamedTuple):
    """Finds the store of a session, each time anew: a login may have moved it."""

    settings: Settings
    paths: Paths
    environ: Mapping[str, str]
    interactive: bool
    ask_passphrase: Callable[[], Secret] | None

    def of(self, key: str) -> SessionStore:
        """Return the store in which the session of that name is, or would be."""
        try:
            known = sessions.load(self.paths.state)
            recorded = known.of(key).store or known.latest.store
        except ThvLlmError:  # a broken record is no reason to have no token
            recorded = "file" if os.path.exists(self.paths.session_file) else ""
        return choose(
            self.paths,
            self.environ,
            self.settings.token_store,
            recorded=recorded,
            interactive=self.interactive,
            ask_passphrase=self.ask_passphrase,
        )

    def named(self, name: str) -> SessionStore:
        """Return the store that a login recorded by this name."""
        return open_named(
            name,
            self.paths,
            self.environ,
            interactive=self.interactive,
            ask_passphrase=self.ask_passphrase,
        )


def _leave_others(stores: Stores, kept: StoredSession, refresh: Secret | None) -> None:
    """Remove the session from every store but this one: a login has moved it."""
    for one in sessions.load(stores.paths.state).earlier:
        if one.key == kept.key:
            with contextlib.suppress(ThvLlmError):  # it is out of reach
                store = stores.named(one.store)
                if store.load(one.key) != refresh:  # else it is the same place by another name
                    store.delete(one.key)
            _update(stores.paths, partial(Sessions.without, ended=one))


def _update(paths: Paths, change: Callable[[Sessions], Sessions]) -> None:
    from thv_llm import state  # which a cold `token` need not load

    state.update_sessions(paths, change)


def session_key(oidc: OidcSettings) -> str:
    """Return the name under which a session is stored: readable, and different for every difference."""
    parts = [oidc.issuer, oidc.client_id, sorted(oidc.scopes), oidc.audience, oidc.resource]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f"{oidc.client_id} {oidc.issuer} {digest}"


def owner(key: str) -> tuple[str, str]:
    """Return client id and issuer of the session of that name; neither has spaces in it."""
    client_id, issuer, _ = (key + "  ").split(" ", 2)
    return client_id, issuer


def _renewal(
    settings: Settings,
    key: str,
    paths: Paths,
    environ: Mapping[str, str],
    clock: Clock,
    context: Callable[[], SSLContext] | None,
) -> Callable[[Secret, float], Tokens]:
    def once(secret: Secret) -> Tokens:
        from thv_llm.oidc import discovery, token_endpoint
        from thv_llm.oidc.http import Provider

        http = Provider(settings.ca_file, environ, context=context)
        metadata = discovery.discover(
            settings.oidc.issuer, http, cache_path=paths.discovery_cache, now=clock.now()
        )
        subject = ""
        with contextlib.suppress(ThvLlmError):
            subject = sessions.load(paths.state).of(key).subject
        return token_endpoint.refresh(metadata, settings.oidc, secret, http, now=clock.now(), subject=subject)

    def whole(secret: Secret, deadline: float) -> Tokens:
        try:
            return renew(once, secret, deadline=deadline, monotonic=clock.monotonic, sleep=clock.sleep)
        except UnreachableError:
            from thv_llm.oidc import discovery

            discovery.forget(paths.discovery_cache)  # its endpoints may be out of date
            raise

    return whole
