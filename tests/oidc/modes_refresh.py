"""Misbehaviors of the response to a refresh, and of a login by device code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from tests.oidc.modes import (
    DEEP,
    HTML,
    HUGE,
    Install,
    Json,
    Mode,
    cut,
    dripping,
    member,
    nothing,
    refuses,
    returns,
    rewritten,
    takes,
    twice,
)
from thv_llm.errors import (
    InteractionRequiredError,
    LoginRequiredError,
    RefusedError,
    ThvLlmError,
    UnreachableError,
)


@dataclass(frozen=True)
class RefreshMode(Mode):
    """One misbehavior of a refresh.

    Attributes:
        kind: of the error; only a plain LoginRequiredError ends the session.
        maybe_sent: the provider can have acted on the request.
        retry_after_s: what it asked for.
    """

    kind: type[ThvLlmError] = UnreachableError
    maybe_sent: bool = False
    retry_after_s: float | None = None


def keeps(name: str, install: Install, says: str, **options: Any) -> RefreshMode:
    return RefreshMode(name, install, says, **options)


def ends(name: str, install: Install) -> RefreshMode:
    return RefreshMode(name, install, "the stored session has ended", kind=LoginRequiredError)


def interaction(name: str, status: int, error: str, **members: str) -> RefreshMode:
    install = says(status, error, **members)
    return RefreshMode(name, install, f"log in again: '{error}'", kind=InteractionRequiredError)


def refused(name: str, status: int, error: str, text: str, description: str = "") -> RefreshMode:
    members = {"error_description": description} if description else {}
    return RefreshMode(name, says(status, error, **members), text, kind=RefusedError)


def says(status: int, error: str, **members: str) -> Install:
    return returns("refresh", status, {"error": error, **members})


def echo(provider: FakeProvider) -> None:
    """Refuse, and quote the secret that was sent."""

    def alter(_: ServerResponse) -> ServerResponse:
        sent = provider.last("refresh").form["refresh_token"]
        text = f"the token {sent} ({sent[:20]} … {sent[-20:]}) is not wanted"
        return ServerResponse(400, {"error": "invalid_request", "error_description": text})

    provider.alter["refresh"] = alter


def no_rotation(provider: FakeProvider) -> None:
    provider.grants.rotates = False


def with_id_token(**changes: Any) -> Install:
    def install(provider: FakeProvider) -> None:
        def alter(_: Json, claims: Json) -> None:
            claims.update(changes)

        provider.id_token_on_refresh = True
        provider.alter_id_token = alter

    return install


REFRESH = (
    takes("ref-ok", nothing),
    takes("ref-no-rotation", no_rotation),
    takes("ref-idt-ok", with_id_token()),
    takes("ref-idt-aud-array", with_id_token(aud=["cli"])),
    ends("ref-invalid-grant", says(400, "invalid_grant")),
    ends("ref-invalid-grant-401", says(401, "invalid_grant")),
    ends("ref-invalid-grant-403", says(403, "invalid_grant")),
    ends("ref-bare-400", returns("refresh", 400)),
    ends("ref-bare-401", returns("refresh", 401)),
    keeps("ref-bare-403", returns("refresh", 403), "HTTP 403"),
    keeps("ref-401-html", returns("refresh", 401, HTML), "returned HTTP 401"),
    keeps("ref-400-html", returns("refresh", 400, HTML), "returned HTTP 400"),
    keeps("ref-500-invalid-grant", says(500, "invalid_grant"), "'invalid_grant'"),
    keeps("ref-500", returns("refresh", 500, HTML), "HTTP 500"),
    keeps("ref-502-empty", returns("refresh", 502), "HTTP 502"),
    keeps(
        "ref-503-retry-after",
        returns("refresh", 503, headers={"Retry-After": "7"}),
        "HTTP 503",
        retry_after_s=7.0,
    ),
    keeps(
        "ref-429",
        returns("refresh", 429, {"error": "slow"}, {"Retry-After": "99999999999"}),
        "'slow'",
        retry_after_s=3600.0,
    ),
    keeps("ref-retry-after-odd", returns("refresh", 503, headers={"Retry-After": "-1"}), "HTTP 503"),
    keeps("ref-temporarily-unavailable", says(400, "temporarily_unavailable"), "'temporarily_unavailable'"),
    keeps("ref-server-error", says(500, "server_error"), "'server_error'"),
    refused("ref-invalid-client", 401, "invalid_client", "oidc.client_id"),
    refused("ref-unauthorized-client", 400, "unauthorized_client", "oidc.client_id"),
    refused("ref-unsupported-grant", 400, "unsupported_grant_type", "oidc.client_id"),
    refused("ref-invalid-scope", 400, "invalid_scope", "oidc.scopes"),
    refused("ref-offline", 400, "not_allowed", "oidc.scopes", "Offline tokens not allowed for the user"),
    refused("ref-access-denied", 403, "access_denied", "ask your administrator for access"),
    refused("ref-invalid-target", 400, "invalid_target", "oidc.resource"),
    refused("ref-no-secret", 400, "invalid_request", "client secret", "client_secret is missing."),
    refused("ref-invalid-request", 400, "invalid_request", "thv-llm login"),
    refused("ref-invalid-token", 401, "invalid_token", "thv-llm login"),
    refused("ref-404", 404, "not_found", "'not_found'"),
    interaction("ref-interaction-required", 400, "interaction_required"),
    interaction("ref-login-required", 400, "login_required"),
    interaction("ref-consent-required", 401, "consent_required"),
    interaction("ref-mfa-required", 403, "mfa_required"),
    interaction("ref-policy", 400, "invalid_grant", suberror="additional_action"),
    interaction("ref-invalid-rapt", 400, "invalid_grant", error_subtype="invalid_rapt"),
    ends("ref-token-expired", says(400, "invalid_grant", suberror="token_expired")),
    ends("ref-ended-text", says(400, "invalid_grant", error_description="AADSTS700082")),
    RefreshMode("ref-echo", echo, "***", kind=RefusedError),
    keeps("ref-error-type", returns("refresh", 400, {"error": 7}), "HTTP 400"),
    keeps("ref-200-html", returns("refresh", 200, HTML), "web page (HTTP 200)"),
    keeps("ref-200-empty", returns("refresh", 200), "is not JSON"),
    keeps("ref-redirect", returns("refresh", 302, headers={"Location": "https://portal.example/"}), "portal"),
    keeps("ref-lost", returns("refresh", raw=b""), "was complete", maybe_sent=True),
    keeps(
        "ref-cut-401",
        returns("refresh", raw=b"HTTP/1.1 401 No\r\nConten"),
        "was complete",
        maybe_sent=True,
    ),
    keeps(
        "ref-cut-400",
        returns("refresh", raw=b"HTTP/1.1 400 No\r\n\r\n"),
        "was complete",
        maybe_sent=True,
    ),
    keeps("ref-cut", cut("refresh"), "was complete", maybe_sent=True),
    keeps("ref-slow", dripping("refresh"), "no complete response from", maybe_sent=True),
    keeps("ref-huge", returns("refresh", body=HUGE), "larger than 1 MB", maybe_sent=True),
    keeps("ref-deep", returns("refresh", body=DEEP), "nested too deeply"),
    keeps("ref-dup", rewritten("refresh", twice), "'access_token' twice"),
    keeps("ref-no-access", member("refresh", "access_token"), "no access_token"),
    keeps("ref-access-crlf", member("refresh", "access_token", "a\r\nb"), "access_token holds"),
    keeps("ref-type", member("refresh", "token_type", "mac"), "not Bearer"),
    keeps("ref-idt-iss", with_id_token(iss="https://evil.example"), "iss is 'https://evil.example'"),
    keeps("ref-idt-sub", with_id_token(sub="user-2"), "sub is not who logged in"),
    keeps("ref-idt-aud", with_id_token(aud="other"), "aud is 'other'"),
)


def dev(name: str, value: Any = None) -> Install:
    return member("device", name, value)


def polls(*errors: str) -> Install:
    def install(provider: FakeProvider) -> None:
        provider.device_errors = list(errors)

    return install


def first_poll(response: ServerResponse) -> Install:
    """Give this response to the first poll, and the right ones later."""

    def install(provider: FakeProvider) -> None:
        provider.device_errors = ["authorization_pending"]
        provider.alter["device_token"] = lambda right: (
            response if provider.count("device_token") == 1 else right
        )

    return install


DEVICE = (
    takes("dev-ok", nothing),
    takes("dev-pending", polls("authorization_pending", "authorization_pending")),
    takes("dev-slow-down", polls("slow_down", "authorization_pending", "slow_down")),
    refuses("dev-expired", polls("expired_token"), "not entered in time"),
    refuses("dev-denied", polls("authorization_pending", "access_denied"), "access_denied"),
    refuses("dev-never", polls(*["authorization_pending"] * 1000), "not entered in time"),
    refuses("dev-invalid-grant", polls("invalid_grant"), "'invalid_grant'"),
    refuses("dev-unknown-error", polls("server_on_fire"), "'server_on_fire'"),
    takes("dev-reset-once", first_poll(ServerResponse(raw=b""))),
    takes("dev-503-once", first_poll(ServerResponse(503, HTML))),
    refuses("dev-html", first_poll(ServerResponse(200, HTML)), "web page"),
    refuses("dev-no-such-flow", member("discovery", "device_authorization_endpoint"), "no login by code"),
    refuses("dev-refused", returns("device", 400, {"error": "unauthorized_client"}), "'unauthorized_client'"),
    refuses("dev-no-device-code", dev("device_code"), "no device_code"),
    refuses("dev-no-user-code", dev("user_code"), "user_code"),
    refuses("dev-user-code-escape", dev("user_code", "\x1b[2J"), "user_code"),
    refuses("dev-user-code-long", dev("user_code", "A" * 100), "user_code"),
    refuses("dev-no-uri", dev("verification_uri"), "verification_uri is not a string"),
    refuses("dev-http-uri", dev("verification_uri", "http://idp.example/device"), "not an https URL"),
    refuses(
        "dev-js-uri", dev("verification_uri_complete", "javascript:alert(1)"), "verification_uri_complete"
    ),
    takes("dev-no-complete-uri", dev("verification_uri_complete")),
    takes("dev-interval-missing", dev("interval")),
    takes("dev-interval-odd", dev("interval", "soon")),
    takes("dev-expires-missing", dev("expires_in")),
)
