"""Which headers pass, go and are added."""

from __future__ import annotations

from pathlib import Path

import pytest

from thv_llm.proxy import headers
from thv_llm.proxy.http1 import Fields, Rejected

TOKEN = b"canary-token"
OURS = (b"Authorization", b"Bearer canary-token")


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"authorization",
        b"X-Api-Key",
        b"x_api_key",
        b"api-key",
        b"X-Goog-Api-Key",
        b"Cookie",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"Connection",
        b"Keep-Alive",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Transfer_Encoding",
        b"Content-Length",
        b"Content_Length",
        b"Upgrade",
        b"Host",
        b"Expect",
        b"Forwarded",
        b"X-Forwarded-For",
        b"X-Forwarded-Host",
        b"X_Forwarded_Proto",
        b"X-Real-IP",
        b"X-Original-URL",
        b"X-Rewrite-URL",
    ],
)
def test_credentials_hops_and_forgeries_do_not_reach_the_gateway(name: bytes) -> None:
    assert headers.to_gateway(Fields([(name, b"x")]), TOKEN) == [OURS]


def test_everything_else_reaches_the_gateway_in_order_with_duplicates() -> None:
    fields = Fields(
        [
            (b"User-Agent", b"claude-cli/2.1"),
            (b"anthropic-beta", b"a"),
            (b"ANTHROPIC-BETA", b"b"),
            (b"Accept-Encoding", b"gzip, br"),
            (b"x-stainless-lang", b"js"),
            (b"Idempotency-Key", b"1"),
        ]
    )

    assert headers.to_gateway(fields, TOKEN) == [*fields, OURS]


def test_what_connection_names_goes_but_never_our_credential() -> None:
    fields = Fields(
        [
            (b"Connection", b"close, X-Secret"),
            (b"connection", b"Authorization,x-other"),
            (b"X-Secret", b"1"),
            (b"X-Other", b"2"),
            (b"X-Kept", b"3"),
        ]
    )

    assert headers.to_gateway(fields, TOKEN) == [(b"X-Kept", b"3"), OURS]


@pytest.mark.parametrize("token", [b"", b"a b", b"a\r\nX: y", b"a\x00", b"\xc3\xa9"])
def test_a_token_that_cannot_stand_in_a_header_is_refused(token: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        headers.to_gateway(Fields(), token)

    assert caught.value.status == 401


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie",
        b"Access-Control-Allow-Origin",
        b"access-control-allow-credentials",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"Transfer-Encoding",
        b"Content-Length",
        b"Upgrade",
        b"Alt-Svc",
        b"Strict-Transport-Security",
    ],
)
def test_what_is_of_no_use_to_a_client_does_not_reach_it(name: bytes) -> None:
    assert headers.to_client(Fields([(name, b"x")]), TOKEN) == []


def test_a_header_that_echoes_the_token_does_not_reach_the_client() -> None:
    fields = Fields([(b"X-Debug", b"Bearer canary-token"), (b"X-Request-Id", b"1")])

    assert headers.to_client(fields, TOKEN) == [(b"X-Request-Id", b"1")]


def test_other_headers_reach_the_client_unchanged() -> None:
    fields = Fields(
        [
            (b"Content-Type", b"text/event-stream"),
            (b"Content-Encoding", b"gzip"),
            (b"Location", b"https://elsewhere.example/"),
            (b"Retry-After", b"3"),
            (b"WWW-Authenticate", b"Bearer"),
            (b"x-ratelimit-remaining", b"1"),
            (b"x-ratelimit-remaining", b"2"),
        ]
    )

    assert headers.to_client(fields, TOKEN) == fields


def test_response_heads_are_written_in_one_place() -> None:
    modules = Path(headers.__file__).parent.glob("*.py")

    assert [path.name for path in modules if 'b"HTTP/1.1 ' in path.read_text()] == ["headers.py"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5.0),
        (b"max=100, timeout=5", 5.0),
        (b"Timeout=60,max=1000", 60.0),
        (b"max=100", 45.0),
        (b"timeout=-1", 45.0),
        (b"timeout=1e9", 45.0),
        (b"timeout=" + b"9" * 100, 45.0),
        (b"timeout", 45.0),
    ],
)
def test_keep_alive_says_for_how_long(value: bytes, seconds: float) -> None:
    assert headers.keep_alive_s(Fields([(b"Keep-Alive", value)]), 45.0) == seconds


def test_trailers_carry_neither_framing_nor_credentials() -> None:
    fields = Fields([(b"X-Cost", b"1"), (b"Authorization", b"x"), (b"Content-Length", b"1"), (b"Host", b"h")])

    assert headers.trailers_to_client(fields, TOKEN) == [(b"X-Cost", b"1")]


@pytest.mark.parametrize(
    ("minor", "value", "stays"),
    [
        (1, b"", True),
        (1, b"close", False),
        (1, b"Keep-Alive, CLOSE", False),
        (1, b"upgrade", True),
        (0, b"", False),
        (0, b"Keep-Alive", True),
    ],
)
def test_a_connection_stays_as_its_peer_says(minor: int, value: bytes, stays: bool) -> None:
    assert headers.keeps_open(minor, Fields([(b"Connection", value)])) is stays


def test_a_head_is_written_with_its_empty_line() -> None:
    assert (
        headers.write(b"GET / HTTP/1.1", [(b"A", b"b"), (b"C", b"")])
        == b"GET / HTTP/1.1\r\nA: b\r\nC: \r\n\r\n"
    )
    assert headers.write(b"GET / HTTP/1.1", []) == b"GET / HTTP/1.1\r\n\r\n"
    assert headers.write_trailers([(b"A", b"b")]) == b"0\r\nA: b\r\n\r\n"
