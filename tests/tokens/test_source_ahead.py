from __future__ import annotations

import io
import threading
from collections.abc import Iterator

from thv_llm import log
from thv_llm.errors import LoginRequiredError, UnreachableError
from thv_llm.secret import Secret
from thv_llm.tokens import AccessToken, keep_fresh

NOW = 1000.0


class Stop(threading.Event):
    """Remembers the pauses, takes no time, and ends after `rounds`."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        if len(self.pauses) == self._rounds:
            self.set()
        return self.is_set()


def pauses(*outcomes: float | Exception) -> list[float]:
    """Return the pauses after tokens that are fresh for so long, or failures."""
    steps: Iterator[float | Exception] = iter(outcomes)

    def get() -> AccessToken:
        outcome = next(steps)
        if isinstance(outcome, Exception):
            raise outcome
        return AccessToken(Secret("at"), NOW + outcome * 2, NOW + outcome)

    stop = Stop(len(outcomes))
    keep_fresh(get, stop, now=lambda: NOW)
    return stop.pauses


def test_it_wakes_when_the_token_is_no_longer_fresh_and_looks_at_the_clock_often() -> None:
    assert pauses(3000, 12.5, 1.5) == [30, 12.5, 1.5]


def test_it_never_spins_even_on_tokens_that_are_dead_at_once() -> None:
    assert pauses(0.1, 0, -500) == [1, 5, 10]


def test_a_provider_that_is_away_gets_fewer_and_fewer_requests() -> None:
    away = UnreachableError("away")

    assert pauses(away, away, away, away, away, away, 20, away) == [5, 10, 20, 30, 30, 30, 20, 5]


def test_without_a_session_it_waits_for_a_login() -> None:
    logged_out = LoginRequiredError("not logged in")

    assert pauses(logged_out, logged_out, 20) == [30, 30, 20]


def test_a_bug_is_reported_and_does_not_end_it() -> None:
    record = io.StringIO()
    log.to(record)
    try:
        assert pauses(ZeroDivisionError("canary"), 20) == [5, 20]
    finally:
        log.to(None)

    assert record.getvalue().startswith("bug: ZeroDivisionError at ")
    assert "canary" not in record.getvalue()


def test_a_token_to_spare_is_no_sign_that_the_provider_is_back() -> None:
    assert pauses(20, -1, -10, -30, -60, 20, -1) == [20, 5, 10, 20, 30, 20, 5]
