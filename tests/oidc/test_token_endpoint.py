"""Token responses and refusals, value by value. Whole misbehaviors: `test_misbehaviors`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.fakes import rsa
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.oidc.client import Client
from thv_llm.errors import UnreachableError
from thv_llm.net.http_client import Response
from thv_llm.oidc import token_endpoint
from thv_llm.secret import Secret

NOW = 1_800_000_000.0
MONTH_S = 30 * 86400.0


def token_response(**body: Any) -> Response:
    return Response("idp.example", 200, {}, json={"access_token": "at", "token_type": "Bearer", **body})


@pytest.mark.parametrize(
    ("expires_in", "lifetime_s"),
    [
        (3600, 3600.0),
        (1.5, 1.5),
        ("3600", 3600.0),
        ("9" * 30, MONTH_S),
        (10**400, MONTH_S),
        (1e300, MONTH_S),
        (None, 300.0),
        (0, 300.0),
        (-1, 300.0),
        ("", 300.0),
        ("-5", 300.0),
        ("1h", 300.0),
        ("٣", 300.0),
        (True, 300.0),
        (float("inf"), 300.0),
        ([], 300.0),
    ],
)
def test_the_lifetime_is_announced_or_assumed(expires_in: object, lifetime_s: float) -> None:
    assert (
        token_endpoint.tokens(token_response(expires_in=expires_in), now=NOW).expires_at == NOW + lifetime_s
    )


@pytest.mark.parametrize(
    ("exp", "lifetime_s"),
    [
        (NOW + 900, 900.0),
        (NOW - 5, 300.0),
        ("soon", 300.0),
        (True, 300.0),
        (NOW * 1e6, 300.0),
        (1e14, MONTH_S),
    ],
)
def test_without_expires_in_the_token_itself_may_say(exp: object, lifetime_s: float) -> None:
    access = rsa.jwt({"alg": "RS256"}, {"exp": exp}, rsa.KEY)

    assert token_endpoint.tokens(token_response(access_token=access), now=NOW).expires_at == NOW + lifetime_s


def test_expires_in_counts_more_than_the_token_itself() -> None:
    """It is relative, so it does not depend on the provider's clock."""
    access = rsa.jwt({"alg": "RS256"}, {"exp": NOW + 9000}, rsa.KEY)
    found = token_endpoint.tokens(token_response(access_token=access, expires_in=60), now=NOW)

    assert found.expires_at == NOW + 60


@pytest.mark.parametrize(
    ("members", "lasts_s"),
    [
        ({"refresh_expires_in": 1800}, 1800.0),
        ({"refresh_token_expires_in": "86400"}, 86400.0),
        ({"refresh_expires_in": 90 * 86400}, 90 * 86400.0),
        ({"refresh_expires_in": 0}, math.inf),
        ({"refresh_expires_in": 1e300}, 3650 * 86400.0),
        ({"refresh_expires_in": False}, None),
        ({"refresh_expires_in": -1}, None),
        ({"refresh_expires_in": "soon"}, None),
        ({}, None),
    ],
)
def test_a_provider_may_say_when_the_session_ends(members: dict[str, Any], lasts_s: float | None) -> None:
    found = token_endpoint.tokens(token_response(**members), now=NOW).session_ends_at

    assert found == (None if lasts_s is None else NOW + lasts_s)


def test_tokens_are_secrets() -> None:
    found = token_endpoint.tokens(token_response(refresh_token="rt", id_token="a.b.c"), now=NOW)

    assert (found.access, found.refresh, found.id_token) == (Secret("at"), Secret("rt"), Secret("a.b.c"))
    assert "rt" not in repr(found).replace("refresh", "").replace("expires_at", "")


def test_refresh_sends_what_the_provider_needs_and_no_more() -> None:
    with FakeProvider() as provider:
        client = Client(provider)
        client.configure(audience="api", resource="https://llm.example.com")
        token = provider.issue_refresh_token()
        found = client.refresh(token, now=NOW)

    assert provider.last("refresh").form == {
        "grant_type": "refresh_token",
        "refresh_token": token,
        "client_id": "cli",
        "audience": "api",
        "resource": "https://llm.example.com",
    }
    assert found.expires_at == NOW + 3600
    assert found.refresh is not None
    assert found.refresh.reveal() != token


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999", 3600.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_understood_in_seconds(value: str, seconds: float | None) -> None:
    response = Response("idp.example", 503, {"retry-after": value})
    error = token_endpoint.refused("x", response, {})

    assert isinstance(error, UnreachableError)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 15 Jan 2027 08:00:00 GMT", 30.0),
        ("Fri, 15 Jan 2027 09:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 3600.0),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_retry_after_is_understood_as_a_date(date: str, seconds: float | None) -> None:
    headers = {"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", "date": date}
    error = token_endpoint.refused("x", Response("idp.example", 503, headers), {})

    assert isinstance(error, UnreachableError)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AADSTS900144: The refresh token has expired.", "AADSTS900144: The refresh token has expired."),
        ("token SECRET-0123456789 is dead", "token *** is dead"),
        ("token 'SECRET-0123' is dead", "token *** is dead"),
        ("…-0123456789", "***"),
        ("SECRET-", "SECRET-"),
        ("a=SECRET-0123456789&b", "a=***&b"),
    ],
)
def test_secrets_that_are_echoed_are_taken_out(text: str, shown: str) -> None:
    response = Response("idp.example", 400, {}, json={"error": "invalid_request", "error_description": text})
    error = token_endpoint.refused("x", response, {"refresh_token": Secret("SECRET-0123456789")})

    assert error.why == f"the provider says 'invalid_request': {shown!r}"
    assert "0123" not in error.why


def test_long_texts_of_the_provider_are_cut() -> None:
    response = Response(
        "idp.example", 400, {}, json={"error": "x" * 10_000, "error_description": "y" * 10_000}
    )

    assert len(str(token_endpoint.refused("x", response, {}))) < 500


def test_a_refresh_without_a_known_subject_accepts_any_subject() -> None:
    with FakeProvider(id_token_on_refresh=True) as provider:
        client = Client(provider)

        assert client.refresh(provider.issue_refresh_token()).id_token is not None


def test_an_opaque_token_is_as_good() -> None:
    with FakeProvider(opaque=True) as provider:
        provider.alter["refresh"] = lambda response: ServerResponse(
            body={name: value for name, value in response.body.items() if name != "expires_in"}
        )
        found = Client(provider).refresh(provider.issue_refresh_token(), now=NOW)

    assert found.expires_at == NOW + 300
