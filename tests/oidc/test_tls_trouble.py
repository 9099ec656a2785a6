"""What is said of a certificate. The servers that have such ones are in `test_bad_tls`."""

from __future__ import annotations

import ssl

import pytest

from thv_llm.oidc import tls_trouble


def error(code: int, message: str = "message of OpenSSL") -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError(1, "certificate verify failed")
    made.verify_code = code
    made.verify_message = message
    return made


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        (9, "is not valid yet", "clock"),
        (10, "has expired", "clock"),
        (18, "is self-signed", "--ca-file"),
        (19, "not trusted here", "--ca-file"),
        (20, "not trusted here", "--ca-file"),
        (21, "not trusted here", "--ca-file"),
        (26, "another purpose", "people who run"),
        (32, "must not issue it", "--ca-file"),
        (62, "not one for idp.example", "pose"),
        (64, "not one for idp.example", "pose"),
        (66, "too weakly", "people who run"),
        (79, "must not issue it", "--ca-file"),
        (12345, "message of OpenSSL", "--ca-file"),
    ],
)
def test_each_code_of_openssl_is_put_into_words(code: int, says: str, advice: str) -> None:
    why, next_step = tls_trouble.explain(error(code), "idp.example")

    assert "idp.example" in why
    assert says in why
    assert advice in next_step


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (ssl.SSLEOFError(8, "EOF"), "broke off"),
        (ssl.SSLZeroReturnError(6, "closed"), "broke off"),
        (ssl.SSLError(1, "x"), "no reason given"),
    ],
)
def test_other_failures_are_put_into_words_too(made: ssl.SSLError, says: str) -> None:
    why, next_step = tls_trouble.explain_protocol(made, "idp.example")

    assert "idp.example" in why
    assert says in why
    assert next_step


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("UNSUPPORTED_PROTOCOL", "TLS 1.2"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "TLS 1.2"),
    ],
)
def test_the_reason_of_openssl_decides(reason: str, says: str) -> None:
    made = ssl.SSLError(1, "x")
    made.reason = reason

    assert says in tls_trouble.explain_protocol(made, "idp.example")[0]
