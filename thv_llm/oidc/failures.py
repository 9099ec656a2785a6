"""How a provider can fail us.

Both kinds are `UnreachableError`: the session stays as it is, and trying again later may
help. They differ in what a caller may do at once.
"""

from __future__ import annotations

from thv_llm.errors import UnreachableError

LOGIN_FAILED = "the login failed"
"""What is said of a login, whichever step of it went wrong."""


class NoAnswerError(UnreachableError):
    """The provider gave no complete answer.

    Args:
        maybe_sent: the provider may have received the request and acted on it; a refresh can
            then be repeated once with the same token, because providers that rotate tokens
            allow for a lost answer. False: it has certainly seen nothing.
    """

    def __init__(self, what: str, *, why: str = "", next_step: str = "", maybe_sent: bool = False) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.maybe_sent = maybe_sent


class UntrustedAnswerError(UnreachableError):
    """The provider answered, and the answer failed a check: nothing of it is used."""
