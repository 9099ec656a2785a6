"""Metadata: where it is fetched, and how long it is kept. What can be wrong in it: `test_misbehaviors`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import environs
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.oidc.client import Client
from thv_llm.errors import InvalidResponseError
from thv_llm.oidc import discovery

NOW = 1_800_000_000.0


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "toolhive" / "llm-discovery.json")


def test_the_endpoints_are_those_of_the_document(client: Client) -> None:
    found = client.discover()

    assert found.issuer == client.provider.issuer
    assert found.token_endpoint == f"{found.issuer}/token"
    assert found.iss_in_callback


@pytest.mark.parametrize(
    ("age_s", "fetches"), [(0, 1), (3600, 1), (24 * 3600 - 1, 1), (24 * 3600, 2), (-10, 2)]
)
def test_the_document_is_kept_for_a_day(client: Client, cache: str, age_s: float, fetches: int) -> None:
    first = client.discover(cache_path=cache, now=NOW)
    second = client.discover(cache_path=cache, now=NOW + age_s)

    assert first == second
    assert client.provider.count("discovery") == fetches
    assert environs.is_private(cache)


def test_what_is_kept_is_all_that_is_used(client: Client, cache: str) -> None:
    said = {
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "registration_endpoint": f"{client.provider.issuer}/register",
        "scopes_supported": ["openid"],
    }
    client.provider.alter["discovery"] = lambda good: ServerResponse(body={**good.body, **said})

    first = client.discover(cache_path=cache)
    kept = client.discover(cache_path=cache)

    assert client.provider.count("discovery") == 1
    assert kept == first
    assert (kept.is_basic, kept.scopes) == (False, ("openid",))


def test_a_fresh_one_is_fetched_when_asked_for_or_after_forgetting(client: Client, cache: str) -> None:
    client.discover(cache_path=cache)
    client.discover(cache_path=cache, fresh=True)
    discovery.forget(cache)
    discovery.forget(cache)
    client.discover(cache_path=cache)

    assert client.provider.count("discovery") == 3


def test_another_issuer_does_not_get_the_kept_document(client: Client, cache: str) -> None:
    client.discover(cache_path=cache)
    with FakeProvider() as other:
        found = Client(other).discover(cache_path=cache)

    assert found.token_endpoint.startswith(other.issuer)


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: b"",
        lambda kept: b"{",
        lambda kept: b"[]",
        lambda kept: b"\xff",
        lambda kept: json.dumps({**kept, "fetched_at": "yesterday"}).encode(),
        lambda kept: json.dumps({**kept, "fetched_at": None}).encode(),
        lambda kept: json.dumps({**kept, "document": 7}).encode(),
        lambda kept: json.dumps({**kept, "document": {**kept["document"], "issuer": "x"}}).encode(),
        lambda kept: json.dumps(
            {**kept, "document": {**kept["document"], "token_endpoint": "http://evil.example/"}}
        ).encode(),
    ],
)
def test_a_damaged_cache_is_no_cache(client: Client, cache: str, damage: object) -> None:
    good = client.discover(cache_path=cache)
    assert callable(damage)
    Path(cache).write_bytes(damage(json.loads(Path(cache).read_bytes())))

    assert client.discover(cache_path=cache) == good
    assert client.provider.count("discovery") == 2


def test_a_cache_that_cannot_be_written_stops_nothing(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert client.discover(cache_path=str(tmp_path / "file" / "cache.json")).token_endpoint


def test_a_document_that_is_refused_is_not_kept(client: Client, cache: str) -> None:
    client.provider.alter["discovery"] = lambda _: ServerResponse(body={"issuer": "https://evil.example"})
    with pytest.raises(InvalidResponseError):
        client.discover(cache_path=cache)

    assert not os.path.exists(cache)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://idp.example", "https://idp.example/.well-known/oauth-authorization-server"),
        ("https://idp.example/", "https://idp.example/.well-known/oauth-authorization-server"),
        ("https://idp.example/t/1", "https://idp.example/.well-known/oauth-authorization-server/t/1"),
    ],
)
def test_the_other_document_is_where_rfc_8414_puts_it(issuer: str, url: str) -> None:
    assert discovery.oauth_metadata_url(issuer) == url


def test_issuers_that_differ_are_both_named() -> None:
    with pytest.raises(InvalidResponseError) as caught:
        discovery.parse({"issuer": "https://a.example/"}, "https://a.example")

    assert "'https://a.example/'" in str(caught.value)
    assert "'https://a.example'" in str(caught.value)
    assert "setup --issuer" in caught.value.next_step


def test_optional_endpoints_that_cannot_be_used_are_ignored() -> None:
    issuer = "https://idp.example"
    bad = dict.fromkeys(discovery.OPTIONAL_ENDPOINTS, "http://idp.example/x")
    found = discovery.parse({"issuer": issuer, "token_endpoint": f"{issuer}/token", **bad}, issuer)

    assert (found.device_authorization_endpoint, found.revocation_endpoint, found.end_session_endpoint) == (
        "",
        "",
        "",
    )
