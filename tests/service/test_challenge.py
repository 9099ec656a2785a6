from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thv_llm.secret import Secret
from thv_llm.service import challenge

KEY = Secret("thv-local-key")


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """Listen on loopback and answer one request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer(connection.recv(65536)))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def proof_for(key: Secret) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        question = request.split(b"challenge=")[1].split(b" ")[0].decode()
        body = f'{{"status": "ok", "proof": "{challenge.proof(key, question)}"}}'
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    return answer


def test_who_knows_the_key_is_ours() -> None:
    with server(proof_for(KEY)) as port:
        assert challenge.port_is_ours(port, KEY)


def test_who_knows_another_key_is_a_stranger() -> None:
    with server(proof_for(Secret("thv-another-key"))) as port:
        assert not challenge.port_is_ours(port, KEY)


def test_who_gives_our_question_back_is_a_stranger() -> None:
    with server(lambda request: b"HTTP/1.1 200 OK\r\n\r\n" + request) as port:
        assert not challenge.port_is_ours(port, KEY)


def test_a_proof_in_the_head_counts_for_nothing() -> None:
    def answer(request: bytes) -> bytes:
        return proof_for(KEY)(request).replace(b"\r\n\r\n", b"\r\nX: ")

    with server(answer) as port:
        assert not challenge.port_is_ours(port, KEY)


def test_questions_are_never_the_same() -> None:
    questions = {challenge.nonce() for _ in range(100)}

    assert len(questions) == 100
    assert all(16 <= len(question) <= 128 and question.isalnum() for question in questions)


def test_a_closed_port_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert challenge.somebody_listens(port)

    assert not challenge.somebody_listens(port)
    assert not challenge.port_is_ours(port, KEY)


def test_no_agent_is_not_ours() -> None:
    assert not challenge.agent_is_ours("/nonexistent/socket", KEY)
