"""The end of sessions here: that of the settings, and those that earlier settings left behind.

A session that is removed from its store is not over at the provider: whoever calls this revokes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from thv_llm import files, sessions, state
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.sessions import Sessions, StoredSession
from thv_llm.settings import Settings
from thv_llm.tokens.failure import FailureMemory
from thv_llm.tokens.session import Stores, owner, session_key
from thv_llm.tokens.source import DEADLINE_S


@dataclass(frozen=True)
class Ended:
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
    """Remove every session that is stored, and yield each as soon as it is gone.

    Args:
        settings: may lack issuer and client id: then there are only those of earlier settings.

    Raises:
        ThvLlmError: a store could not be used; the sessions in other stores have been removed.
    """
    stores = Stores(settings, paths, environ, interactive, ask_passphrase)
    current = session_key(settings.oidc) if settings.oidc.issuer and settings.oidc.client_id else ""
    failure = None
    for place in _places(sessions.load(paths.state), current):
        try:
            secret = _removed(stores, place)
        except ThvLlmError as error:
            failure = failure or error
            continue
        if secret:
            yield Ended(*owner(place.key), is_current=place.key == current, refresh=secret)
    if failure:
        raise failure


def _places(known: Sessions, current: str) -> tuple[StoredSession, ...]:
    """Return where sessions may be; that of the settings may be stored without having been recorded."""
    is_recorded = not current or known.of(current).store
    unrecorded = () if is_recorded else (StoredSession("", current),)
    return known.stored + unrecorded


def _removed(stores: Stores, place: StoredSession) -> Secret | None:
    key = place.key
    with files.lock(stores.paths.lock("session"), timeout_s=DEADLINE_S, what="the session"):
        store = stores.named(place.store) if place.store else stores.of(key)
        secret = store.load(key)
        store.delete(key)
        FailureMemory(stores.paths.refresh_failure, key, now=time.time).clear()
        state.update_sessions(stores.paths, lambda known: known.without(place))
    return secret
