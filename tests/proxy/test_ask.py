"""One small question of ours to the gateway."""

from __future__ import annotations

import pytest

from tests.fakes.hostile_gateway import CA, Conversation, HostileGateway, Script, answering
from tests.proxy.running import OK
from thv_llm.errors import UnreachableError
from thv_llm.proxy.ask import ask
from thv_llm.proxy.upstream import Gateway
from thv_llm.secret import Secret


def question(script: Script, path: str = "/v1/models", timeout_s: float = 5) -> tuple[int, object, bytes]:
    with HostileGateway(script) as server:
        gateway = Gateway(server.url + "/team", environ={}, ca_file=CA)
        try:
            return ask(gateway, "GET", path, Secret("canary-token"), timeout_s)
        finally:
            gateway.close()
            question.heads = server.heads  # type: ignore[attr-defined]


def test_a_question_is_asked_with_the_token_on_a_connection_of_its_own() -> None:
    status, fields, body = question(answering(b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\r\n\r\nhi"))

    assert (status, fields, body) == (200, [(b"X", b"1"), (b"Content-Length", b"2")], b"hi")
    head = question.heads[0]  # type: ignore[attr-defined]
    assert head.startswith(b"GET /team/v1/models HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer canary-token\r\n" in head
    assert b"\r\nUser-Agent: thv-llm/" in head


def test_a_question_without_a_token_carries_none() -> None:
    with HostileGateway(answering(OK)) as server:
        ask(Gateway(server.url, environ={}, ca_file=CA), "HEAD", "/v1/models", None, 5)

        assert b"authorization" not in server.heads[0].lower()


def test_an_answer_to_a_question_is_read_up_to_its_limit() -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    _, _, body = question(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 40))

    assert len(body) == 1024 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"",
    ],
)
def test_an_answer_that_is_no_answer_is_unreachable(answer: bytes) -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(answer or b"H")
        conversation.cut()

    with pytest.raises(UnreachableError) as caught:
        question(script)

    assert "canary" not in str(caught.value)


def test_a_question_has_one_deadline() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.wait_gone()

    with pytest.raises(UnreachableError, match="time limit"):
        question(script, timeout_s=0.2)
