"""Failures a user can meet, and the exit code each of them ends the run with.

Low layers raise with the cause, middle layers let it pass, `cli.main` alone prints. A subclass
exists only where a caller or a script branches on it. No text here must carry a secret, a
response body or a query: the code that raises keeps them out.
"""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(IntEnum):
    """How a run ends. Part of the contract with scripts: values never change."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUG = 3
    LOGIN_REQUIRED = 4
    NOT_CONFIGURED = 5
    UNREACHABLE = 6
    NOT_FOUND = 127
    INTERRUPTED = 130


NO_TOKEN = "cannot get an access token"


class ThvLlmError(Exception):
    """A failure with everything its reader needs.

    Args:
        what: what did not work, as a lower-case clause ("cannot get an access token").
        why: the cause, in words; empty when `what` says it all.
        next_step: the command or action that helps; empty when there is none.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what, why, next_step)
        self.what = what
        self.why = why
        self.next_step = next_step

    @property
    def short(self) -> str:
        """What and why, for a place that has a line of its own for the next step, or none."""
        return f"{self.what}: {self.why}" if self.why else self.what

    @property
    def cause(self) -> str:
        """The same for a place that is about the access token that cannot be had."""
        return self.short.removeprefix(f"{NO_TOKEN}: ")

    def __str__(self) -> str:
        """The lines that a user sees after `thv-llm: error: `."""
        lines = [self.what]
        if self.why:
            lines.append(f"  why:  {self.why}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)


class UsageError(ThvLlmError):
    """The command line, or a value given on it, is wrong; nothing was changed."""

    exit_code = ExitCode.USAGE


class LoginRequiredError(ThvLlmError):
    """No token without a login: there is no session, or the provider wants its user to come."""

    exit_code = ExitCode.LOGIN_REQUIRED


class InteractionRequiredError(LoginRequiredError):
    """The provider gives no token until its user has done something there; the session is kept.

    Args:
        claims: what the next authorization request must carry as `claims`; "" for nothing.
    """

    def __init__(self, what: str, *, why: str = "", next_step: str = "", claims: str = "") -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.claims = claims


class RefusedError(ThvLlmError):
    """The provider refuses what the settings make us ask for: repeating it is no use."""


class NotConfiguredError(ThvLlmError):
    """The connection settings are missing or incomplete."""

    exit_code = ExitCode.NOT_CONFIGURED


class NotFoundError(ThvLlmError):
    """The program that `run` is to start does not exist."""

    exit_code = ExitCode.NOT_FOUND


class UnreachableError(ThvLlmError):
    """The provider or the gateway gave no usable response; trying again later can help.

    Args:
        retry_after_s: seconds the server asked to wait (`Retry-After`), when it did.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(
        self, what: str, *, why: str = "", next_step: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.retry_after_s = retry_after_s


class NoResponseError(UnreachableError):
    """The server gave no complete response.

    Args:
        maybe_sent: the server can have received the request and acted on it. A refresh can then be
            repeated once with the same token: providers that rotate tokens allow for a lost response.
            False: it has certainly seen nothing.
    """

    def __init__(self, what: str, *, why: str = "", next_step: str = "", maybe_sent: bool = False) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.maybe_sent = maybe_sent


class InvalidResponseError(UnreachableError):
    """The response failed a check, so nothing of it is used; the session stays as it is."""


LOGIN_FAILED = "the login failed"
"""What is said of a login, whichever step of it went wrong."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean `x`?" for the words that are meant, perhaps; "" when none is near."""
    import difflib

    names, lower = {name.lower().lstrip("-"): name for name in known}, word.lower().lstrip("-")
    near = [name for low, name in names.items() if lower and low.startswith(lower)][:3]
    near = near or [names[low] for low in difflib.get_close_matches(lower, names, 1, cutoff=0.65)]
    return f"Did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def shown(text: object, limit: int = 80) -> str:
    """Return untrusted text as a short `repr`, so that no control byte reaches a terminal."""
    whole = str(text)
    return repr(whole if len(whole) <= limit else whole[: limit - 1] + "…")
