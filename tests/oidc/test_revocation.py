"""Telling the provider that a session is over."""

from __future__ import annotations

import pytest

from tests.fakes.web import Answer
from tests.oidc.client import Client
from thv_llm.oidc.http import Provider
from thv_llm.oidc.revocation import revoke
from thv_llm.secret import Secret


def without_endpoint(answer: Answer) -> Answer:
    answer.body.pop("revocation_endpoint", None)
    return answer


def revoke_one(client: Client) -> tuple[bool, str]:
    """Revoke a fresh session; return what was said and its refresh token."""
    token = client.provider.issue_refresh_token()
    return revoke(client.discover(), "cli", Secret(token), client.http), token


def test_the_session_is_over_at_the_provider(client: Client) -> None:
    agreed, token = revoke_one(client)

    assert agreed
    assert not client.provider.grants.is_live(token)
    assert client.provider.last("revoke").form == {
        "token": token,
        "token_type_hint": "refresh_token",
        "client_id": "cli",
    }


def test_the_endpoint_may_be_named_in_the_other_document_only(client: Client) -> None:
    client.provider.alter["discovery"] = without_endpoint
    agreed, token = revoke_one(client)

    assert agreed
    assert not client.provider.grants.is_live(token)


def test_a_provider_without_revocation_is_no_error(client: Client) -> None:
    client.provider.alter["discovery"] = without_endpoint
    client.provider.alter["oauth_metadata"] = without_endpoint

    assert revoke_one(client)[0] is False
    assert client.provider.count("revoke") == 0


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"error": "invalid_client"}),
        Answer(503),
        Answer(raw=b""),
        Answer(302, headers={"Location": "/"}),
    ],
)
def test_a_provider_that_refuses_is_no_error(client: Client, answer: Answer) -> None:
    client.provider.alter["revoke"] = lambda _: answer

    assert revoke_one(client)[0] is False


def test_a_proxy_that_cannot_be_used_is_no_error(client: Client) -> None:
    metadata = client.discover()
    client.http = Provider("", {"HTTPS_PROXY": "socks5://127.0.0.1:1"})

    assert revoke(metadata, "cli", Secret("rt-1"), client.http) is False


def test_metadata_of_another_issuer_gets_no_token(client: Client) -> None:
    def evil(answer: Answer) -> Answer:
        answer.body["issuer"] = "https://evil.example"
        return answer

    client.provider.alter["discovery"] = without_endpoint
    client.provider.alter["oauth_metadata"] = evil

    assert revoke_one(client)[0] is False
    assert client.provider.count("revoke") == 0
