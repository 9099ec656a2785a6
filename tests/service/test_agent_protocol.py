from __future__ import annotations

import pytest

from thv_llm.agent_client import BREAK
from thv_llm.errors import NotConfiguredError, ThvLlmError
from thv_llm.secret import Secret
from thv_llm.service import agent_protocol
from thv_llm.service.agent_protocol import content, failure_line


def test_an_error_is_one_line_and_comes_back_as_it_was() -> None:
    error = NotConfiguredError(
        "not configured", why="no issuer:  not\rset", next_step="thv-llm setup --issuer URL"
    )

    line = failure_line(error)

    assert "\n" not in line
    assert line.startswith("err 5 ")
    with pytest.raises(NotConfiguredError, match="thv-llm setup --issuer URL"):
        content(line)


def test_a_bug_is_told_by_type_and_place_only() -> None:
    try:
        raise KeyError("canary")
    except KeyError as error:
        line = failure_line(error)

    assert line.startswith("err 3 ")
    assert "KeyError" in line
    assert "canary" not in line


@pytest.mark.parametrize("response", ["", "hello", "err", "okay 1", "err 99 odd"])
def test_a_response_that_makes_no_sense_is_an_error(response: str) -> None:
    with pytest.raises(ThvLlmError):
        content(response)


def test_what_follows_ok_is_the_content() -> None:
    assert content("ok") == ""
    assert content("ok a b") == "a b"


def test_what_the_system_refuses_is_told_in_its_words_and_is_no_bug() -> None:
    assert failure_line(OSError(24, "Too many open files")) == (
        f"err 1 the system returned an error{BREAK}  why:  Too many open files"
    )


def test_no_agent_is_not_ours() -> None:
    assert not agent_protocol.is_ours("/nonexistent/socket", Secret("thv-local-key"))
