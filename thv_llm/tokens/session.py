"""From settings to a `TokenSource`: which session, which store, which provider; and the end of sessions.

A session that `end_all` removes from its store is not over at the provider: the caller revokes it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thv_llm import files, sessions
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.sessions import SessionFacts, Sessions, StoredSession
from thv_llm.settings import Settings
from thv_llm.store import SessionStore, choice
from thv_llm.tokens.failure import FailureMemory
from thv_llm.tokens.source import DEADLINE_S, Clock, TokenSource, renew

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
    is_patient: bool = True,
) -> TokenSource:
    """Return the token source of the configured session. Nothing is read or asked yet.

    Args:
        clock: in place of `now`, for tests that set the other clock, too.
        interactive: a user is there to unlock a keyring.
        ask_passphrase: asks for the passphrase of an encrypted session file.
        context: gives the TLS context for the provider, where one is in the making already.
        is_patient: keeps the pause after a failure; else, for a user who waits, it asks at once.
    """
    clock = clock or Clock(now=now)
    key = settings.session_id
    stores = Stores(settings, paths, environ, interactive, ask_passphrase)
    of_user = settings.oidc.grant == "user"

    def record(store: str, result: LoginResult) -> None:
        tokens = result.tokens
        facts = SessionFacts(store, key, result.subject, result.who, tokens.expires_at, clock.now())
        if tokens.session_ends_at is not None:
            facts = facts.with_end(tokens.session_ends_at, clock.now())
        _update(paths, lambda known: known.after_login(facts))
        _leave_others(stores, facts.place, tokens.refresh)

    def ends(ends_at: float) -> None:
        with contextlib.suppress(ThvLlmError):  # a broken record is no reason to have no token
            known = sessions.load(paths.state)
            if known.with_end(key, ends_at, clock.now()) != known:
                _update(paths, lambda known: known.with_end(key, ends_at, clock.now()))

    make: type[TokenSource] = TokenSource
    if settings.oidc.grant == "token-file":
        from thv_llm.tokens.grants import FileTokens

        make = FileTokens
    source = make(
        key,
        open_store=stores.current if of_user else lambda: _nothing(settings),
        renew=_renewal(stores, clock, context),
        lock_path=paths.lock("session"),
        failure_path=paths.refresh_failure,
        record=record,
        ends=ends,
        ended=lambda store: _update(paths, lambda known: known.without(StoredSession(store, key))),
        clock=clock,
        is_patient=is_patient,
    )
    source.path = settings.oidc.token_file
    return source


def note_found(settings: Settings, paths: Paths, environ: Mapping[str, str]) -> None:
    """Record where the session is that gives tokens: the record of its login can be lost."""
    if settings.oidc.grant == "user" and not sessions.load(paths.state).of(settings.session_id).store:
        store = Stores(settings, paths, environ).current()
        facts = SessionFacts(store.name, settings.session_id)
        _update(paths, lambda known: known.after_login(facts))


def _nothing(settings: Settings) -> SessionStore:
    from thv_llm.tokens.grants import Nothing

    return Nothing(settings.oidc)


class Stores(NamedTuple):
    """Finds the store of a session, each time anew: a login can have moved it."""

    settings: Settings
    paths: Paths
    environ: Mapping[str, str]
    interactive: bool = False
    ask_passphrase: Callable[[], Secret] | None = None

    def current(self) -> SessionStore:
        """Return the store in which the session of the settings is, or would be."""
        try:
            known = sessions.load(self.paths.state)
            recorded = known.of(self.settings.session_id).store or known.latest.store
        except ThvLlmError:  # a broken record is no reason to have no token
            recorded = "file" if os.path.exists(self.paths.session_file) else ""
        return choice.choose(
            self.paths,
            self.environ,
            self.settings.token_store,
            recorded=recorded,
            interactive=self.interactive,
            ask_passphrase=self.ask_passphrase,
        )

    def client_secret(self) -> Secret | None:
        """Return the secret of the client, where it has one."""
        if not self.settings.oidc.client_secret:
            return None
        from thv_llm.tokens import grants

        return grants.client_secret(self.settings.oidc, self.current)

    def secret_headers(self) -> Mapping[str, Secret]:
        """Return the headers of `gateway.header_file`, by name."""
        if not self.settings.gateway_header_file:
            return {}
        from thv_llm.tokens import grants

        return grants.secret_headers(self.settings, self.current)

    def named(self, name: str) -> SessionStore:
        """Return the store that a login recorded by this name."""
        return choice.open_named(
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


def _renewal(
    stores: Stores, clock: Clock, context: Callable[[], SSLContext] | None
) -> Callable[[Secret, float, bool], Tokens]:
    settings, paths, environ = stores.settings, stores.paths, stores.environ

    def once(secret: Secret) -> Tokens:
        from thv_llm.oidc import discovery, token_endpoint
        from thv_llm.oidc.http import Provider

        http = Provider(settings.ca_file, environ, context=context, client_secret=stores.client_secret)
        metadata = discovery.discover(
            settings.oidc.issuer, http, cache_path=paths.discovery_cache, now=clock.now()
        )
        if settings.oidc.grant != "user":
            from thv_llm.tokens import grants

            return grants.request(settings.oidc, http, environ, metadata, now=clock.now())
        subject = ""
        with contextlib.suppress(ThvLlmError):
            subject = sessions.load(paths.state).of(settings.session_id).subject
        return token_endpoint.refresh(metadata, settings.oidc, secret, http, now=clock.now(), subject=subject)

    def whole(secret: Secret, deadline: float, repeats: bool) -> Tokens:
        try:
            return renew(once, secret, deadline=deadline, clock=clock, repeats=repeats)
        except UnreachableError:
            from thv_llm.oidc import discovery

            discovery.forget(paths.discovery_cache)  # its endpoints can be out of date
            raise

    return whole


class Ended(NamedTuple):
    """A session that was removed.

    Attributes:
        is_current: it was that of the settings.
    """

    client_id: str
    issuer: str
    is_current: bool
    refresh: Secret


def end_all(
    settings: Settings,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    interactive: bool = False,
    ask_passphrase: Callable[[], Secret] | None = None,
) -> Iterator[Ended]:
    """Remove every session that is stored, and yield each as soon as it is removed.

    Args:
        settings: can lack issuer and client id: then there are only those of earlier settings.

    Raises:
        ThvLlmError: a store could not be used; the sessions in other stores have been removed.
    """
    stores = Stores(settings, paths, environ, interactive, ask_passphrase)
    current = settings.session_id if settings.oidc.issuer and settings.oidc.client_id else ""
    failure = None
    for place in _places(sessions.load(paths.state), current):
        try:
            secret = _removed(stores, place)
        except ThvLlmError as error:
            failure = failure or error
            continue
        if secret:
            client_id, issuer, *_ = f"{place.key}  ".split(" ")  # neither has spaces in it
            yield Ended(client_id, issuer, is_current=place.key == current, refresh=secret)
    if failure:
        raise failure


def _places(known: Sessions, current: str) -> tuple[StoredSession, ...]:
    """Return where sessions can be; that of the settings can be stored without having been recorded."""
    is_recorded = not current or known.of(current).store
    unrecorded = () if is_recorded else (StoredSession("", current),)
    return known.stored + unrecorded


def _removed(stores: Stores, place: StoredSession) -> Secret | None:
    with files.lock(stores.paths.lock("session"), timeout_s=DEADLINE_S, what="the session"):
        store = stores.named(place.store) if place.store else stores.current()
        secret = store.load(place.key)
        store.delete(place.key)
        FailureMemory(stores.paths.refresh_failure, place.key, now=time.time).clear()
        _update(stores.paths, lambda known: known.after_logout(place))
    return secret
