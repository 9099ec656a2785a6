"""The last refresh that failed, remembered across processes, with no token in it.

A tool that meets a failing helper calls it again at once, some of them eleven times. So:

- a session that ended is not tried again for `ENDED_S`, and why it ended is told until the next login;
- one whose user must do something at the provider is not tried again before the next login, which
  passes on what the provider asked for (`claims`);
- after any other failure there is a pause, twice as long each time and never the same for two
  machines, or as long as the provider requests (`Retry-After`). Who waited for a refresh that failed
  fails with it. `thv-llm login` is its user's own wish, and ignores the pause.

Every memory is bound to a fingerprint of the refresh token it is about: a new login is never
refused for the old one's sake.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import NamedTuple

from thv_llm import files
from thv_llm.errors import (
    InteractionRequiredError,
    LoginRequiredError,
    NoResponseError,
    RefusedError,
    ThvLlmError,
    UnreachableError,
)
from thv_llm.secret import Secret

ENDED_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
UNSENT_PAUSE_S = 10.0
"""The longest where no request reached the provider: the network can be back at any moment."""

ASKED_PAUSE_S = 300.0
"""The longest that `Retry-After` can ask for."""

CLOCK_SLACK_S = 1.0
"""A memory from further in the future than this means that the clock was set back."""

KINDS: dict[str, type[ThvLlmError]] = {
    "interaction": InteractionRequiredError,
    "ended": LoginRequiredError,
    "refused": RefusedError,
    "unreachable": UnreachableError,
}
"""The first that fits: one is a subclass of another."""


class _Known(NamedTuple):
    """A failure as it is remembered.

    Attributes:
        token, session: fingerprints of what it is about.
        at, until: when it happened, and when its pause ends; seconds since the epoch.
        times: how many in a row there were.
        kind: one of `KINDS`.
        text: what, why and next step of the error.
    """

    token: str
    session: str
    at: float
    until: float
    times: int
    kind: str
    text: tuple[str, str, str]
    claims: str = ""


class FailureMemory:
    """One file with at most one failure in it.

    Args:
        key: the session's key.
    """

    def __init__(self, path: str, key: str, *, now: Callable[[], float]) -> None:
        self._path = path
        self._key = key
        self._now = now

    def check(self, secret: Secret, since: float, *, is_patient: bool = True) -> None:
        """Raise the remembered failure if it still holds for this refresh token.

        Args:
            since: when the caller began to wait; a failure after that is the caller's, too.
            is_patient: keeps the pause.
        """
        known = self._of(secret)
        if known is None:
            return
        if known.kind == "ended":
            holds = self._now() - known.at < ENDED_S
        else:
            holds = known.kind == "interaction" or (is_patient and self._now() < known.until)
        if holds or known.at > since:
            raise self._failure(known)

    def has_failed(self, secret: Secret) -> bool:
        """Return whether the latest refresh with this refresh token failed."""
        return self._of(secret) is not None

    def why_ended(self) -> ThvLlmError | None:
        """Return the failure that ended this session, if that is why there is none."""
        known = self._read()
        is_it = known and known.kind == "ended" and known.session == self._fingerprint()
        return self._failure(known) if known and is_it else None

    def latest(self) -> tuple[float, ThvLlmError] | None:
        """Return when the latest refresh of this session failed (seconds since the epoch), and how."""
        known = self._read()
        if known is None or known.session != self._fingerprint():
            return None
        return known.at, self._failure(known)

    def remember(self, secret: Secret, error: ThvLlmError) -> ThvLlmError:
        """Keep this failure, and return it as it is told from now on: with its pause.

        Without the file (a full disk) things go on, only slower.

        Args:
            error: one of `KINDS`.
        """
        before, now = self._of(secret), self._now()
        is_next = before is not None and now - before.until < ASKED_PAUSE_S
        times = before.times + 1 if before and is_next else 1
        known = _Known(
            token=self._fingerprint(secret),
            session=self._fingerprint(),
            at=now,
            until=now + _pause_s(error, times),
            times=times,
            kind=next(name for name, kind in KINDS.items() if isinstance(error, kind)),
            text=(error.what, error.why, error.next_step),
            claims=error.claims if isinstance(error, InteractionRequiredError) else "",
        )
        with contextlib.suppress(ThvLlmError):
            files.replace(self._path, json.dumps(known._asdict()).encode())
        return self._failure(known)

    def clear(self) -> None:
        """Forget; called when a token was had."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _of(self, secret: Secret) -> _Known | None:
        """Return the failure of this refresh token; None if there is none, or the clock was set back."""
        known = self._read()
        if known is None or known.token != self._fingerprint(secret):
            return None
        return known if self._now() - known.at >= -CLOCK_SLACK_S else None

    def _read(self) -> _Known | None:
        try:
            found = json.loads(files.read(self._path) or b"null")
            what, why, next_step = map(str, found["text"])
            return _Known(
                found["token"],
                found["session"],
                float(found["at"]),
                float(found["until"]),
                int(found["times"]),
                found["kind"] if found["kind"] in KINDS else "unreachable",
                (what, why, next_step),
                str(found["claims"]),
            )
        except (ThvLlmError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None  # there is none, a broken one, or one of another version

    def _failure(self, known: _Known) -> ThvLlmError:
        what, why, next_step = known.text
        wait_s = max(known.until - self._now(), 0.0)
        if known.kind == "interaction":
            return InteractionRequiredError(what, why=why, next_step=next_step, claims=known.claims)
        if known.kind == "unreachable":
            steps = [next_step] if next_step else []
            next_step = "; ".join([*steps, f"retry in {math.ceil(wait_s)} s"] if wait_s else steps)
            return UnreachableError(what, why=why, next_step=next_step, retry_after_s=wait_s or None)
        return KINDS[known.kind](what, why=why, next_step=next_step)

    def _fingerprint(self, secret: Secret | None = None) -> str:
        """Return 64 bits of a hash: enough to tell two apart, too few to be worth anything."""
        text = self._key + ("\0" + secret.reveal() if secret else "")
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pause_s(error: ThvLlmError, times: int) -> float:
    """Return how long nothing is tried after the failure with this number, counted from 1."""
    asked_s = error.retry_after_s if isinstance(error, UnreachableError) else None
    if asked_s is not None:
        return min(max(asked_s, FIRST_PAUSE_S), ASKED_PAUSE_S)
    is_unsent = isinstance(error, NoResponseError) and not error.maybe_sent
    longest_s = UNSENT_PAUSE_S if is_unsent else LONGEST_PAUSE_S
    jitter = 0.75 + os.urandom(1)[0] / 510  # so that the machines of a company do not come back as one
    return min(FIRST_PAUSE_S * 2.0 ** min(times - 1, 10), longest_s) * jitter
