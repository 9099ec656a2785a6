"""Telling the provider that a session is over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.web import ServerResponse
from tests.oidc.client import Client
from thv_llm.oidc.http import Provider
from thv_llm.oidc.token_endpoint import revoke
from thv_llm.secret import Secret


def without_endpoint(response: ServerResponse) -> ServerResponse:
    response.body.pop("revocation_endpoint", None)
    return response


def revoke_one(client: Client) -> tuple[str, str]:
    """Revoke a fresh session; return why it was not and its refresh token."""
    token = client.provider.issue_refresh_token()
    return revoke(client.discover(), "cli", Secret(token), client.http), token


def test_the_session_is_over_at_the_provider(client: Client) -> None:
    why, token = revoke_one(client)

    assert why == ""
    assert not client.provider.grants.is_live(token)
    assert client.provider.last("revoke").form == {
        "token": token,
        "token_type_hint": "refresh_token",
        "client_id": "cli",
    }


def test_the_endpoint_may_be_named_in_the_other_document_only(client: Client) -> None:
    client.provider.alter["discovery"] = without_endpoint
    why, token = revoke_one(client)

    assert why == ""
    assert not client.provider.grants.is_live(token)


@pytest.mark.parametrize(
    "other", [without_endpoint, lambda _: ServerResponse(404), lambda _: ServerResponse(200, "<html>")]
)
def test_a_provider_without_revocation_is_named_so(
    client: Client, other: Callable[[ServerResponse], ServerResponse]
) -> None:
    client.provider.alter["discovery"] = without_endpoint
    client.provider.alter["oauth_metadata"] = other

    assert revoke_one(client)[0] == "the provider offers no revocation"
    assert client.provider.count("revoke") == 0


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (ServerResponse(401, {"error": "invalid_client"}), "returned HTTP 401 'invalid_client'"),
        (ServerResponse(403, "<html>no"), "returned HTTP 403"),
        (ServerResponse(503), "returned HTTP 503"),
        (ServerResponse(raw=b""), "was complete"),
        (ServerResponse(302, headers={"Location": "/"}), "returned HTTP 302"),
    ],
)
def test_why_a_provider_did_not_revoke_is_told(client: Client, response: ServerResponse, why: str) -> None:
    client.provider.alter["revoke"] = lambda _: response

    assert why in revoke_one(client)[0]


def test_a_provider_that_quotes_the_token_is_not_quoted(client: Client) -> None:
    def echo(_: ServerResponse) -> ServerResponse:
        return ServerResponse(400, {"error": client.provider.last("revoke").form["token"]})

    client.provider.alter["revoke"] = echo
    why, token = revoke_one(client)

    assert "HTTP 400 '***'" in why
    assert token not in why


def test_a_proxy_that_cannot_be_used_is_no_error(client: Client) -> None:
    metadata = client.discover()
    client.http = Provider("", {"HTTPS_PROXY": "socks5://127.0.0.1:1"})

    assert "only http:// proxies" in revoke(metadata, "cli", Secret("rt-1"), client.http)


def test_metadata_of_another_issuer_gets_no_token(client: Client) -> None:
    def evil(response: ServerResponse) -> ServerResponse:
        response.body["issuer"] = "https://evil.example"
        return response

    client.provider.alter["discovery"] = without_endpoint
    client.provider.alter["oauth_metadata"] = evil

    assert revoke_one(client)[0] == "the provider offers no revocation"
    assert client.provider.count("revoke") == 0
