"""The table of identity providers: each is recognized, and its ready line works at a fake of its kind."""

from __future__ import annotations

import base64
import json
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import homes
from tests.commands.machine import Machine
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.oidc.client import Client
from thv_llm import providers, settings
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.providers import PROVIDERS, IdentityProvider

USABLE = [one for one in PROVIDERS if not one.unusable]
BY_ID = {one.id: one for one in PROVIDERS}
NAMES = """entra okta auth0 keycloak google cognito pingone onelogin jumpcloud gitlab zitadel authentik dex
    cloudflare aws-identity-center"""
SECRET = "client-secret-of-the-tests"

every_usable_one = pytest.mark.parametrize("one", USABLE, ids=lambda one: one.id)


def words(one: IdentityProvider) -> list[str]:
    """Return the words of the ready line, without `thv-llm`."""
    line = settings.options("thv-llm setup", one.ready)
    return shlex.split(line.replace("\\\n", ""))[1:]  # as a shell does it


# How each of them behaves


def behaves(one: IdentityProvider, fake: FakeProvider, port: int) -> None:
    """Make a fake as strict and as odd as the provider that the entry describes."""
    where = one.example[0].partition("://")[2].partition("/")
    fake.issuer = fake.url + where[1] + where[2]
    if not one.takes_any_port:
        fake.is_registered = lambda uri: uri == f"http://127.0.0.1:{port}/callback"
    if one.id in BEHAVIOR:
        BEHAVIOR[one.id](fake)


def changed(fake: FakeProvider, endpoint: str, **members: Any) -> None:
    """Change members of a response; None takes one out."""

    def change(good: ServerResponse) -> ServerResponse:
        if good.status != 200:
            return good
        body = {**good.body, **members}
        return ServerResponse(good.status, {name: value for name, value in body.items() if value is not None})

    fake.alter[endpoint] = change


def knows(*scopes: str) -> Callable[[FakeProvider], None]:
    """Return a provider without `offline_access`, whose refresh token comes without being asked for."""

    def behave(fake: FakeProvider) -> None:
        fake.scopes = frozenset(scopes)
        fake.is_offline = lambda _: True

    return behave


def entra(fake: FakeProvider) -> None:
    fake.scopes = frozenset({"openid", "offline_access", "api://APP/access"})
    changed(fake, "discovery", revocation_endpoint=None, token_endpoint=elsewhere(fake))
    changed(fake, "token", refresh_token_expires_in=90 * 86400)


def elsewhere(fake: FakeProvider) -> str:
    """Return the token endpoint under another name than the issuer's."""
    return f"{fake.issuer.replace('127.0.0.1', 'localhost')}/token"


def google(fake: FakeProvider) -> None:
    fake.scopes = frozenset({"openid", "email", "profile"})
    fake.is_offline = lambda fields: (
        fields.get("access_type") == "offline" and fields.get("prompt") == "consent"
    )
    fake.secret = SECRET
    opaque(fake)
    changed(fake, "discovery", token_endpoint=elsewhere(fake))


def opaque(fake: FakeProvider) -> None:
    fake.opaque = fake.id_token_on_refresh = True


def gitlab(fake: FakeProvider) -> None:
    knows("openid", "email", "profile")(fake)
    fake.opaque = True


def auth0(fake: FakeProvider) -> None:
    def only_with_audience(good: ServerResponse) -> ServerResponse:
        return (
            good if fake.last("authorize").fields.get("audience") else ServerResponse(400, "<h1>opaque</h1>")
        )

    fake.alter["token"] = only_with_audience
    fake.needs_consent = True


def dex(fake: FakeProvider) -> None:
    for document in ("discovery", "oauth_metadata"):
        changed(fake, document, revocation_endpoint=None)


BEHAVIOR: dict[str, Callable[[FakeProvider], None]] = {
    "entra": entra,
    "okta-org": opaque,
    "auth0": auth0,
    "keycloak": lambda fake: changed(fake, "token", refresh_expires_in=1800),
    "google": google,
    "cognito": knows("openid", "email", "profile", "phone"),
    "onelogin": opaque,
    "jumpcloud": opaque,
    "gitlab": gitlab,
    "dex": dex,
}


def id_token_check(fake: FakeProvider, client_id: str) -> Callable[[str], object]:
    """Return the check of a gateway that takes ID tokens."""

    def check(token: str) -> object:
        try:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        except (IndexError, ValueError):
            raise ValueError("no JWT") from None
        if claims["aud"] != client_id or claims["iss"] != fake.issuer or claims["exp"] < time.time():
            raise ValueError("not an ID token for this client")
        return claims

    return check


def test_every_provider_of_the_list_is_there_and_none_twice() -> None:
    ids = [one.id for one in PROVIDERS]
    assert set(ids) >= set(NAMES.split())
    assert len(ids) == len(set(ids))
    assert all(one.register for one in USABLE)
    assert all(not re.search(r"[<>|]", text) for one in USABLE for text in (*one.register, *one.notes))


@every_usable_one
def test_an_issuer_of_it_is_recognized_or_its_endpoints_are(one: IdentityProvider) -> None:
    found = providers.of(one.example[0])
    assert found is one if one.issuer and one.id != "gitlab" else bool(one.endpoints)
    assert one.revokes in ("", "token", "grant", "nothing")


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        ("https://oauth.id.eu.jumpcloud.com/", "jumpcloud"),
        ("https://oauth.id.in.jumpcloud.com/", "jumpcloud"),
        ("https://auth.pingone.com.au/1/as", "pingone"),
        ("https://login.microsoftonline.us/1/v2.0", "entra"),
    ],
)
def test_its_issuers_in_other_regions_are_recognized(issuer: str, name: str) -> None:
    assert providers.of(issuer) is BY_ID[name]


ENDPOINTS = {
    "keycloak": ("/auth/realms/x", "/protocol/openid-connect/%s", "auth token certs"),
    "gitlab": ("", "/oauth/%s", "authorize token discovery/keys"),
    "authentik": ("/application/o/x/", "", "/application/o/authorize/ /application/o/token/ jwks/"),
    "dex": ("/dex", "/%s", "auth token keys"),
    "zitadel": ("", "/oauth/v2/%s", "authorize token keys"),
    "okta": ("/oauth2/aus1", "/v1/%s", "authorize token keys"),
    "okta-org": ("", "/oauth2/v1/%s", "authorize token keys"),
    "auth0": ("/", "%s", "authorize oauth/token .well-known/jwks.json"),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_one_under_a_name_of_its_own_is_recognized_by_its_endpoints(name: str) -> None:
    path, pattern, ends = ENDPOINTS[name]
    issuer = f"https://login.example.com{path}"
    urls = [f"{issuer}{pattern % end if pattern else end}" for end in ends.split()]
    urls = [
        f"https://login.example.com{end}" if end.startswith("/") else url
        for end, url in zip(ends.split(), urls, strict=True)
    ]
    metadata = dict(zip(("authorization_endpoint", "token_endpoint", "jwks_uri"), urls, strict=True))

    found = providers.described({"issuer": issuer, **metadata})

    assert found is not None
    assert found.id == name


def test_another_provider_is_not_recognized() -> None:
    metadata = {"issuer": "https://id.example.com", "token_endpoint": "https://id.example.com/oauth/token"}
    metadata |= {"authorization_endpoint": "https://id.example.com/authorize", "jwks_uri": ""}

    assert providers.described(metadata) is None
    assert providers.of("https://evil.example/.okta.com") is None
    assert providers.of("https://okta.com.evil.example") is None


@every_usable_one
def test_its_ready_line_passes_a_dry_run(here: Machine, one: IdentityProvider) -> None:
    done = here.run(*words(one), "--dry-run")

    assert done.code is ExitCode.DONE, done.err
    assert "ANTHROPIC_BASE_URL" in done.out


@every_usable_one
def test_its_ready_line_logs_in_and_renews_at_such_a_provider(
    here: Machine, tmp_path: Path, one: IdentityProvider
) -> None:
    fake, port = here.provider, homes.free_port()
    behaves(one, fake, port)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    real = {"FILE": str(secret), str(providers.PORT): str(port), providers.GATEWAY: here.gateway.url}
    line = [real.get(word, word) for word in words(one)]
    line[line.index("--issuer") + 1] = fake.issuer
    if one.defaults.get("gateway.token") == "id_token":
        here.gateway.check = id_token_check(fake, one.example[1])
    ours = ("--ca-file", fake.ca_file, "--proxy-port", str(here.port), "--no-service", "--models", "m-1")

    done = here.run(*line, *ours)

    assert done.code is ExitCode.DONE, done.err
    assert "Logged in" in done.err
    assert SECRET not in done.err
    token = here.run("token")
    assert token.code is ExitCode.DONE, token.err
    assert here.gateway.admits(f"Bearer {token.out.strip()}")
    assert fake.count("refresh") == 1
    assert here.run("logout").code is ExitCode.DONE
    can_revoke = one.id not in ("entra", "dex")
    assert fake.count("revoke") == int(can_revoke)


def wanted_by(here: Machine, *arguments: str) -> settings.Settings:
    """Type setup with what the machine has, and return what was saved."""
    done = here.setup("--lazy", "--yes", *arguments)
    assert done.code is ExitCode.DONE, done.err
    return settings.load(here.paths.settings)


def test_setup_takes_what_the_provider_needs_and_says_so(here: Machine) -> None:
    done = here.setup("--lazy", "--issuer", "https://org.okta.com/oauth2/x")

    assert "Okta: --callback-port 53180" in done.err
    assert settings.load(here.paths.settings).oidc.callback_port == providers.PORT


def test_what_is_typed_wins_and_what_was_saved_stays(here: Machine) -> None:
    okta = ("--issuer", "https://org.okta.com/oauth2/x")

    assert wanted_by(here, *okta, "--callback-port", "5000").oidc.callback_port == 5000
    assert wanted_by(here, *okta, "--callback-port", "0").oidc.callback_port == 0
    assert wanted_by(here, *okta).oidc.callback_port == 0, "it has worked without"


def test_what_one_provider_needs_goes_when_another_one_is_named(here: Machine) -> None:
    google = wanted_by(here, "--issuer", "https://accounts.google.com").oidc
    assert (google.scopes, google.prompt) == (("openid", "email"), "consent")

    okta = wanted_by(here, "--issuer", "https://org.okta.com").oidc

    assert (okta.scopes, okta.prompt) == (("openid", "offline_access"), "")
    assert (okta.extra_params, okta.gateway_token, okta.callback_port) == ((), "id_token", 53180)
    cognito = wanted_by(
        here, "--issuer", "https://cognito-idp.eu-west-1.amazonaws.com/p", "--scopes", "openid"
    )
    assert cognito.oidc.scopes == ("openid",)


def test_a_provider_under_its_own_name_is_recognized_by_its_metadata(here: Machine) -> None:
    here.provider.scopes = frozenset({"openid", "email"})
    here.provider.is_offline = lambda _: True

    as_gitlab(here.provider)

    done = here.setup()

    assert done.code is ExitCode.DONE, done.err
    assert 'GitLab: --scopes "openid email"' in done.err
    assert settings.load(here.paths.settings).oidc.scopes == ("openid", "email")


def as_gitlab(fake: FakeProvider) -> None:
    """Make a fake one whose revocation ends one refresh token alone."""

    def named(good: ServerResponse) -> ServerResponse:
        return ServerResponse(body={**good.body, "jwks_uri": f"{fake.url}/oauth/discovery/keys"})

    def keys(_: ServerResponse) -> ServerResponse:
        return ServerResponse(body={"keys": [key.jwk() for key in fake.keys]})

    fake.alter |= {"discovery": named, "unknown": keys}


@pytest.mark.parametrize("is_gitlab", [True, False])
def test_the_session_before_is_revoked_where_that_ends_it_alone(here: Machine, is_gitlab: bool) -> None:
    if is_gitlab:
        as_gitlab(here.provider)
    assert here.setup("--scopes", "openid,offline_access").code is ExitCode.DONE
    first = the_live_one(here)

    assert here.run("login", "--force").code is ExitCode.DONE

    revoked = [request.form["token"] for name, request in here.provider.requests if name == "revoke"]
    assert revoked == ([first] if is_gitlab else [])
    assert here.run("token").code is ExitCode.DONE


def the_live_one(here: Machine) -> str:
    """Return the only refresh token that is good."""
    (live,) = here.provider.grants._live
    return live


def test_a_login_that_is_refused_leaves_no_session_at_the_provider(here: Machine) -> None:
    as_gitlab(here.provider)
    here.provider.alter_id_token = lambda _, claims: claims.update(aud="somebody else")

    assert here.setup("--scopes", "openid,offline_access").code is not ExitCode.DONE

    assert here.provider.count("revoke") == 1
    assert not here.provider.grants._live


def test_one_that_cannot_be_used_is_refused_with_the_reason(here: Machine) -> None:
    done = here.setup("--lazy", "--issuer", "https://oidc.eu-west-1.amazonaws.com")

    assert done.code is ExitCode.USAGE
    assert "AWS IAM Identity Center cannot be used" in done.err
    assert "Cognito" in done.err
    assert not Path(here.paths.settings).exists()


# The waiting screen


@pytest.mark.parametrize(
    ("path", "endpoints", "port", "said"),
    [
        ("/realms/x", {}, 0, "http://127.0.0.1/callback (Keycloak takes every port)"),
        ("/application/o/x/", {}, 0, r"http://127\.0\.0\.1:\d+/callback (authentik takes every port)"),
        ("/oauth2/x", {"token_endpoint": "/v1/token"}, 0, "127.0.0.1:53180/callback (Okta compares the port"),
        ("/oauth2/x", {"token_endpoint": "/v1/token"}, -1, "http://127.0.0.1:{port}/callback\n"),
        ("", {}, 0, "http://127.0.0.1/callback, for every port"),
    ],
)
def test_a_login_that_waits_names_the_redirect_uri_to_register(
    path: str, endpoints: dict[str, str], port: int, said: str
) -> None:
    with FakeProvider() as fake:
        fake.issuer = fake.url + path
        changed(fake, "discovery", **{name: fake.issuer + end for name, end in endpoints.items()})
        fake.is_registered = lambda _: False
        client = Client(fake)
        port = homes.free_port() if port else 0
        client.configure(callback_port=port)

        with pytest.raises(ThvLlmError):
            client.login(hint_s=0.05, timeout_s=0.4)

    shown = "\n".join(client.said)
    assert said.replace("{port}", str(port)) in shown
    assert shown.count("Still waiting") == 1
    assert "client cli" in shown


def test_a_login_that_ends_soon_does_not_speak_of_it(client: Client) -> None:
    client.login()

    assert "Still waiting" not in "\n".join(client.said)


@pytest.fixture
def client() -> Any:
    with FakeProvider() as provider:
        yield Client(provider)


# What errors mean


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("AADSTS50011: The redirect URI 'x' does not match", "not registered"),
        ("AADSTS500011: The resource principal named x was not found", "no such API"),
        ("AADSTS50076: Due to a configuration change", "second factor"),
        ("invalid_grant invalid_rapt reauth related error", "session length is over"),
        ("Token is not active", "session has ended"),
        ("Callback URL mismatch. x is not in the list", "not registered, port included"),
        ("something else altogether", ""),
    ],
)
def test_an_error_is_explained(said: str, meaning: str) -> None:
    found = providers.meaning(said)
    assert meaning in found
    assert bool(found) == bool(meaning)


REFRESH_ERRORS = [
    (
        "entra",
        400,
        {"error": "interaction_required", "error_description": "AADSTS50076: x", "suberror": "basic_action"},
        "a second factor is wanted",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "entra",
        400,
        {"error": "invalid_grant", "error_description": "AADSTS700082: x"},
        "not used for too long",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "entra",
        401,
        {"error": "invalid_client", "error_description": "AADSTS7000218: x"},
        "no public one",
        ExitCode.FAILED,
    ),
    (
        "auth0",
        403,
        {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."},
        "used twice",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "auth0",
        403,
        {"error": "mfa_required", "error_description": "Multifactor authentication required"},
        "second factor",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "okta",
        400,
        {"error": "invalid_grant", "error_description": "The refresh token is invalid or expired."},
        "access policy",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "keycloak",
        400,
        {"error": "invalid_grant", "error_description": "Token is not active"},
        "has expired",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "keycloak",
        400,
        {"error": "invalid_grant", "error_description": "Session not active"},
        "by time or by a logout",
        ExitCode.LOGIN_REQUIRED,
    ),
    (
        "google",
        400,
        {"error": "invalid_grant", "error_subtype": "invalid_rapt"},
        "session length",
        ExitCode.LOGIN_REQUIRED,
    ),
]


@pytest.mark.parametrize(("name", "status", "body", "meaning", "code"), REFRESH_ERRORS)
def test_a_refresh_that_fails_says_what_it_means(
    here: Machine, name: str, status: int, body: dict[str, str], meaning: str, code: ExitCode
) -> None:
    assert here.setup().code is ExitCode.DONE
    here.provider.alter["refresh"] = lambda _: ServerResponse(status, body)

    done = here.run("token")

    assert done.code is code, done.err
    assert meaning in done.err
    assert any(part in meaning or meaning in text for part, text in BY_ID[name].errors.items())


def test_an_error_of_the_login_is_explained_too(here: Machine) -> None:
    here.provider.alter_callback = lambda pairs: [
        ("error", "access_denied"),
        ("error_description", "AADSTS65001: The user or administrator has not consented"),
        *(pair for pair in pairs if pair[0] != "code"),
    ]

    done = here.setup()

    assert done.code is ExitCode.FAILED
    assert "admin consent" in done.err


# Quirks that no entry of the table is needed for


def only_localhost(fake: FakeProvider) -> None:
    fake.is_registered = lambda uri: re.fullmatch(r"http://localhost:\d+/callback", uri) is not None


def without_id_token(fake: FakeProvider) -> None:
    changed(fake, "token", id_token=None)


def refuses_revocation(fake: FakeProvider) -> None:
    fake.alter["revoke"] = lambda _: ServerResponse(401, {"error": "invalid_client"})


def has_no_revocation(fake: FakeProvider) -> None:
    for document in ("discovery", "oauth_metadata"):
        changed(fake, document, revocation_endpoint=None)


def ends_soon(fake: FakeProvider) -> None:
    changed(fake, "token", refresh_expires_in=1800)


def never_ends(fake: FakeProvider) -> None:
    changed(fake, "token", refresh_expires_in=0)


NOTHING: tuple[str, ...] = ()
ID_TOKEN = ("--gateway-token", "id_token")
QUIRKS = [
    (only_localhost, ("--redirect-host", "localhost"), "token", ExitCode.DONE, ""),
    (without_id_token, NOTHING, "token", ExitCode.DONE, ""),
    (without_id_token, NOTHING, "status", ExitCode.DONE, ""),
    (lambda _: None, ID_TOKEN, "token", ExitCode.LOGIN_REQUIRED, "renews no ID token"),
    (opaque, ID_TOKEN, "token", ExitCode.DONE, ""),
    (refuses_revocation, NOTHING, "logout", ExitCode.DONE, "HTTP 401 'invalid_client'"),
    (has_no_revocation, NOTHING, "logout", ExitCode.DONE, "the provider offers no revocation"),
    (ends_soon, NOTHING, "status", ExitCode.DONE, "ends in "),
    (never_ends, NOTHING, "status", ExitCode.DONE, ""),
]


@pytest.mark.parametrize(("plant", "options", "verb", "code", "said"), QUIRKS)
def test_a_quirk_of_a_provider_is_borne_or_named(
    here: Machine,
    plant: Callable[[FakeProvider], None],
    options: tuple[str, ...],
    verb: str,
    code: ExitCode,
    said: str,
) -> None:
    plant(here.provider)
    if options == ID_TOKEN:
        here.gateway.check = id_token_check(here.provider, "thv-llm")
    setup = here.setup("--models", "m-1", *options)
    assert setup.code is ExitCode.DONE, setup.err

    done = here.run(verb)

    assert done.code is code or (verb == "status" and done.code is ExitCode.FAILED), done.err
    assert said in done.out + done.err
