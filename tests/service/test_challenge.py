from __future__ import annotations

import contextlib
import socket

import pytest

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


def test_a_port_whose_owner_accepts_no_connection_is_somebodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as opened:
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        assert challenge.somebody_listens(listener.getsockname()[1])


def test_no_agent_is_not_ours() -> None:
    assert not challenge.agent_is_ours("/nonexistent/socket", KEY)
