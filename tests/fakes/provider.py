"""An OpenID provider on loopback: strict where ours could be wrong, and wrong on command.

    with FakeProvider() as provider:
        # provider.issuer, provider.ca_file; clients can register any loopback redirect URI
        ...
        claims = provider.verify_access_token(token)    # what a gateway does

It checks PKCE and redirect URIs itself, rotates refresh tokens and ends a session whose old
token comes back, signs RS256 with `pow`, and remembers every request (`requests`, `count`).

Misbehavior: `alter[ENDPOINT] = function(ServerResponse) -> ServerResponse` changes those of one endpoint
(`discovery`, `oauth_metadata`, `jwks`, `authorize`, `token`, `refresh`, `device`,
`device_token`, `revoke`), `alter_id_token` and `alter_callback` what their names say.
Standard library only: `make demo` runs on it.
"""

from __future__ import annotations

import base64
import html
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from tests import canaries
from tests.fakes import rsa
from tests.fakes.grants import Grant, Grants, OAuthError
from tests.fakes.web import CA_FILE, Request, ServerResponse, WebServer

HELD_S = 10.0
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ENDPOINTS_OF_GRANTS = {
    "refresh_token": "refresh",
    "authorization_code": "token",
    "client_credentials": "workload",
    TOKEN_EXCHANGE: "workload",
}

Pairs = list[tuple[str, str]]


class FakeProvider(WebServer):
    """A provider while the context lasts.

    Args:
        tls: https with the test certificate, else http.
        access_lifetime_s: of access tokens, and the `expires_in` that is announced.
        rotates: each refresh gives a new refresh token and kills the old one.
        reuse_grace_s: how long an old token still gives the same new one; afterwards its use
            ends the whole session.
        opaque: access tokens are random text instead of JWTs.
        needs_consent: keep the refresh token back unless the login had `prompt=consent`.
        login_form: show a page with a form instead of approving at once (for real browsers).
        id_token_on_refresh: respond to a refresh with a new ID token, too.
        now: seconds since the epoch.

    Attributes:
        requests: (endpoint, request) in order of arrival.
        grants: what was given out, and is still good.
        latency_s: how long the token endpoint takes.
        lost_responses: how many responses of the token endpoint to lose after the work is done.
        device_errors: what a device login is told before it succeeds, one per poll.
        device_waits: a device login succeeds only after `approve_device`.
        user: claims of the user who logs in.
        secret: what the client must know; "" = it is a public one.
        is_registered: which redirect URIs are.
        is_offline: which authorization requests bring a refresh token.
        scopes: those there are, None for any; another one ends the login.
        assertions: tokens of workloads that are trusted.
        registers: every caller gets a client id (RFC 7591).
    """

    ca_file = CA_FILE
    client_id = "cli"
    audience = "gateway"

    def __init__(
        self,
        *,
        tls: bool = True,
        access_lifetime_s: float = 3600.0,
        rotates: bool = True,
        reuse_grace_s: float = 0.0,
        opaque: bool = False,
        needs_consent: bool = False,
        login_form: bool = False,
        id_token_on_refresh: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(self._respond, tls=tls)
        self.issuer = self.url
        self.access_lifetime_s = access_lifetime_s
        self.opaque = opaque
        self.needs_consent = needs_consent
        self.login_form = login_form
        self.id_token_on_refresh = id_token_on_refresh
        self.now = now
        self.grants = Grants(now, rotates=rotates, reuse_grace_s=reuse_grace_s)
        self.requests: list[tuple[str, Request]] = []
        self.keys = [rsa.KEY]
        self.user: dict[str, Any] = {"sub": "user-1", "email": "dev@example.com", "name": "Dev"}
        self.secret = ""
        self.is_registered: Callable[[str], bool] = _is_loopback
        self.is_offline: Callable[[dict[str, str]], bool] = self._is_offline
        self.scopes: frozenset[str] | None = None
        self.assertions: set[str] = set()
        self.registers = False
        self.latency_s = 0.0
        self.lost_responses = 0
        self.device_errors: list[str] = ["authorization_pending"]
        self.device_waits = False
        self.device_interval_s: float = 5
        self.alter: dict[str, Callable[[ServerResponse], ServerResponse]] = {}
        self.alter_id_token: Callable[[dict[str, Any], dict[str, Any]], str | None] | None = None
        self.alter_callback: Callable[[Pairs], Pairs] | None = None

    # What a test asks

    def count(self, endpoint: str) -> int:
        """Return how many requests an endpoint has seen."""
        return sum(1 for name, _ in self.requests if name == endpoint)

    def last(self, endpoint: str) -> Request:
        """Return the latest request of an endpoint."""
        return [request for name, request in self.requests if name == endpoint][-1]

    def issue_refresh_token(self, client_id: str = client_id, scope: str = "openid offline_access") -> str:
        """Start a session without a login, and return its refresh token."""
        return self.grants.new_refresh_token(Grant(client_id, scope, str(self.user["sub"])))

    def is_live(self, refresh_token: str) -> bool:
        """Tell whether a refresh token is the one to use next."""
        return self.grants.is_live(refresh_token)

    def hold(self, endpoint: str) -> tuple[threading.Event, threading.Event]:
        """Have the responses of an endpoint wait; return the events "one waits" and "they can go"."""
        arrived, release = threading.Event(), threading.Event()

        def wait(good: ServerResponse) -> ServerResponse:
            arrived.set()
            release.wait(HELD_S)
            return good

        self.alter[endpoint] = wait
        return arrived, release

    def approve_device(self) -> None:
        """Let the device logins that wait succeed."""
        self.device_waits = False
        self.device_errors = []

    def verify_access_token(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token that is good here and now, as a gateway would.

        Raises:
            ValueError: not ours, expired, or of a session that has ended.
        """
        claims = self.grants.access_tokens.get(token)
        if claims is None:
            raise ValueError("unknown access token")
        if not self.opaque:
            signed, _, signature = token.rpartition(".")
            if not rsa.KEY.verifies(signed.encode(), rsa.unb64(signature)):
                raise ValueError("bad signature")
        if claims["iss"] != self.issuer or claims["exp"] <= self.now():
            raise ValueError("expired, or of another issuer")
        if self.grants.has_ended(claims["sid"]):
            raise ValueError("revoked")
        return claims

    # The endpoints

    def _respond(self, request: Request) -> ServerResponse:
        routes: dict[str, tuple[str, Callable[[Request], ServerResponse]]] = {
            "/.well-known/openid-configuration": ("discovery", self._metadata),
            "/.well-known/oauth-authorization-server": ("oauth_metadata", self._metadata),
            "/jwks": ("jwks", lambda _: ServerResponse(body={"keys": [key.jwk() for key in self.keys]})),
            "/authorize": ("authorize", self._authorize),
            "/token": ("token", self._token),
            "/device_authorization": ("device", self._device),
            "/device": ("device_page", self._device_page),
            "/revoke": ("revoke", self._revoke),
            "/register": ("register", self._register),
            "/logout": ("logout", lambda _: ServerResponse(body="<h1>Logged out</h1>")),
        }
        path = request.path.removeprefix(urlsplit(self.issuer).path.rstrip("/"))
        name, respond = routes.get(path, ("unknown", lambda _: ServerResponse(404, {"error": "not_found"})))
        if name == "token":
            grant_type = request.form.get("grant_type", "")
            name = ENDPOINTS_OF_GRANTS.get(grant_type, "device_token")
        self.requests.append((name, request))
        try:
            response: ServerResponse = respond(request)
        except OAuthError as error:
            response = ServerResponse(400, {"error": error.code, "error_description": error.description})
        if name in self.alter:
            response = self.alter[name](response)
        return response

    def _metadata(self, _: Request) -> ServerResponse:
        there = self.issuer.rstrip("/")
        return ServerResponse(
            body={
                "issuer": self.issuer,
                "authorization_endpoint": f"{there}/authorize",
                "token_endpoint": f"{there}/token",
                "jwks_uri": f"{there}/jwks",
                "device_authorization_endpoint": f"{there}/device_authorization",
                "revocation_endpoint": f"{there}/revoke",
                "end_session_endpoint": f"{there}/logout",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "offline_access"],
                "authorization_response_iss_parameter_supported": True,
                **({"registration_endpoint": f"{there}/register"} if self.registers else {}),
            }
        )

    def _authorize(self, request: Request) -> ServerResponse:
        fields = request.fields
        if not self.is_registered(fields.get("redirect_uri", "")):
            return ServerResponse(400, "<h1>redirect_uri is not registered</h1>")
        if fields.get("response_type") != "code" or fields.get("code_challenge_method") != "S256":
            return ServerResponse(400, "<h1>only code with S256</h1>")
        if "code_verifier" in fields:
            return ServerResponse(400, "<h1>the verifier must never come here</h1>")
        if self.login_form and request.method == "GET":
            return ServerResponse(body=_form("/authorize", fields, "Log in"))
        pairs: Pairs
        unknown = set(fields.get("scope", "").split()) - (self.scopes or set())
        if self.scopes is not None and unknown:
            pairs = [("error", "invalid_scope"), ("state", fields.get("state", "")), ("iss", self.issuer)]
            return ServerResponse(302, headers={"Location": f"{fields['redirect_uri']}?{urlencode(pairs)}"})
        grant = Grant(
            fields["client_id"],
            fields.get("scope", ""),
            str(self.user["sub"]),
            nonce=fields.get("nonce", ""),
            audience=fields.get("resource") or fields.get("audience") or "gateway",
            is_offline=self.is_offline(fields),
        )
        code = self.grants.new_code(grant, fields["redirect_uri"], fields.get("code_challenge", ""))
        pairs = [("code", code), ("state", fields.get("state", "")), ("iss", self.issuer)]
        if self.alter_callback:
            pairs = self.alter_callback(pairs)
        return ServerResponse(302, headers={"Location": f"{fields['redirect_uri']}?{urlencode(pairs)}"})

    def _is_offline(self, fields: dict[str, str]) -> bool:
        has_consent = not self.needs_consent or "consent" in fields.get("prompt", "").split()
        return "offline_access" in fields.get("scope", "").split() and has_consent

    def _token(self, request: Request) -> ServerResponse:
        form = request.form
        grant_type = form.get("grant_type", "")
        if self.secret and _secret_of(request) != self.secret and "client_assertion" not in form:
            missing = "" if _secret_of(request) else "client_secret is missing."
            raise OAuthError("invalid_client", missing)
        if self.latency_s:
            self.stopping.wait(self.latency_s)
        if grant_type == "authorization_code":
            grant = self.grants.redeem_code(form)
            refresh = self.grants.new_refresh_token(grant) if grant.is_offline else None
        elif grant_type == "refresh_token":
            grant, refresh = self.grants.refresh(form.get("refresh_token", ""), form.get("client_id", ""))
        elif grant_type == "urn:ietf:params:oauth:grant-type:device_code":
            grant = self._poll_device(form)
            refresh = self.grants.new_refresh_token(grant) if grant.is_offline else None
        elif grant_type in ("client_credentials", TOKEN_EXCHANGE):
            proof = form.get("client_assertion") or form.get("subject_token")
            if proof is None and not self.secret:
                raise OAuthError("invalid_client")
            if proof is not None and proof not in self.assertions:
                raise OAuthError("invalid_client" if "client_assertion" in form else "invalid_grant", proof)
            audience = form.get("resource") or form.get("audience") or "gateway"
            grant, refresh = Grant(self.client_id, form.get("scope", ""), "workload", audience=audience), None
        else:
            raise OAuthError("unsupported_grant_type")
        has_id_token = grant_type != "refresh_token" or self.id_token_on_refresh
        response = ServerResponse(body=self._tokens(grant, refresh, has_id_token=has_id_token))
        if self.lost_responses:
            self.lost_responses -= 1
            response.raw = b""
        return response

    def _tokens(self, grant: Grant, refresh: str | None, *, has_id_token: bool) -> dict[str, Any]:
        now = int(self.now())
        claims = {
            "iss": self.issuer,
            "sub": grant.subject,
            "aud": grant.audience,
            "client_id": grant.client_id,
            "iat": now,
            "exp": self.now() + self.access_lifetime_s,
            "sid": grant.session,
        }
        access = self.grants.new_access_token(claims, opaque=self.opaque)
        response: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(self.access_lifetime_s),
            "scope": grant.scope,
        }
        if refresh is not None:
            response["refresh_token"] = refresh
        if has_id_token and "openid" in grant.scope.split():
            response["id_token"] = self._id_token(grant, now)
        return response

    def _id_token(self, grant: Grant, now: int) -> str:
        header = {"mark": canaries.MARK, "alg": "RS256", "kid": rsa.KEY.kid, "typ": "JWT"}
        claims = {"iss": self.issuer, "aud": grant.client_id, "iat": now, "exp": now + 300, **self.user}
        claims["sub"] = grant.subject
        if grant.nonce:
            claims["nonce"] = grant.nonce
        forged = self.alter_id_token(header, claims) if self.alter_id_token else None
        return rsa.jwt(header, claims, rsa.KEY) if forged is None else forged

    def _device(self, request: Request) -> ServerResponse:
        scope = request.form.get("scope", "")
        audience = request.form.get("resource") or request.form.get("audience") or "gateway"
        grant = Grant(
            request.form.get("client_id", ""),
            scope,
            str(self.user["sub"]),
            audience=audience,
            is_offline="offline_access" in scope.split(),
        )
        body: dict[str, Any] = {
            "device_code": self.grants.new_device_code(grant),
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.issuer}/device",
            "verification_uri_complete": f"{self.issuer}/device?user_code=WDJB-MJHT",
            "expires_in": 600,
            "interval": self.device_interval_s,
        }
        return ServerResponse(body=body)

    def _poll_device(self, form: dict[str, str]) -> Grant:
        if self.device_errors:
            raise OAuthError(self.device_errors.pop(0))
        if self.device_waits:
            raise OAuthError("authorization_pending")
        return self.grants.redeem_device_code(form.get("device_code", ""))

    def _device_page(self, request: Request) -> ServerResponse:
        if request.method == "GET":
            return ServerResponse(body=_form("/device", request.query, "Approve"))
        self.approve_device()
        return ServerResponse(body="<h1>Approved</h1>")

    def _register(self, request: Request) -> ServerResponse:
        client = json.loads(request.body)
        if not self.registers or client["token_endpoint_auth_method"] != "none":
            raise OAuthError("invalid_client_metadata")
        return ServerResponse(201, {**client, "client_id": "registered-1"})

    def _revoke(self, request: Request) -> ServerResponse:
        self.grants.revoke(request.form.get("token", ""))
        return ServerResponse()


def _is_loopback(uri: str) -> bool:
    redirect = urlsplit(uri)
    return redirect.scheme == "http" and redirect.hostname in ("127.0.0.1", "localhost")


def _secret_of(request: Request) -> str:
    """Return the client's secret, from the form or from `Authorization` (RFC 6749 section 2.3.1)."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind != "Basic":
        return request.form.get("client_secret", "")
    return unquote_plus(base64.b64decode(value).decode().partition(":")[2])


def _form(action: str, fields: dict[str, str], button: str) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in fields.items()
    )
    return (
        f'<!doctype html><title>{button}</title><form method="post" action="{action}">{hidden}'
        f'<input name="login" value="dev"><button id="go">{button}</button></form>'
    )
