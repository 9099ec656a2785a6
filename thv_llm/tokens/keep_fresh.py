"""A thread's work in the service: the next token before anybody has to wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from thv_llm.errors import LoginRequiredError, ThvLlmError
from thv_llm.tokens.source import AccessToken

SHORTEST_S, LONGEST_S = 1.0, 30.0
"""The longest pause is short, because the machine may sleep or its clock be set meanwhile."""

FIRST_RETRY_S = 5.0


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
        except Exception as error:  # this thread must outlive it: nobody would start another
            from thv_llm import log  # which a cold `token` need not load

            log.report(error, "while getting the next token")
            left_s = 0.0
        if left_s > 0:
            pause_s, retry_s = left_s, FIRST_RETRY_S
        else:  # the provider is away, perhaps with an old token still to spare
            pause_s, retry_s = retry_s, min(retry_s * 2, LONGEST_S)
        stop.wait(min(max(pause_s, SHORTEST_S), LONGEST_S))
