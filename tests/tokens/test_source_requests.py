from __future__ import annotations

import pytest

from tests.tokens.rig import FakeTime
from thv_llm.errors import InvalidResponseError, LoginRequiredError, NoResponseError, UnreachableError
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.tokens.source import Clock, renew

GOOD = Tokens(Secret("at-1"), 1.0)
LOST = NoResponseError("lost", maybe_sent=True)
REFUSED = NoResponseError("refused")
BUSY = UnreachableError("busy", retry_after_s=8)


def run(*outcomes: Exception | Tokens, deadline_s: float = 30) -> tuple[object, list[float], int]:
    """Return the result or the exception, the pauses, and how many requests were made."""
    left, clock = list(outcomes), FakeTime()

    def once(secret: Secret) -> Tokens:
        assert secret.reveal() == "rt-1"
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    result: object
    try:
        result = renew(
            once,
            Secret("rt-1"),
            deadline=clock.steady + deadline_s,
            clock=Clock(monotonic=clock.monotonic, sleep=clock.sleep),
        )
    except Exception as error:
        result = error
    return result, clock.slept, len(outcomes) - len(left)


def test_what_may_help_is_tried_and_what_may_harm_is_not() -> None:
    table: list[tuple[tuple[Exception | Tokens, ...], object, list[float]]] = [
        ((GOOD,), GOOD, []),
        ((LOST, GOOD), GOOD, [0.25]),
        ((LOST, LOST, GOOD), LOST, [0.25]),
        ((REFUSED, LOST, GOOD), GOOD, [0.25, 1.5]),
        ((REFUSED, LOST, LOST, GOOD), LOST, [0.25, 1.5]),
        ((LOST, REFUSED, GOOD), GOOD, [0.25, 1.5]),
        ((LOST, REFUSED, LOST, GOOD), LOST, [0.25, 1.5]),
        ((REFUSED, REFUSED, LOST, GOOD), GOOD, [0.25, 1.5, 0.25]),
        ((REFUSED, REFUSED, GOOD), GOOD, [0.25, 1.5]),
        ((REFUSED, REFUSED, REFUSED, GOOD), REFUSED, [0.25, 1.5]),
        ((BUSY, GOOD), GOOD, [8]),
        ((BUSY, BUSY, GOOD), GOOD, [8, 8]),
    ]
    for outcomes, result, pauses in table:
        assert run(*outcomes)[:2] == (result, pauses), outcomes


@pytest.mark.parametrize("final", [LoginRequiredError("ended"), InvalidResponseError("odd")])
def test_the_end_and_an_odd_response_are_final(final: Exception) -> None:
    assert run(final, GOOD) == (final, [], 1)


def test_no_try_begins_that_could_not_end_before_the_deadline() -> None:
    assert run(BUSY, GOOD, deadline_s=17) == (BUSY, [], 1)
    assert run(REFUSED, REFUSED, GOOD, deadline_s=11) == (REFUSED, [0.25], 2)


def test_a_lost_response_is_requested_again_even_if_no_caller_can_wait() -> None:
    assert run(LOST, GOOD, deadline_s=1) == (GOOD, [0.25], 2)
    assert run(LOST, REFUSED, GOOD, deadline_s=1) == (GOOD, [0.25, 1.5], 3)
    assert run(LOST, BUSY, GOOD, deadline_s=1) == (BUSY, [0.25], 2)
