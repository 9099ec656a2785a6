"""What a failure says."""

from __future__ import annotations

from thv_llm.errors import ExitCode, ThvLlmError, UnreachableError, shown


def test_an_error_reads_what_why_next() -> None:
    error = ThvLlmError("cannot get an access token", why="the session has ended", next_step="thv-llm login")

    assert str(error) == ("cannot get an access token\n  why:  the session has ended\n  next: thv-llm login")


def test_what_is_not_known_is_left_out() -> None:
    assert str(ThvLlmError("it failed")) == "it failed"


def test_an_unreachable_server_may_say_when_to_come_back() -> None:
    error = UnreachableError("no answer", retry_after_s=3.0)

    assert error.exit_code is ExitCode.UNREACHABLE
    assert int(error.exit_code) == 6
    assert error.retry_after_s == 3.0


def test_untrusted_text_is_cut_and_shows_no_control_bytes() -> None:
    assert shown("\x1b[31mred\n") == "'\\x1b[31mred\\n'"
    assert len(shown("x" * 1000)) == 82
