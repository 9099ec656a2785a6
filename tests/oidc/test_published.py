"""What a gateway publishes of how to log in: where it is looked for, what is taken, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.gateway import METADATA_PATH, FakeGateway
from tests.fakes.hostile_metadata import ATTACKS, Attack
from tests.fakes.web import CA_FILE, ServerResponse
from thv_llm.errors import InvalidResponseError, UnreachableError
from thv_llm.oidc import published
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.published import Published

GATEWAY = "https://llm.example.com"
ISSUER = "https://id.example.com"
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    def never(_: str) -> None:
        raise AssertionError("nobody has a token yet")

    with FakeGateway(never) as made:
        yield made


def find(gateway: FakeGateway, path: str = "") -> tuple[Published | None, list[str]]:
    return published.find(gateway.url + path, CA_FILE, {})


def read(document: dict[str, Any], gateway_url: str = GATEWAY, named: tuple[str, ...] = ()) -> Published:
    whole = {"authorization_servers": [ISSUER], **document}
    return published.read(whole, "URL", gateway_url, named=named)


def test_every_member_becomes_its_setting() -> None:
    own = {
        f"com.stacklok.thv-llm.{name}": value
        for name, value in {
            "client_id": "cli",
            "audience": "llm",
            "resource": f"{GATEWAY}/v1",
            "token": "id_token",
            "callback_port": 53180,
            "redirect_host": "localhost",
            "models": ["a", "b"],
            "headers": {"X-Team": "a b", "x-portkey-provider": "@b"},
            "paths": {"openai": "/o/v1", "anthropic": "/a", "gemini": "/g", "models": "/m"},
        }.items()
    }

    found = read({"scopes_supported": ["openid", "api://app-1/access"], **own})

    assert found.issuers == (ISSUER,)
    assert found.values == {
        "oidc.client_id": "cli",
        "oidc.scopes": ("openid", "api://app-1/access"),
        "oidc.audience": "llm",
        "oidc.resource": f"{GATEWAY}/v1",
        "gateway.token": "id_token",
        "oidc.callback_port": 53180,
        "oidc.redirect_host": "localhost",
        "models": ("a", "b"),
        "gateway.headers": ("X-Team: a b", "x-portkey-provider: @b"),
        "openai_path_prefix": "/o",
        "anthropic_path_prefix": "/a",
        "gemini_path_prefix": "/g",
        "models_path": "/m",
    }


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "Cookie", "X-Anything", "", "x-team\r\nx-api-key"]
)
def test_a_header_that_could_carry_a_credential_is_for_a_user_to_type(name: str) -> None:
    for headers in ({name: "x"}, [f"{name}: x"]):
        with pytest.raises(InvalidResponseError) as caught:
            read({"com.stacklok.thv-llm.headers": headers})
        assert "headers" in str(caught.value)
    assert read({"com.stacklok.thv-llm.headers": ["X-Team: a"]}, named=("gateway.headers",)).values == {}


def test_the_other_profile_is_read_where_ours_is_silent() -> None:
    found = read({"com.stacklok.mecatl.client_id": "m", "com.stacklok.mecatl.audience": "n"})
    both = read({"com.stacklok.mecatl.client_id": "m", "com.stacklok.thv-llm.client_id": "t"})

    assert found.values == {"oidc.client_id": "m", "oidc.audience": "n"}
    assert both.values == {"oidc.client_id": "t"}


def test_the_resource_of_the_document_is_not_sent_to_a_provider_that_may_refuse_it() -> None:
    assert "oidc.resource" not in read({"resource": GATEWAY}).values


@pytest.mark.parametrize(
    "member",
    [
        "ca_file",
        "tls_skip_verify",
        "require_key",
        "proxy.listen_port",
        "token_store",
        "service.network",
        "oidc.token_file",
        "oidc.client_secret",
        "oidc.extra_params",
        "oidc.grant",
        "command",
        "env",
    ],
)
def test_nothing_widens_trust_names_a_file_or_starts_a_program(member: str) -> None:
    for prefix in ("", "com.stacklok.thv-llm.", "com.stacklok.mecatl."):
        for value in (True, "/etc/passwd", 1, ["a=b"]):
            assert read({f"{prefix}{member}": value}).values == {}


def test_what_the_user_has_typed_is_not_even_looked_at() -> None:
    bad = {"scopes_supported": ["User.Read"], "com.stacklok.thv-llm.audience": "https://api.bank.example"}

    found = read(bad, named=("oidc.scopes", "oidc.audience", "oidc.issuer"))

    assert found.values == {}


@pytest.mark.parametrize(
    "issuer",
    [
        "https://127.0.0.1:8443",
        "https://localhost",
        "https://a.localhost",
        "https://[::1]",
        "https://127.1",
        "https://10.0.0.1",
        "https://0x7f.1",
        "https://2130706433",
        "https://169.254.169.254",
    ],
)
def test_a_gateway_on_the_network_cannot_name_an_issuer_on_this_machine_or_an_address(issuer: str) -> None:
    with pytest.raises(InvalidResponseError, match=r"is on (this very machine|an IP address)"):
        read({"authorization_servers": [issuer]})


@pytest.mark.parametrize(
    ("gateway", "issuer"),
    [
        ("https://127.0.0.1:1", "https://127.0.0.1:2"),
        ("https://localhost:1", "http://127.0.0.1:2"),
        ("https://10.0.0.1", "https://10.0.0.1:8443/realms/a"),
        (GATEWAY, "https://sso.internal/realms/a"),
        (GATEWAY, "https://other.example"),
    ],
)
def test_other_issuers_are_for_the_user_to_judge(gateway: str, issuer: str) -> None:
    assert read({"authorization_servers": [issuer]}, gateway).issuers == (issuer,)


@pytest.mark.parametrize("scope", ["api://app-1/access", f"{GATEWAY}/.default", "llm", "groups", "urn:x:y"])
def test_a_scope_that_may_be_the_gateways_is_taken(scope: str) -> None:
    assert read({"scopes_supported": [scope]}).values == {"oidc.scopes": (scope,)}


@pytest.mark.parametrize(
    ("issuer", "is_foreign"),
    [
        ("https://id.example.com", False),
        ("https://example.com", False),
        ("https://id.evil-example.com", True),
        ("https://llm.example.com.evil.net", True),
        ("https://10.0.0.1", True),
    ],
)
def test_another_organizations_domain_is_told_apart(issuer: str, is_foreign: bool) -> None:
    assert published.is_foreign(issuer, GATEWAY) is is_foreign


def test_two_companies_below_one_country_are_two() -> None:
    assert published.is_foreign("https://id.other.co.uk", "https://llm.example.co.uk")
    assert not published.is_foreign("https://id.example.co.uk", "https://llm.example.co.uk")


@pytest.mark.parametrize(
    ("values", "metadata", "wanted"),
    [
        ({}, {"jwks_uri": "x"}, "openid offline_access"),
        ({}, {}, "offline_access"),
        ({}, {"jwks_uri": "x", "scopes": ("openid", "email")}, "openid"),
        ({}, {"jwks_uri": "x", "scopes": ("other",)}, "openid offline_access"),
        (
            {"oidc.scopes": ("llm",)},
            {"scopes": ("openid", "offline_access", "x")},
            "llm openid offline_access",
        ),
        ({"oidc.scopes": ("openid", "llm")}, {"jwks_uri": "x"}, "openid llm"),
    ],
)
def test_scopes_are_the_gateways_and_what_the_issuer_has_for_a_session(
    values: dict[str, Any], metadata: dict[str, Any], wanted: str
) -> None:
    found = published.proposed(Published("", (), values), ISSUER, Metadata(ISSUER, "t", **metadata))

    assert found["oidc.scopes"] == tuple(wanted.split())


def test_a_document_is_found_at_the_root(gateway: FakeGateway) -> None:
    gateway.publish({"authorization_servers": [ISSUER]})

    found, tried = find(gateway)

    assert found is not None
    assert found.url == gateway.url + METADATA_PATH
    assert tried == []
    headers = {name.lower() for one in gateway.requests for name, _ in one.headers}
    assert not headers & {"authorization", "cookie"}


def test_a_final_slash_of_a_url_without_a_path_is_no_difference(gateway: FakeGateway) -> None:
    gateway.publish({"authorization_servers": [ISSUER], "resource": f"{gateway.url}/"})

    assert find(gateway)[0] is not None


@pytest.mark.parametrize(
    ("path", "resource"),
    [(f"{METADATA_PATH}/team/ai", "/team/ai"), (METADATA_PATH, "/team"), (METADATA_PATH, "")],
)
def test_of_a_gateway_with_a_path_the_document_is_at_its_own_place_or_at_the_roots(
    gateway: FakeGateway, path: str, resource: str
) -> None:
    gateway.publish({"authorization_servers": [ISSUER], "resource": gateway.url + resource}, path)

    found, _ = find(gateway, "/team/ai")

    assert found is not None
    assert found.url == gateway.url + path


@pytest.mark.parametrize("resource", ["/te", "/other", "/team/ai/more"])
def test_a_document_of_a_neighbor_is_not_used(gateway: FakeGateway, resource: str) -> None:
    gateway.publish({"authorization_servers": [ISSUER], "resource": gateway.url + resource})

    found, tried = find(gateway, "/team/ai")

    assert found is None
    assert any("it is about" in line for line in tried)


def test_a_document_is_found_by_the_challenge(gateway: FakeGateway) -> None:
    gateway.challenge = f'Basic realm="x", Bearer resource_metadata="{gateway.url}/meta"'
    gateway.publish({"authorization_servers": [ISSUER], "resource": f"{gateway.url}/v1/models"}, "/meta")

    found, tried = find(gateway)

    assert found is not None
    assert found.url == f"{gateway.url}/meta"
    assert len(tried) == 1


def test_the_challenge_counts_whichever_of_several_headers_it_is_in(gateway: FakeGateway) -> None:
    head = f'WWW-Authenticate: Bearer resource_metadata="{gateway.url}/meta"\r\nWWW-Authenticate: Basic\r\n'
    raw = f"HTTP/1.1 401 No\r\n{head}Content-Length: 0\r\n\r\n".encode()
    gateway.published["/v1/models"] = ServerResponse(raw=raw)
    gateway.publish({"authorization_servers": [ISSUER]}, "/meta")

    assert find(gateway)[0] is not None


def server(gateway: FakeGateway, path: str = "", **more: object) -> dict[str, object]:
    issuer = gateway.url + path
    return {"issuer": issuer, "token_endpoint": f"{issuer}/token", **more}


def test_a_gateway_may_be_its_own_authorization_server(gateway: FakeGateway) -> None:
    device = {"device_authorization_endpoint": f"{gateway.url}/device"}
    gateway.publish(server(gateway, scopes_supported=["everything"], **device), AUTHORIZATION_SERVER)

    found, tried = find(gateway)

    assert found is not None
    assert found.issuers == (gateway.url,)
    assert found.values == {"oidc.client_id": "claude-code"}
    assert len(tried) == 2


def test_a_client_id_that_such_a_gateway_names_counts(gateway: FakeGateway) -> None:
    named = {"com.stacklok.thv-llm.client_id": "ours"}
    gateway.publish(server(gateway, **named), AUTHORIZATION_SERVER)

    found, _ = find(gateway)

    assert found is not None
    assert found.values == {"oidc.client_id": "ours"}


@pytest.mark.parametrize("path", [f"{AUTHORIZATION_SERVER}/ai", f"/ai{AUTHORIZATION_SERVER}"])
def test_its_metadata_is_found_before_and_behind_a_path(gateway: FakeGateway, path: str) -> None:
    gateway.publish(server(gateway, "/ai"), path)

    found, _ = find(gateway, "/ai")

    assert found is not None
    assert found.issuers == (f"{gateway.url}/ai",)


def test_metadata_of_another_issuer_is_not_used(gateway: FakeGateway) -> None:
    gateway.publish({**server(gateway), "issuer": "https://evil.example"}, AUTHORIZATION_SERVER)

    found, tried = find(gateway)

    assert found is None
    assert "it is of the issuer 'https://evil.example'" in tried[-1]


def test_a_gateway_that_is_its_own_server_has_its_endpoints_at_home(gateway: FakeGateway) -> None:
    away = {"token_endpoint": "https://evil.example/token"}
    gateway.publish(server(gateway) | away, AUTHORIZATION_SERVER)

    with pytest.raises(InvalidResponseError, match=r"evil\.example"):
        find(gateway)


def test_nothing_found_names_every_place(gateway: FakeGateway) -> None:
    found, tried = find(gateway, "/ai")

    assert found is None
    assert [line.partition(": ")[0].removeprefix(gateway.url) for line in tried] == [
        f"{METADATA_PATH}/ai",
        METADATA_PATH,
        "/ai/v1/models",
        f"{AUTHORIZATION_SERVER}/ai",
        f"/ai{AUTHORIZATION_SERVER}",
        AUTHORIZATION_SERVER,
    ]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_attack_is_refused_with_its_reason(gateway: FakeGateway, attack: Attack) -> None:
    attack.plant(gateway, ISSUER)

    if attack.is_about_us:
        with pytest.raises(InvalidResponseError) as caught:
            find(gateway)
        assert attack.said in str(caught.value)
        assert "\x1b" not in str(caught.value)
    else:
        found, tried = find(gateway)
        assert found is None
        assert any(attack.said in line for line in tried), tried


def test_a_slow_document_is_cut(gateway: FakeGateway) -> None:
    honest = {"resource": gateway.url, "authorization_servers": [ISSUER]}
    gateway.published[METADATA_PATH] = ServerResponse(body=honest, drip_s=0.02)

    with pytest.raises(UnreachableError, match="no complete response"):
        published.find(gateway.url, CA_FILE, {}, timeout_s=0.3)


def test_a_certificate_that_is_not_trusted_ends_it() -> None:
    with (
        FakeGateway(lambda _: None) as gateway,
        pytest.raises(UnreachableError, match="does not trust"),
    ):
        published.find(gateway.url, "", {})
