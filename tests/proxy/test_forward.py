"""Tokens: one refresh and one repeat when the gateway refuses, a 401 of ours when there is none."""

from __future__ import annotations

import json
import random
import threading

import pytest

from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import KEY, OK, running, until
from tests.proxy.test_connection import status, upload
from thv_llm.errors import LoginRequiredError, NotConfiguredError, UnreachableError
from thv_llm.proxy.forward import Refusal
from thv_llm.proxy.stats import Outcome
from thv_llm.secret import Secret

REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize("refusal", [REFUSED, REFUSED.replace(b"401 Unauthorized", b"403 Forbidden")])
@pytest.mark.parametrize("body", [b"", b"x" * 200_000])
def test_a_refused_token_is_renewed_and_the_request_repeated_once(refusal: bytes, body: bytes) -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(OK if b"canary-token-2" in head else refusal)

    with running(script) as run:
        response = run.get("/v1/messages", method="POST", body=body)

        assert status(response) == 200
        assert run.gateway.bodies == [body, body]
        assert run.tokens.refreshes == 1


def test_a_gateway_that_refuses_every_token_gets_two_requests() -> None:
    with running(responding(REFUSED)) as run:
        response = run.get()
        assert (status(response), response[-2:]) == (401, b"no")
        assert (len(run.gateway.heads), run.tokens.refreshes) == (2, 1)

        # The fresh token was refused, too: for now the source has no better one.
        assert status(run.get()) == 401
        assert (len(run.gateway.heads), run.tokens.refreshes) == (3, 1)


def test_a_chunked_upload_is_repeated_as_well() -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(OK if b"canary-token-2" in head else REFUSED)

    with running(script) as run:
        chunks = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
        response = run.send(upload(run, b"Transfer-Encoding: chunked", b"Connection: close") + chunks)

        assert status(response) == 200
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

    with running(script) as run, run.connect() as client:
        client.send(upload(run, b"Content-Length: 300000", b"Connection: close") + b"a" * 100_000)
        until(lambda: run.gateway.connections == 2)
        client.send(b"b" * 200_000)

        assert status(client.everything()) == 200
        assert run.gateway.bodies == [b"a" * 100_000 + b"b" * 200_000]


@pytest.mark.parametrize("size", [9 << 20, 30 << 20])
def test_a_refused_token_is_reported_when_the_body_is_too_large_to_be_repeated(size: int) -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(OK if b"canary-token-2" in head else REFUSED)

    with running(script) as run:
        assert status(run.get("/v1/files", method="POST", body=b"x" * size)) == 401
        until(lambda: run.tokens.refreshes == 1)
        assert status(run.get("/v1/files", method="POST", body=b"x" * size)) == 200
        assert len(run.gateway.heads) == 2


FORBIDDEN = REFUSED.replace(b"401 Unauthorized", b"403 Forbidden")


def test_a_403_that_repeats_costs_one_refresh_for_a_while() -> None:
    with running(responding(FORBIDDEN)) as run:
        for _ in range(5):
            assert status(run.get(method="POST", body=b"x")) == 403
        assert status(run.get("/v1/files", method="POST", body=b"x" * (9 << 20))) == 403

        assert run.tokens.refreshes == 1
        assert len(run.gateway.heads) == 7


def test_a_403_by_policy_does_not_block_the_refresh_that_a_401_needs() -> None:
    """A model that is not allowed, and a token that is revoked a moment later."""

    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            if b"/forbidden" in head:
                conversation.send(FORBIDDEN)
            else:
                conversation.send(OK if b"canary-token-3" in head else REFUSED)

    with running(script) as run:
        assert status(run.get("/forbidden")) == 403
        assert run.tokens.current == 2
        assert status(run.get("/allowed")) == 200
        assert status(run.get("/forbidden")) == 403
        assert run.tokens.refreshes == 2


def test_a_403_stays_the_gateways_when_no_other_token_can_be_had() -> None:
    def script(conversation: Conversation) -> None:
        while conversation.request():
            run.tokens.failure = UnreachableError("the provider does not respond")
            conversation.send(FORBIDDEN)

    with running(script) as run:
        response = run.get()

        assert (status(response), response[-2:]) == (403, b"no")
        assert run.entry().outcome == Outcome.GATEWAY


def test_both_tokens_are_reported_when_both_are_refused() -> None:
    with running(responding(REFUSED)) as run:
        assert status(run.get()) == 401

        until(lambda: run.tokens.reported == [("canary-token-1", 401), ("canary-token-2", 401)])


def test_50_refused_requests_at_once_cause_one_refresh() -> None:
    everyone = threading.Barrier(50)

    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            if b"canary-token-1" in head:
                everyone.wait(10)
            conversation.send(OK if b"canary-token-2" in head else REFUSED)

    with running(script) as run:
        responses: list[bytes] = []
        clients = [threading.Thread(target=lambda: responses.append(run.get())) for _ in range(50)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

        assert [status(response) for response in responses] == [200] * 50
        assert run.tokens.refreshes == 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (LoginRequiredError("cannot get a token", why="ended", next_step="thv-llm login"), "thv-llm login"),
        (NotConfiguredError("not configured", next_step="thv-llm setup"), "thv-llm setup"),
        (UnreachableError("the provider does not respond"), "the provider does not respond"),
        (ValueError("canary-token-1"), "thv-llm doctor"),
    ],
)
def test_without_a_token_the_client_gets_a_401_that_says_what_to_run(failure: Exception, said: str) -> None:
    with running(responding(OK)) as run:
        run.tokens.failure = failure

        response = run.get("/v1/messages", method="POST", body=b"x" * 100_000)

        assert status(response) == 401
        found = json.loads(response.partition(b"\r\n\r\n")[2])
        assert found["type"] == "error"
        assert said in found["error"]["message"]
        assert b"canary" not in response
        assert run.gateway.connections == 0


def test_a_session_that_ends_at_a_refusal_is_a_401_of_ours() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        run.tokens.failure = LoginRequiredError("no session", next_step="thv-llm login")
        conversation.send(REFUSED)

    with running(script) as run:
        assert b"thv-llm login" in run.get()


def test_a_token_at_hand_is_taken_without_a_request() -> None:
    with running(responding(OK)) as run:
        run.tokens.failure = UnreachableError("not asked")
        run.tokens.at_hand = Secret("at-hand")

        assert status(run.get()) == 200
        assert b"Bearer at-hand" in run.gateway.heads[0]
        run.tokens.at_hand = None
        assert status(run.get()) == 401


def test_a_token_that_takes_long_delays_no_other_request() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def slow(_: Refusal | None) -> Secret:
        waiting.set()
        go_on.wait(5)
        return Secret("late")

    with running(responding(OK), get_token=slow) as run, run.connect() as client:
        client.send(run.head("/v1/models", "Connection: close"))
        assert waiting.wait(5)
        for _ in range(3):
            assert status(run.get("/healthz")) == 200
        go_on.set()
        assert status(client.everything()) == 200


@pytest.mark.parametrize("require_key", [True, False])
def test_the_local_key_reaches_the_gateway_under_no_name(require_key: bool) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in KEY)
    with running(responding(OK), require_key=require_key) as run:
        path = f"/v1/models?KEY={KEY}&a=1&api_key={KEY}&x={encoded}&{KEY}"
        spread = (f"X-Auth-Token: {KEY}", f"Ocp-Apim-Subscription-Key: Bearer {KEY}", "X-Kept: 1")
        assert status(run.get(path, *spread)) == 200
        assert status(run.get(f"/v1/{KEY}")) == 400

        (head,) = run.gateway.heads
        assert head.startswith(b"GET /v1/models?a=1 HTTP/1.1\r\n")
        assert b"X-Kept: 1" in head
        assert KEY.encode() not in head


PLACES = (
    ("GET /v1/models?KEY={} HTTP/1.1", "X-Kept: 1"),
    ("GET /v1/models?api_key={} HTTP/1.1", "X-Kept: 1"),
    ("GET /v1/models?a={}&b=1 HTTP/1.1", "X-Kept: 1"),
    ("GET /v1/models?%61pi%5fkey={} HTTP/1.1", "X-Kept: 1"),
    ("GET /v1/models HTTP/1.1", "X-Auth-Token: {}"),
    ("GET /v1/models HTTP/1.1", "Ocp-Apim-Subscription-Key: {}"),
    ("GET /v1/models HTTP/1.1", "X-Anything: Key={}; more"),
    ("GET /v1/models HTTP/1.1", "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{}"),
)
KEYS = {b"thv-aider-0123456789": "aider", b"thv-env-0123456789": "env", b"thv-old": ""}


@pytest.mark.parametrize("require_key", [True, False])
@pytest.mark.parametrize(("line", "field"), PLACES)
def test_no_key_of_any_tool_reaches_the_gateway(line: str, field: str, require_key: bool) -> None:
    own, *others = (key.decode() for key in KEYS)
    with running(responding(OK), keys=lambda: KEYS, require_key=require_key) as run:
        for key in (*others, own, KEY):
            fields = (f"Host: 127.0.0.1:{run.port}", f"Authorization: Bearer {own}", field.format(key))
            head = "\r\n".join([line.format(key), *fields, "Connection: close", "", ""])
            assert status(run.send(head.encode())) == 200

        assert len(run.gateway.heads) == 4
        assert not [head for head in run.gateway.heads if b"thv-" in head]
        assert run.entry(4).tool == "aider"


@pytest.mark.parametrize(("key", "expected"), [("thv-aider-0123456789", 400), ("thv-env-0123456789", 401)])
def test_without_a_token_a_client_gets_the_status_with_which_it_shows_the_text(
    key: str, expected: int
) -> None:
    with running(responding(REFUSED), keys=lambda: KEYS, no_token={"aider": 400}) as run:

        def ask() -> bytes:
            fields = (f"Host: 127.0.0.1:{run.port}", f"X-Api-Key: {key}", "Connection: close")
            return run.send("\r\n".join(["GET /v1/models HTTP/1.1", *fields, "", ""]).encode())

        assert status(ask()) == 401  # the gateway's, and no matter of ours
        run.tokens.failure = LoginRequiredError("not logged in", next_step="thv-llm login")
        response = ask()

        assert status(response) == expected
        assert b"not logged in. Next: thv-llm login" in response
        assert run.entry(2).status == expected


def test_a_key_in_the_body_is_the_users_own_business() -> None:
    with running(responding(OK), keys=lambda: KEYS) as run:
        body = b'{"prompt": "what is thv-env-0123456789?"}'
        fields = (f"Host: 127.0.0.1:{run.port}", "X-Api-Key: thv-aider-0123456789", "Connection: close")
        head = "\r\n".join(["POST /v1/messages HTTP/1.1", *fields, f"Content-Length: {len(body)}", "", ""])

        assert status(run.send(head.encode() + body)) == 200
        assert run.gateway.bodies == [body]


def test_keys_come_and_go_while_the_proxy_runs() -> None:
    known = {b"thv-aider-0123456789": "aider"}
    with running(responding(OK), keys=lambda: dict(known)) as run:

        def shows(key: str) -> int:
            fields = (f"Host: 127.0.0.1:{run.port}", f"X-Api-Key: {key}", "Connection: close")
            return status(run.send("\r\n".join(["GET /v1/models HTTP/1.1", *fields, "", ""]).encode()))

        assert shows("thv-cline-0123456789") == 401
        known[b"thv-cline-0123456789"] = "cline"
        assert shows("thv-cline-0123456789") == 200
        assert shows("thv-aider-0123456789") == 200
        assert shows(KEY) == 401

        del known[b"thv-aider-0123456789"]
        run.proxy.keys.renew()

        assert shows("thv-aider-0123456789") == 401
        assert run.proxy.stats().tools.keys() == {"aider", "cline"}


@pytest.mark.parametrize("size", [128 * 1024, 384 * 1024, 3_000_001])
def test_a_large_body_is_repeated_byte_for_byte(size: int) -> None:
    body = random.Random(size).randbytes(size)

    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            conversation.send(REFUSED if b"canary-token-1" in head else OK)

    with running(script) as run:
        assert status(run.get("/v1/messages", method="POST", body=body)) == 200
        assert run.gateway.bodies == [body, body]
