"""The last refresh that failed, remembered across processes, with no token in it.

A tool that meets a failing helper calls it again at once, some of them eleven times. So:

- a session that ended is not tried again for `PERMANENT_S`, and why it ended is told until the
  next login;
- whoever waited for a refresh that failed has the same answer, and does not try by himself;
- a provider that asked for a pause (`Retry-After`) gets it, for at most `PAUSE_S`.

Every memory is bound to a fingerprint of the refresh token it is about: a new login is never
refused for the old one's sake.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from typing import NamedTuple

from thv_llm import files
from thv_llm.errors import LoginRequiredError, ThvLlmError, UnreachableError
from thv_llm.secret import Secret

PERMANENT_S = 5.0
PAUSE_S = 60.0
CLOCK_SLACK_S = 1.0
"""A memory from further in the future than this means that the clock was set back."""


class _Known(NamedTuple):
    """A failure as it is remembered.

    Attributes:
        token, session: fingerprints of what it is about.
        until: when the pause ends that the provider asked for.
        text: what, why and next step of the error.
    """

    token: str
    session: str
    at: float
    until: float
    permanent: bool
    text: tuple[str, str, str]


class FailureMemory:
    """One file with at most one failure in it.

    Args:
        key: the session's key.
    """

    def __init__(self, path: str, key: str, *, now: Callable[[], float]) -> None:
        self._path = path
        self._key = key
        self._now = now

    def check(self, secret: Secret, since: float) -> None:
        """Raise the remembered failure if it still holds for this refresh token.

        Args:
            since: when the caller began to wait; a failure after that is his, too.
        """
        known = self._read()
        if known is None or known.token != self._fingerprint(secret):
            return
        age_s = self._now() - known.at
        if age_s < -CLOCK_SLACK_S:
            return
        is_recent = known.permanent and age_s < PERMANENT_S
        if is_recent or known.at > since or self._now() < known.until:
            raise self._failure(known)

    def why_ended(self) -> ThvLlmError | None:
        """Return the failure that ended this session, if that is why there is none."""
        known = self._read()
        if known is None or not known.permanent or known.session != self._fingerprint():
            return None
        return self._failure(known)

    def remember(self, secret: Secret, error: ThvLlmError) -> None:
        """Keep this failure; without the file (a full disk) things go on, only slower."""
        pause_s = error.retry_after_s if isinstance(error, UnreachableError) else None
        now = self._now()
        known = _Known(
            token=self._fingerprint(secret),
            session=self._fingerprint(),
            at=now,
            until=now + min(pause_s or 0.0, PAUSE_S),
            permanent=isinstance(error, LoginRequiredError),
            text=(error.what, error.why, error.next_step),
        )
        with contextlib.suppress(ThvLlmError):
            files.replace(self._path, json.dumps(known._asdict()).encode())

    def clear(self) -> None:
        """Forget; called when a token was had."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _read(self) -> _Known | None:
        try:
            found = json.loads(files.read(self._path) or b"null")
            what, why, next_step = map(str, found["text"])
            at, until = float(found["at"]), float(found["until"])
            return _Known(
                found["token"], found["session"], at, until, found["permanent"], (what, why, next_step)
            )
        except (ThvLlmError, ValueError, TypeError, KeyError, RecursionError):
            return None  # there is none, or a broken one

    def _failure(self, known: _Known) -> ThvLlmError:
        what, why, next_step = known.text
        if known.permanent:
            return LoginRequiredError(what, why=why, next_step=next_step)
        wait_s = max(known.until - self._now(), 0.0)
        return UnreachableError(what, why=why, next_step=next_step, retry_after_s=wait_s or None)

    def _fingerprint(self, secret: Secret | None = None) -> str:
        """Return 64 bits of a hash: enough to tell two apart, too few to be worth anything."""
        text = self._key + ("\0" + secret.reveal() if secret else "")
        return hashlib.sha256(text.encode()).hexdigest()[:16]
