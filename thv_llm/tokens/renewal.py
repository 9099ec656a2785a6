"""One refresh at the provider, with the retries that are safe.

- An answer that was lost after the request may have arrived: once more, with the same refresh
  token, within the few seconds that rotating providers allow for this (RFC 9700 section 4.14.2).
  Whoever waits may not wait that long; without it the session is lost.
- A request that was not answered with a token, or never arrived: again after a pause, which is
  the provider's `Retry-After` if it names one, before the caller's deadline.
- An answer that failed a check, and the end of the session: never again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thv_llm.errors import UnreachableError
from thv_llm.oidc.failures import NoAnswerError, UntrustedAnswerError
from thv_llm.secret import Secret

if TYPE_CHECKING:
    from thv_llm.oidc.token_endpoint import Tokens

PAUSES_S = (0.25, 1.5)
"""Before the second and the third try; with the first they lie within five seconds."""

REQUEST_S = 10.0
"""What one request may take; no try begins that could not end in time."""

RESCUE_S = 15.0
"""From a lost answer on there is time for the other tries, whatever the deadline."""


def renew(
    once: Callable[[Secret], Tokens],
    secret: Secret,
    *,
    deadline: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Tokens:
    """Return new tokens.

    Args:
        once: makes one request.
        deadline: on the clock of `monotonic`.

    Raises:
        LoginRequiredError: the session has ended.
        UnreachableError: no usable answer; the session is as it was, as far as can be known.
    """
    pauses, is_spent = list(PAUSES_S), False
    while True:
        try:
            return once(secret)
        except UntrustedAnswerError:
            raise
        except UnreachableError as error:
            if isinstance(error, NoAnswerError) and error.maybe_sent:
                if is_spent:
                    raise
                is_spent, deadline = True, max(deadline, monotonic() + RESCUE_S)
                pauses = pauses or [PAUSES_S[0]]
            wait_s = max(pauses.pop(0), error.retry_after_s or 0.0) if pauses else None
            if wait_s is None or monotonic() + wait_s + REQUEST_S > deadline:
                raise
            sleep(wait_s)
