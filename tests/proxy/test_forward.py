"""Tokens: one refresh and one repeat when the gateway refuses, a 401 of ours when there is none."""

from __future__ import annotations

import json
import threading

import pytest

from tests.fakes.hostile_gateway import Conversation, answering
from tests.proxy.running import OK, running, until
from tests.proxy.test_connection import status, upload
from thv_llm.errors import LoginRequiredError, NotConfiguredError, UnreachableError
from thv_llm.secret import Secret

REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize("refusal", [REFUSED, REFUSED.replace(b"401 Unauthorized", b"403 Forbidden")])
@pytest.mark.parametrize("body", [b"", b"x" * 200_000])
def test_a_refused_token_is_renewed_and_the_request_repeated_once(refusal: bytes, body: bytes) -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(OK if b"canary-token-2" in head else refusal)

    with running(script) as run:
        answer = run.get("/v1/messages", method="POST", body=body)

        assert status(answer) == 200
        assert run.gateway.bodies == [body, body]
        assert run.tokens.refreshes == 1


def test_a_gateway_that_refuses_every_token_is_asked_twice() -> None:
    with running(answering(REFUSED)) as run:
        answer = run.get()
        assert (status(answer), answer[-2:]) == (401, b"no")
        assert (len(run.gateway.heads), run.tokens.refreshes) == (2, 1)

        # The fresh token was refused, too: another one would not be better.
        assert status(run.get()) == 401
        assert (len(run.gateway.heads), run.tokens.refreshes) == (3, 1)


def test_a_chunked_upload_is_repeated_as_well() -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(OK if b"canary-token-2" in head else REFUSED)

    with running(script) as run:
        chunks = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
        answer = run.send(upload(run, b"Transfer-Encoding: chunked", b"Connection: close") + chunks)

        assert status(answer) == 200
        assert len(run.gateway.bodies) == 2
        assert run.gateway.bodies[0] == run.gateway.bodies[1]


def test_an_early_refusal_is_repeated_with_the_body_that_is_still_coming() -> None:
    def script(conversation: Conversation) -> None:
        if conversation.index == 0:
            conversation.head()
            conversation.send(REFUSED)
            conversation.wait_gone()
        elif conversation.request():
            conversation.send(OK)

    with running(script) as run, run.connect() as tool:
        tool.send(upload(run, b"Content-Length: 300000", b"Connection: close") + b"a" * 100_000)
        until(lambda: run.gateway.connections == 2)
        tool.send(b"b" * 200_000)

        assert status(tool.everything()) == 200
        assert run.gateway.bodies == [b"a" * 100_000 + b"b" * 200_000]


def test_a_body_too_large_to_keep_is_not_repeated() -> None:
    with running(answering(REFUSED)) as run:
        answer = run.get("/v1/files", method="POST", body=b"x" * (9 << 20))

        assert status(answer) == 401
        assert run.tokens.refreshes == 0


def test_50_refused_requests_at_once_cause_one_refresh() -> None:
    everyone = threading.Barrier(50)

    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            if b"canary-token-1" in head:
                everyone.wait(10)
            conversation.send(OK if b"canary-token-2" in head else REFUSED)

    with running(script) as run:
        answers: list[bytes] = []
        tools = [threading.Thread(target=lambda: answers.append(run.get())) for _ in range(50)]
        for tool in tools:
            tool.start()
        for tool in tools:
            tool.join()

        assert [status(answer) for answer in answers] == [200] * 50
        assert run.tokens.refreshes == 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (LoginRequiredError("cannot get a token", why="ended", next_step="thv-llm login"), "thv-llm login"),
        (NotConfiguredError("not configured", next_step="thv-llm setup"), "thv-llm setup"),
        (UnreachableError("the provider does not answer"), "the provider does not answer"),
        (ValueError("canary-token-1"), "thv-llm doctor"),
    ],
)
def test_without_a_token_the_tool_gets_a_401_that_says_what_to_run(failure: Exception, said: str) -> None:
    with running(answering(OK)) as run:
        run.tokens.failure = failure

        answer = run.get("/v1/messages", method="POST", body=b"x" * 100_000)

        assert status(answer) == 401
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert found["type"] == "error"
        assert said in found["error"]["message"]
        assert b"canary" not in answer
        assert run.gateway.connections == 0


def test_a_session_that_ends_at_a_refusal_is_a_401_of_ours() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        run.tokens.failure = LoginRequiredError("no session", next_step="thv-llm login")
        conversation.send(REFUSED)

    with running(script) as run:
        assert b"thv-llm login" in run.get()


def test_a_token_at_hand_is_taken_without_asking() -> None:
    with running(answering(OK)) as run:
        run.tokens.failure = UnreachableError("not asked")
        run.tokens.at_hand = Secret("at-hand")

        assert status(run.get()) == 200
        assert b"Bearer at-hand" in run.gateway.heads[0]
        run.tokens.at_hand = None
        assert status(run.get()) == 401


def test_a_token_that_takes_long_holds_up_nobody_else() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def slow(refused: Secret | None) -> Secret:
        waiting.set()
        go_on.wait(5)
        return Secret("late")

    with running(answering(OK), get_token=slow) as run, run.connect() as tool:
        tool.send(run.head("/v1/models", "Connection: close"))
        assert waiting.wait(5)
        for _ in range(3):
            assert status(run.get("/healthz")) == 200
        go_on.set()
        assert status(tool.everything()) == 200
