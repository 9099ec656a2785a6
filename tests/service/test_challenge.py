from __future__ import annotations

import socket

from thv_llm.secret import Secret
from thv_llm.service import challenge

KEY = Secret("thv-local-key")


def test_questions_are_never_the_same() -> None:
    questions = {challenge.nonce() for _ in range(100)}

    assert len(questions) == 100
    assert all(16 <= len(question) <= 128 and question.isalnum() for question in questions)


def test_a_closed_port_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert challenge.somebody_listens(port)

    assert not challenge.somebody_listens(port)


def test_no_agent_is_not_ours() -> None:
    assert not challenge.agent_is_ours("/nonexistent/socket", KEY)
