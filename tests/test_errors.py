"""What a failure says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import thv_llm
from thv_llm.errors import (
    ExitCode,
    InvalidResponseError,
    LoginRequiredError,
    NoResponseError,
    ThvLlmError,
    UnreachableError,
    did_you_mean,
    shown,
)


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


def test_failures_of_a_server_keep_the_session() -> None:
    for kind in (NoResponseError, InvalidResponseError):
        assert kind("what").exit_code is ExitCode.UNREACHABLE
        assert not isinstance(kind("what"), LoginRequiredError)


def test_untrusted_text_is_cut_and_shows_no_control_bytes() -> None:
    assert shown("\x1b[31mred\n") == "'\\x1b[31mred\\n'"
    assert len(shown("x" * 1000)) == 82


SPEAKING = re.compile(r"\w*Error|say|progress|answer|ok|warn|fail|_end|add_argument")
OUR_WORDS = re.compile(r"\b(agent|worker|single-flight)s?\b")


def said() -> Iterator[str]:
    """Yield the literal texts of every call that speaks to a user."""
    for path in Path(thv_llm.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and SPEAKING.fullmatch(_name(call.func)):
                parts = [*call.args, *(keyword.value for keyword in call.keywords)]
                texts = (
                    node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant)
                )
                yield from (text for text in texts if isinstance(text, str))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def test_people_are_spoken_to_in_words_that_they_know() -> None:
    assert [text for text in said() if OUR_WORDS.search(text)] == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stat", "Did you mean `status`?"),
        ("STATUSS", "Did you mean `status`?"),
        ("claude", "Did you mean `claude-code` or `claude-desktop`?"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_the_nearest_words_are_offered(word: str, said: str) -> None:
    assert did_you_mean(word, ["status", "claude-code", "claude-desktop"]) == said
