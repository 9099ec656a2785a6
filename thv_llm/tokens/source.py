"""`TokenSource`: the one place where a session is used up and replaced.

Rule 1: never a refresh without the lock `session`. The store is read again inside it, so what
        another process stored is taken up.
Rule 2: one refresh at a time in this process, too; meanwhile the others get the token in hand,
        as long as it is good.
Rule 3: a rotated refresh token is stored and read back before the access token is given out.
        If it cannot be stored, it is kept in memory and stored before the next refresh.
Rule 4: only the end of the session at the provider removes it, and only if what is stored is
        still what failed.
Rule 5: a token is fresh while more than `min_valid_s` or half of its lifetime, whichever is
        less, remains. So a token that lives for five minutes is refreshed every 2.5, not always.
Rule 6: time is the lesser of what two clocks say: the monotonic one stands still while the
        machine sleeps, the other one jumps.
Rule 7: a request is repeated only where that is safe.
        - A response that was lost after the request can have arrived: once more, with the same
          refresh token, within the few seconds that rotating providers allow for this (RFC 9700
          section 4.14.2), however short the caller's deadline is: without it the session is lost.
        - A request that brought no token, or never arrived: again after a pause, which is the
          provider's `Retry-After` if it names one, before the caller's deadline. Only after the
          first failure; later ones are `tokens.failure`'s to pace.
        - A response that failed a check, and the end of the session: never.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from thv_llm import files
from thv_llm.agent_client import MIN_VALID_S
from thv_llm.errors import (
    NO_TOKEN,
    InteractionRequiredError,
    InvalidResponseError,
    LoginRequiredError,
    NoResponseError,
    NotConfiguredError,
    RefusedError,
    ThvLlmError,
    UnreachableError,
)
from thv_llm.secret import Secret
from thv_llm.store import SessionStore
from thv_llm.tokens.failure import FailureMemory

if TYPE_CHECKING:
    from thv_llm.oidc.login import LoginResult
    from thv_llm.oidc.token_endpoint import Tokens

DEADLINE_S = 30.0
"""For one `get`, waiting for others included."""

SPARE_S = 30.0
"""A token with this much left is better than an error."""

PATIENCE_S = 5.0
"""How long a failure is not repeated while there is a token to spare."""

REJECTED_AGAIN_S = 10.0
"""A token this young that replaced a rejected one is rejected for other reasons than its age."""

SAVE_PAUSES_S = (0.2, 0.5, 1.0)

RETRY_PAUSES_S = (0.25, 1.5)
"""Before the second and the third request; with the first they lie within five seconds."""

REQUEST_S = 10.0
"""What one request can take; none begins that could not end in time."""

RESCUE_S = 15.0
"""From a lost response on there is time for the other requests, whatever the deadline."""

SHORTEST_S, LONGEST_S = 1.0, 30.0
"""Between two looks of `keep_fresh`; short, because the machine can sleep, or its clock be set, meanwhile."""

FIRST_RETRY_S = 5.0


class AccessToken(NamedTuple):
    """One access token.

    Attributes:
        expires_at: seconds since the epoch, on this machine's clock.
        fresh_until: when it is time for the next one.
    """

    value: Secret
    expires_at: float
    fresh_until: float = 0.0


class Clock(NamedTuple):
    """What tests replace of time."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _Held(NamedTuple):
    """The token in memory; times on the monotonic clock.

    Attributes:
        is_last: there is no session that could give another one, so this one serves to its end.
    """

    token: AccessToken
    lifetime_s: float
    asked_at: float
    arrived_at: float
    replaced_rejected: bool
    is_last: bool = False

    def remaining_s(self, clock: Clock) -> float:
        by_monotonic = self.lifetime_s - (clock.monotonic() - self.asked_at)
        return min(self.token.expires_at - clock.now(), by_monotonic)

    def is_fresh(self, min_valid_s: float, clock: Clock) -> bool:
        return self.remaining_s(clock) > (0 if self.is_last else needed_s(min_valid_s, self.lifetime_s))

    def is_spare(self, clock: Clock) -> bool:
        return self.remaining_s(clock) > min(SPARE_S, self.lifetime_s / 4)


class _Wish(NamedTuple):
    """What a caller of `get` asked for."""

    min_valid_s: float
    rejected: Secret | None = None
    newer_than: float | None = None


def needed_s(min_valid_s: float, lifetime_s: float) -> float:
    """Return how much of its lifetime a fresh token must have left."""
    return min(min_valid_s, lifetime_s / 2)


class TokenSource:
    """Access tokens of one session; safe to use from many threads and processes.

    Args:
        key: names the session in the store.
        open_store: finds the store; called for each refresh, because a login can move the session.
        renew: exchanges a refresh token before a deadline (monotonic); with False, by one request only.
        lock_path: of the lock `session`.
        record: told of a login: name of the store, result.
        ends: told when the session will end, as the provider says it (`Tokens.session_ends_at`).
        ended: told that the session has ended and is no longer in the store of that name.
        is_patient: keeps the pause after a failure; else, for a user who waits, it asks at once.
    """

    path = ""  # of the file that has the token, where a file has it

    def __init__(
        self,
        key: str,
        *,
        open_store: Callable[[], SessionStore],
        renew: Callable[[Secret, float, bool], Tokens],
        lock_path: str,
        failure_path: str,
        record: Callable[[str, LoginResult], None],
        ends: Callable[[float], None],
        ended: Callable[[str], None],
        clock: Clock,
        is_patient: bool = True,
    ) -> None:
        self._key = key
        self._open_store = open_store
        self._renew = renew
        self._lock_path = lock_path
        self._record = record
        self._ends = ends
        self._ended = ended
        self._clock = clock
        self._is_patient = is_patient
        self._failures = FailureMemory(failure_path, key, now=clock.now)
        self._turn = threading.Lock()
        self._held: _Held | None = None
        self._refused: Secret | None = None  # by the gateway, so no caller gets it again
        self._unsaved: tuple[Secret, Secret] | None = None  # what is stored, what should be
        self._patient_until = 0.0

    def get(
        self,
        min_valid_s: float = MIN_VALID_S,
        *,
        rejected: Secret | None = None,
        newer_than: float | None = None,
    ) -> AccessToken:
        """Return a fresh access token.

        Args:
            rejected: the gateway refused this one: it is not returned again, unless it has
                itself just replaced a rejected one.
            newer_than: only a token that arrived after this moment (monotonic) will do. So a
                caller who insists on a new one has one that came since he began, and a crowd
                of them costs one refresh.

        Raises:
            LoginRequiredError: there is no session (any more).
            InteractionRequiredError, RefusedError, UnreachableError: the session gives no token now,
                and none is left that is good.
            ThvLlmError: the store or its lock cannot be used.
        """
        wish = _Wish(min_valid_s, rejected, newer_than)
        if rejected:
            self._refused = rejected
        return self._fresh(wish) or self._after_waiting(wish)

    def _after_waiting(self, wish: _Wish) -> AccessToken:
        started, deadline = self._clock.now(), self._clock.monotonic() + DEADLINE_S
        spare = self._spare(wish)
        if spare and self._clock.monotonic() < self._patient_until:
            return spare
        if not self._turn.acquire(blocking=False):
            if spare:
                return spare
            if not self._turn.acquire(timeout=DEADLINE_S):
                raise UnreachableError(NO_TOKEN, why="another refresh hangs")
        try:
            return self._fresh(wish) or self._refreshed(started, deadline, wish.rejected)
        except ThvLlmError as error:
            is_over = isinstance(error, (LoginRequiredError, NotConfiguredError))
            if is_over and not isinstance(error, InteractionRequiredError):
                if self._held and not self._held.is_last:
                    self._held = None
                raise
            spare = self._spare(wish)
            if spare is None:
                raise
            pause_s = error.retry_after_s if isinstance(error, UnreachableError) else None
            self._patient_until = self._clock.monotonic() + (pause_s or PATIENCE_S)
            return spare
        finally:
            self._turn.release()

    def forget(self) -> None:
        """Drop the access token from memory: the next `get` looks at the store again."""
        self._held = None
        self._patient_until = 0.0

    def settle(self) -> None:
        """Wait until no refresh is under way: a process must not end in the middle of one."""
        if self._turn.acquire(timeout=DEADLINE_S):
            self._turn.release()

    def adopt(self, result: LoginResult) -> None:
        """Store the session of a login, and use its access token.

        Without a refresh token in it the session ends with the access token; an older session,
        which can be another user's, goes either way.
        """
        tokens = result.tokens
        with self._locked(DEADLINE_S):
            store = self._open_store()
            if tokens.refresh:
                store.save(self._key, tokens.refresh)
            else:
                store.delete(self._key)
            self._unsaved = None
            self._failures.clear()
            self._record(store.name if tokens.refresh else "", result)
        self._hold(tokens, self._clock.now(), self._clock.monotonic(), None)

    def hold(self, token: Secret, expires_at: float) -> None:
        """Serve the token of a login that brought no session, until it expires."""
        asked_at = self._clock.monotonic()
        last = AccessToken(token, expires_at, expires_at)
        lifetime_s = expires_at - self._clock.now()
        self._held = _Held(last, lifetime_s, asked_at, asked_at, replaced_rejected=False, is_last=True)

    def describe(self) -> str:
        """Say where the session is and what protects it."""
        return self._open_store().describe()

    def stored(self) -> Secret | None:
        """Return the refresh token that is stored; None without one, or when it cannot be read."""
        try:
            return self._open_store().load(self._key)
        except ThvLlmError:
            return None

    def has_session(self) -> bool:
        """Tell whether a session is stored; sends no request to see whether it is still valid."""
        return self._open_store().load(self._key) is not None

    def claims(self) -> str:
        """Return what the provider wants to see as `claims` of the next login; "" for nothing."""
        latest = self._failures.latest()
        error = latest[1] if latest else None
        return error.claims if isinstance(error, InteractionRequiredError) else ""

    def at_hand(self) -> Secret | None:
        """Return the access token in memory if it is fresh. Never waits."""
        found = self._fresh(_Wish(MIN_VALID_S))
        return found.value if found else None

    def remaining_s(self) -> float:
        """Return for how many seconds the access token in memory is valid; 0.0 without one. Never waits."""
        held = self._held
        return max(held.remaining_s(self._clock), 0.0) if held else 0.0

    def _fresh(self, wish: _Wish) -> AccessToken | None:
        held = self._held
        if held is None or not held.is_fresh(wish.min_valid_s, self._clock):
            return None
        if wish.newer_than is not None and held.arrived_at <= wish.newer_than:
            return None
        refused = (wish.rejected, None if held.is_last else self._refused)
        if held.token.value in refused and not self._has_just_replaced_one(held):
            return None
        return held.token

    def _has_just_replaced_one(self, held: _Held) -> bool:
        """Return whether the gateway refuses this token for other reasons than its age, if it does."""
        return held.replaced_rejected and self._clock.monotonic() - held.asked_at < REJECTED_AGAIN_S

    def _spare(self, wish: _Wish) -> AccessToken | None:
        """Return the token in hand where it is better than none."""
        held = self._held
        if held is None or held.token.value in (wish.rejected, self._refused) or wish.newer_than is not None:
            return None
        return held.token if held.is_spare(self._clock) else None

    def _locked(self, timeout_s: float) -> contextlib.AbstractContextManager[None]:
        return files.lock(self._lock_path, timeout_s=max(timeout_s, 0.0), what="the session")

    def _refreshed(self, started: float, deadline: float, rejected: Secret | None) -> AccessToken:
        with self._locked(deadline - self._clock.monotonic()):
            store = self._open_store()
            secret = self._stored(store)
            self._failures.check(secret, started, is_patient=self._is_patient)
            store.ready()
            requested, asked_at = self._clock.now(), self._clock.monotonic()
            try:
                tokens = self._renew(secret, deadline, not self._failures.has_failed(secret))
            except (InteractionRequiredError, RefusedError, UnreachableError) as error:
                raise self._failures.remember(secret, error) from None
            except LoginRequiredError as error:
                self._failures.remember(secret, error)
                self._clear(store, secret)
                raise
            self._keep(store, secret, tokens.refresh)
            self._failures.clear()
            if tokens.session_ends_at is not None:
                self._ends(tokens.session_ends_at)
            return self._hold(tokens, requested, asked_at, rejected)

    def _stored(self, store: SessionStore) -> Secret:
        """Return the refresh token to use; one that could not be stored before comes first."""
        stored = store.load(self._key)
        if self._unsaved and self._unsaved[0] == stored:
            self._keep(store, *self._unsaved)
            stored = store.load(self._key)
        if stored is None:
            raise self._failures.why_ended() or LoginRequiredError(
                NO_TOKEN, why="not logged in", next_step="thv-llm login"
            )
        return stored

    def _keep(self, store: SessionStore, old: Secret, new: Secret | None) -> None:
        """Store a rotated refresh token; the old one is dead already."""
        if new is None or new == old:
            return
        self._unsaved = (old, new)
        for pause_s in (*SAVE_PAUSES_S, None):
            try:
                store.save(self._key, new)
                break
            except ThvLlmError:
                if pause_s is None:
                    raise
                self._clock.sleep(pause_s)
        self._unsaved = None

    def _clear(self, store: SessionStore, secret: Secret) -> None:
        """Remove the session that has ended, if it is still the stored one."""
        with contextlib.suppress(ThvLlmError):  # the memory of the failure holds for now
            if store.load(self._key) == secret:
                store.delete(self._key)
                self._ended(store.name)

    def _hold(
        self, tokens: Tokens, requested: float, asked_at: float, rejected: Secret | None
    ) -> AccessToken:
        lifetime_s = tokens.expires_at - requested
        fresh_until = tokens.expires_at - needed_s(MIN_VALID_S, lifetime_s)
        token = AccessToken(tokens.access, tokens.expires_at, fresh_until)
        self._held = _Held(token, lifetime_s, asked_at, self._clock.monotonic(), rejected is not None)
        self._patient_until = 0.0
        return token


def renew(
    once: Callable[[Secret], Tokens], secret: Secret, *, deadline: float, clock: Clock, repeats: bool = True
) -> Tokens:
    """Return new tokens.

    Args:
        once: makes one request.
        repeats: also a request that has certainly brought nothing.
        deadline: monotonic.

    Raises:
        ThvLlmError: as `once` does.
    """
    pauses, is_spent = list(RETRY_PAUSES_S) if repeats else [], False
    while True:
        try:
            return once(secret)
        except InvalidResponseError:
            raise
        except UnreachableError as error:
            if isinstance(error, NoResponseError) and error.maybe_sent:
                if is_spent:
                    raise
                is_spent, deadline = True, max(deadline, clock.monotonic() + RESCUE_S)
                pauses = pauses or [RETRY_PAUSES_S[0]]
            wait_s = max(pauses.pop(0), error.retry_after_s or 0.0) if pauses else None
            if wait_s is None or clock.monotonic() + wait_s + REQUEST_S > deadline:
                raise
            clock.sleep(wait_s)


def keep_fresh(
    get: Callable[[], AccessToken], stop: threading.Event, *, now: Callable[[], float] = time.time
) -> None:
    """Call `get` whenever the token in hand is about to be no longer fresh, until `stop` is set.

    Without a session it looks again every half minute, which costs the provider nothing.
    """
    retry_s = FIRST_RETRY_S
    while not stop.is_set():
        try:
            left_s = get().fresh_until - now()
        except LoginRequiredError:
            left_s = LONGEST_S
        except ThvLlmError:
            left_s = 0.0
        except Exception as error:  # this thread must outlive it: no other is started
            from thv_llm import log  # which a cold `token` need not load

            log.report(error, "while getting the next token")
            left_s = 0.0
        if left_s > 0:
            pause_s, retry_s = left_s, FIRST_RETRY_S
        else:  # the provider is away, perhaps with an old token still to spare
            pause_s, retry_s = retry_s, min(retry_s * 2, LONGEST_S)
        stop.wait(min(max(pause_s, SHORTEST_S), LONGEST_S))
