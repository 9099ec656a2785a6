"""The two kinds of failure, and what they let a caller do."""

from __future__ import annotations

from thv_llm.errors import ExitCode, LoginRequiredError, UnreachableError
from thv_llm.oidc.failures import NoAnswerError, UntrustedAnswerError


def test_both_keep_the_session() -> None:
    for kind in (NoAnswerError, UntrustedAnswerError):
        error = kind("what", why="why", next_step="next")

        assert isinstance(error, UnreachableError)
        assert not isinstance(error, LoginRequiredError)
        assert error.exit_code == ExitCode.UNREACHABLE
        assert str(error) == "what\n  why:  why\n  next: next"


def test_an_answer_that_may_be_lost_is_told_from_one_that_was_never_asked_for() -> None:
    assert not NoAnswerError("what").maybe_sent
    assert NoAnswerError("what", maybe_sent=True).maybe_sent
