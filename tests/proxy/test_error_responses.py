"""Our own responses."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from thv_llm import __version__
from thv_llm.errors import LoginRequiredError, NotConfiguredError, ThvLlmError, UnreachableError
from thv_llm.proxy import error_responses, http1
from thv_llm.proxy.http1 import Rejected
from thv_llm.secret import Secret

KEY = Secret("local-key")


def body(response: bytes) -> dict[str, Any]:
    head, _, rest = response.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(rest) in head
    found: dict[str, Any] = json.loads(rest)
    return found


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/responses", b"/v1/completions", b"", b"/x"])
def test_errors_are_shaped_as_openai_does(path: bytes) -> None:
    found = body(error_responses.error(Rejected(401, "no session"), path))

    assert found == {
        "error": {
            "message": "thv-llm: no session",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens", b"/anthropic/v1/messages"])
def test_errors_are_shaped_as_anthropic_does(path: bytes) -> None:
    found = body(error_responses.error(Rejected(401, "no session"), path))

    assert found == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "thv-llm: no session"},
    }


@pytest.mark.parametrize(
    "path", [b"/v1beta/models/gemini-3:generateContent", b"/v1/models/gemini-3:streamGenerateContent"]
)
def test_errors_are_shaped_as_gemini_does(path: bytes) -> None:
    found = body(error_responses.error(Rejected(504, "too late"), path))

    assert found == {
        "error": {"code": 504, "message": "thv-llm: too late", "status": "DEADLINE_EXCEEDED"},
    }


@pytest.mark.parametrize("status", sorted(error_responses.REASONS))
def test_every_error_ends_its_connection_and_has_no_banner(status: int) -> None:
    response = error_responses.error(Rejected(status, "x"))

    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in response
    assert b"Server:" not in response
    assert b"Access-Control" not in response


def test_a_response_to_head_has_a_length_and_no_body() -> None:
    response = error_responses.error(Rejected(502, "x"), with_body=False)

    assert response.endswith(b"\r\n\r\n")
    assert b"Content-Length: 0" not in response


def test_a_401_of_the_proxy_says_that_a_retry_is_useless() -> None:
    assert b"\r\nx-should-retry: false\r\n" in error_responses.error(Rejected(401, "no session"))
    assert b"x-should-retry" not in error_responses.error(Rejected(502, "the gateway is down"))


def test_methods_and_protocols_are_named_where_http_wants_it() -> None:
    assert b"\r\nAllow: DELETE, GET, " in error_responses.error(Rejected(405, "x"))
    assert b"\r\nUpgrade: websocket\r\n" in error_responses.error(Rejected(426, "x"))


@pytest.mark.parametrize(
    "failure",
    [
        LoginRequiredError("cannot get an access token", why="the session ended", next_step="thv-llm login"),
        NotConfiguredError("thv-llm is not configured", next_step="thv-llm setup"),
        UnreachableError("the provider does not respond"),
        ThvLlmError("the keyring is locked", next_step="unlock it"),
    ],
)
def test_a_token_failure_is_a_401_that_says_what_to_run(failure: ThvLlmError) -> None:
    refused = error_responses.token_failure(failure)

    assert refused.status == 401
    assert failure.what in refused.reason
    assert (failure.next_step or "thv-llm doctor") in refused.reason


def test_a_defect_says_nothing_of_itself() -> None:
    refused = error_responses.token_failure(ValueError("canary-token"))

    assert refused.status == 401
    assert "canary" not in refused.reason


def test_health_says_what_it_stands_for() -> None:
    response = error_responses.health("https://gateway", http1.parse_target(b"/healthz"), KEY, stays=True)

    assert body(response) == {"status": "ok", "upstream": "https://gateway", "version": __version__}


def test_health_proves_that_it_knows_the_key() -> None:
    target = http1.parse_target(b"/healthz?challenge=0123456789abcdef")

    response = error_responses.health("https://gateway", target, KEY, stays=True)

    expected = hmac.new(b"local-key", b"0123456789abcdef", hashlib.sha256).hexdigest()
    assert body(response)["proof"] == expected
    assert "proof" not in body(error_responses.health("https://gateway", target, None, stays=True))


@pytest.mark.parametrize("nonce", ["short", "x" * 129, "0123456789abcde%20", "0123456789abcde%C3%A9"])
def test_only_a_plain_challenge_gets_a_proof(nonce: str) -> None:
    with pytest.raises(Rejected) as caught:
        error_responses.health(
            "", http1.parse_target(b"/healthz?challenge=" + nonce.encode()), KEY, stays=True
        )

    assert caught.value.status == 400
