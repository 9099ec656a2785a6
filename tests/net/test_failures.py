"""What is said of a certificate. The servers that have such ones are in `test_bad_tls`."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from thv_llm.net import failures
from thv_llm.net.dial import TunnelError


def error(code: int, message: str = "message of OpenSSL") -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError(1, "certificate verify failed")
    made.verify_code = code
    made.verify_message = message
    return made


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        (9, "is not valid yet (this machine's date: ", "set the clock: "),
        (10, "has expired (this machine's date: ", "set the clock: "),
        (18, "is self-signed", "--ca-file"),
        (19, "does not trust", "--ca-file"),
        (20, "does not trust", "--ca-file"),
        (21, "does not trust", "--ca-file"),
        (26, "another purpose", "administrator"),
        (32, "must not issue it", "--ca-file"),
        (62, "not valid for idp.example", "pose"),
        (64, "not valid for idp.example", "pose"),
        (66, "too weakly", "administrator"),
        (79, "must not issue it", "--ca-file"),
        (12345, "message of OpenSSL", "--ca-file"),
    ],
)
def test_each_code_of_openssl_is_put_into_words(code: int, says: str, advice: str) -> None:
    why, next_step = failures.explain(error(code), "idp.example", timeout_s=1)

    assert "idp.example" in why
    assert says in why
    assert advice in next_step


CUT = "closed the connection before the response was complete"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (ssl.SSLEOFError(8, "EOF"), CUT),
        (ssl.SSLZeroReturnError(6, "closed"), CUT),
        (ConnectionResetError(104, "Connection reset by peer"), CUT),
        (http.client.IncompleteRead(b"", 3), CUT),
        (http.client.RemoteDisconnected(""), CUT),
        (http.client.BadStatusLine("canary"), "does not speak HTTP"),
        (ssl.SSLError(1, "canary"), "no reason given"),
        (TimeoutError(), "no complete response from idp.example within 1.5 s"),
        (socket.gaierror(-2, "canary"), "idp.example cannot be resolved"),
        (ConnectionRefusedError(111, "canary"), "connection refused by idp.example"),
        (OSError(101, "Network is unreachable"), "network is unreachable"),
        (OSError("canary"), "OSError"),
        (ValueError("canary"), "ValueError"),
    ],
)
def test_other_failures_are_told_by_their_class(made: Exception, says: str) -> None:
    why, next_step = failures.explain(made, "idp.example", timeout_s=1.5)

    assert says in why
    assert "canary" not in why
    assert next_step


@pytest.mark.parametrize(
    ("status", "says", "advice"),
    [
        (407, "cache.example:3128 requires a user name", "USER:PASSWORD"),
        (403, "no tunnel to idp.example (HTTP 403)", "HTTPS_PROXY"),
        (0, "no usable response", "HTTPS_PROXY"),
    ],
)
def test_a_proxy_that_refuses_is_named(status: int, says: str, advice: str) -> None:
    why, next_step = failures.explain(
        TunnelError(status), "idp.example", proxy="cache.example:3128", timeout_s=1
    )

    assert "the proxy cache.example:3128" in why
    assert says in why
    assert advice in next_step


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("UNEXPECTED_EOF_WHILE_READING", CUT),  # as Debian 12's 3.11.2 says it
        ("UNSUPPORTED_PROTOCOL", "TLS 1.2"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "TLS 1.2"),
    ],
)
def test_the_reason_of_openssl_decides(reason: str, says: str) -> None:
    made = ssl.SSLError(1, "x")
    made.reason = reason

    assert says in failures.explain(made, "idp.example", timeout_s=1)[0]


@pytest.mark.parametrize(
    "made", [ConnectionRefusedError(), socket.gaierror(), TimeoutError(), OSError(113, "No route to host")]
)
def test_a_proxy_that_cannot_be_reached_is_to_blame_not_the_server(made: Exception) -> None:
    why, next_step = failures.explain(made, "idp.example", proxy="cache.example:3128", timeout_s=1)

    assert "cache.example:3128" in why or why == "no route to host"
    assert next_step == failures.CHECK_PROXY


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (TunnelError(407, has_basic=False), "a login other than by user name and password"),
        (TunnelError(407, was_sent=True), "rejected the user name and password"),
    ],
)
def test_a_proxy_that_takes_no_password_gets_none(refused: TunnelError, says: str) -> None:
    why, next_step = failures.explain(refused, "idp.example", proxy="cache.example:3128", timeout_s=1)

    assert says in why
    assert ("USER:PASSWORD" in next_step) == refused.has_basic
