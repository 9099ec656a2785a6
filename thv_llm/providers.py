"""One entry per identity provider: how it is recognized, what it needs, what its errors mean.

Data only. `setup` takes its defaults from here, the login the redirect URI that must be registered,
errors their meaning, and `help providers` is made of it. A provider that is not in the table works as
OpenID Connect says; an entry is only what differs from that, and what to tell the administrator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

PORT = 53180
"""The port of every ready line that needs one: where Claude Desktop's login listens, too, so that one
registration serves both."""
ANY_PORT = "http://127.0.0.1/callback"
FIXED_PORT = f"http://127.0.0.1:{PORT}/callback"

GATEWAY = "https://llm.example.com"

Defaults = Mapping[str, Any]
"""Values of settings by key."""
NONE: Mapping[str, Any] = MappingProxyType({})


class IdentityProvider(NamedTuple):
    """One identity provider.

    Attributes:
        issuer: pattern of its issuers, without `https://`; "" when it runs under any name.
        endpoints: patterns of URLs in its metadata, by member, all of which fit.
        example: an issuer, and a client id.
        redirect_uri: what to register.
        takes_any_port: the port of a loopback redirect is not compared.
        defaults: settings that differ from ours.
        given: settings that only the administrator knows, with words in capitals to replace.
        register: what to do in its console.
        notes: what else to know.
        errors: a part of an error's text, and what it means.
        revokes: what a revoked refresh token ends: "token" that one alone, "grant" other logins of the
            user at this client, too; "nothing" where there is no revocation; "" unknown.
        unusable: why it cannot be used, and what can instead.
    """

    id: str
    title: str
    issuer: str = ""
    endpoints: Mapping[str, str] = NONE
    example: tuple[str, str] = ("", "")
    redirect_uri: str = ANY_PORT
    takes_any_port: bool = True
    defaults: Defaults = NONE
    given: Defaults = NONE
    register: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    errors: Mapping[str, str] = NONE
    revokes: str = ""
    unusable: str = ""

    @property
    def ready(self) -> Defaults:
        """The settings of its users."""
        issuer, client_id = self.example
        names = {"gateway_url": GATEWAY, "oidc.issuer": issuer, "oidc.client_id": client_id}
        return {**names, **self.defaults, **self.given}


PROVIDERS = (
    IdentityProvider(
        id="entra",
        title="Microsoft Entra ID",
        issuer=r"login\.microsoftonline\.(com|us)/[^/]+/v2\.0|login\.partner\.microsoftonline\.cn/[^/]+/v2\.0",
        example=("https://login.microsoftonline.com/TENANT-ID/v2.0", "CLIENT-ID"),
        given={"oidc.scopes": ("openid", "offline_access", "api://APP/access")},
        register=(
            "App registrations, Authentication: platform *Mobile and desktop applications* with this redirect"
            " URI. Only that platform takes any port. If the page refuses the URI, write it into the"
            " manifest, or register `http://localhost/callback` and add `--redirect-host localhost`.",
            "Expose an API with a scope such as `api://APP/access`, and set the version of its access tokens"
            " to 2; the audience comes from the scope.",
            "For `--device-code`: *Allow public client flows*.",
        ),
        notes=(
            "The issuer holds the tenant's id, not `common` and not a domain.",
            "`--resource` is refused unless it belongs to the scopes. Without an API of its own, the access"
            " token is for Microsoft Graph: then the gateway must take ID tokens"
            " (`--gateway-token id_token`).",
            "A session lasts 90 days after its last use (24 hours for users who log in with an e-mailed"
            " code); a changed password ends it. Entra has no revocation endpoint, so `logout` deletes the"
            " session here only.",
        ),
        errors={
            "AADSTS50011": "the redirect URI is not registered for this client",
            "AADSTS65001": "these scopes need consent: ask your administrator for admin consent",
            "AADSTS500011": "no such API in this tenant: check oidc.scopes",
            "AADSTS70011": "no such scope: check oidc.scopes",
            "AADSTS700016": "no such client in this tenant: check oidc.client_id and oidc.issuer",
            "AADSTS7000218": "this client is no public one: register it as a mobile and desktop application",
            "AADSTS9010010": "oidc.resource does not belong to the scopes: remove it",
            "AADSTS50076": "a second factor is wanted",
            "AADSTS50079": "a second factor must be registered",
            "AADSTS53003": "a Conditional Access policy forbids it",
            "AADSTS70043": "a policy requires a login this often",
            "AADSTS700082": "not used for too long",
            "AADSTS700084": "the redirect URI is registered as a single-page application, whose sessions last"
            " 24 hours: register it under Mobile and desktop applications",
            "AADSTS50173": "the password was changed",
        },
        revokes="nothing",
    ),
    IdentityProvider(
        id="okta",
        title="Okta",
        issuer=r"[^/]+\.(okta|oktapreview|okta-emea)\.com/oauth2/[^/]+",
        endpoints={"token_endpoint": r".*/oauth2/[^/]+/v1/token"},
        example=("https://ORG.okta.com/oauth2/SERVER-ID", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT},
        given={"oidc.scopes": ("openid", "offline_access", "llm")},
        register=(
            "Applications: *OIDC*, *Native Application*, grants *Authorization Code* and *Refresh Token*, and"
            " this sign-in redirect URI; the port is compared.",
            "An authorization server of your own (Security, API) gives audience, scopes and access policy.",
        ),
        notes=(
            "How long a session lasts is in the access policy; 7 days without use by default. With rotation,"
            " a refresh token that is used twice ends all of its line.",
        ),
        errors={
            "The refresh token is invalid or expired": "the access policy has ended it, or it was revoked",
            "'redirect_uri' parameter must be": "the redirect URI is not registered, port included",
            "Policy evaluation failed": "no rule of the authorization server's access policy allows this",
        },
        revokes="token",
    ),
    IdentityProvider(
        id="okta-org",
        title="Okta, the organization's own authorization server",
        issuer=r"[^/]+\.(okta|oktapreview|okta-emea)\.com",
        endpoints={"token_endpoint": r".*/oauth2/v1/token"},
        example=("https://ORG.okta.com", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT, "gateway.token": "id_token"},
        register=("The application is registered as above.",),
        notes=("Its access tokens are for Okta's own API alone, so the gateway must take ID tokens.",),
        revokes="token",
    ),
    IdentityProvider(
        id="auth0",
        title="Auth0",
        issuer=r"[^/]+\.auth0\.com/",
        endpoints={"token_endpoint": r".*/oauth/token", "jwks_uri": r".*/\.well-known/jwks\.json"},
        example=("https://TENANT.eu.auth0.com/", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT},
        given={"oidc.audience": "https://llm.example.com"},
        register=(
            "An application of type *Native* with this allowed callback URL; the port is compared.",
            "An API whose identifier is the audience, with *Allow Offline Access*.",
        ),
        notes=(
            "The issuer ends with a slash. Without an audience the access token is opaque.",
            "Auth0 cannot verify a loopback redirect, so it asks the user at every login.",
            "Idle and longest lifetime of refresh tokens are set for each application. Whether a revoked"
            " one takes the whole grant with it is a setting of the tenant.",
        ),
        errors={
            "Callback URL mismatch": "the redirect URI is not registered, port included",
            "Service not found": "there is no API with this identifier: check oidc.audience",
            "Unknown or invalid refresh token": "it has expired, was revoked, or was used twice",
            "Multifactor authentication required": "a second factor is wanted",
        },
        revokes="grant",
    ),
    IdentityProvider(
        id="keycloak",
        title="Keycloak",
        issuer=r"[^/]+(/.*)?/realms/[^/]+",
        endpoints={"token_endpoint": r".*/protocol/openid-connect/token"},
        example=("https://id.example.com/realms/REALM", "thv-llm"),
        register=(
            "A client with *Client authentication* off, *Standard flow* on, and this valid redirect URI,"
            " which takes every port.",
            "A client scope with an *Audience* mapper names the gateway; `--audience` and `--resource` do"
            " nothing here.",
            "For `--device-code`: *OAuth 2.0 Device Authorization Grant*.",
        ),
        notes=(
            "`status` shows when the session ends, as Keycloak says it. A realm with several identity"
            " providers: `--auth-param kc_idp_hint=NAME` goes straight to one of them.",
        ),
        errors={
            "Invalid parameter: redirect_uri": "the redirect URI is not registered for this client",
            "Token is not active": "it has expired: the realm's session or offline session has ended",
            "Session not active": "the realm's session has ended, by time or by a logout",
            "Offline user session not found": "the offline session has ended",
            "Maximum allowed refresh token reuse exceeded": "it was used twice",
            "Stale token": "it was used twice",
            "Public client not allowed": "switch Client authentication off for this client",
        },
        revokes="grant",
    ),
    IdentityProvider(
        id="google",
        title="Google",
        issuer=r"accounts\.google\.com",
        example=("https://accounts.google.com", "CLIENT-ID"),
        redirect_uri="",
        defaults={
            "oidc.scopes": ("openid", "email"),
            "oidc.extra_params": ("access_type=offline",),
            "oidc.prompt": "consent",
            "gateway.token": "id_token",
        },
        given={"oidc.client_secret": "FILE"},
        register=(
            "Google Auth Platform, Clients: type *Desktop app*. It has no redirect URI to fill in; every port"
            " of a loopback address is taken.",
            "Give your users the client's secret in a file: Google wants it even from desktop apps, where it"
            " is not confidential (RFC 8252, section 8.5). `setup` moves it into the session's store.",
        ),
        notes=(
            "There is no `offline_access`: `access_type=offline` and `prompt=consent` bring the refresh"
            " token.",
            "Access tokens are opaque and for Google's APIs alone, so the gateway must take ID tokens, whose"
            " audience is the client id. A refresh brings a new one, without the user's name and picture: let"
            " the gateway go by `sub` or `email`.",
            "A client whose consent screen is in testing gives sessions of 7 days; else one ends after 6"
            " months without use.",
        ),
        errors={
            "client_secret is missing": "Google wants the client's secret: --client-secret-file FILE",
            "redirect_uri_mismatch": "the client is not of type Desktop app",
            "invalid_rapt": "your organization's session length is over",
            "Token has been expired or revoked": "the session was ended at Google, or not used for 6 months",
        },
        revokes="grant",
    ),
    IdentityProvider(
        id="cognito",
        title="Amazon Cognito",
        issuer=r"cognito-idp\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[^/]+",
        example=("https://cognito-idp.REGION.amazonaws.com/POOL-ID", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.scopes": ("openid", "email", "profile"), "oidc.callback_port": PORT},
        register=(
            "App clients: type *Mobile app*, so that it has no secret (a web client's cannot be removed),"
            " with this return URL; the port is compared. Scopes openid, email and profile.",
            "The user pool needs a domain.",
        ),
        notes=(
            "There is no `offline_access`; the refresh token comes without it.",
            "Access tokens name the client in `client_id` and have no `aud`: a gateway that checks `aud`"
            " needs `--gateway-token id_token`.",
            "There is no device flow. Straight to one identity provider:"
            " `--auth-param identity_provider=NAME`.",
        ),
        errors={
            "redirect_mismatch": "the redirect URI is not registered, port included",
        },
        revokes="token",
    ),
    IdentityProvider(
        id="pingone",
        title="PingOne",
        issuer=r"auth\.pingone\.(com|eu|ca|asia|sg|com\.au)/[^/]+/as",
        example=("https://auth.pingone.eu/ENVIRONMENT-ID/as", "CLIENT-ID"),
        given={"oidc.scopes": ("openid", "offline_access", "llm")},
        register=(
            "An application of type *Native*, token endpoint authentication *None*, PKCE *S256_REQUIRED*,"
            " grant types *Authorization Code* and *Refresh Token*, and this redirect URI, which takes every"
            " port, with `localhost` as well.",
            "A custom resource gives audience and scopes; add them and `offline_access` to the application's"
            " resources.",
        ),
        notes=(
            "Access tokens are JWTs. A refresh token lasts 30 days by default; its rolling duration, 180"
            " days, ends the session for good.",
        ),
    ),
    IdentityProvider(
        id="onelogin",
        title="OneLogin",
        issuer=r"[^/]+\.onelogin\.com/oidc/2",
        endpoints={"token_endpoint": r".*/oidc/2/token"},
        example=("https://SUBDOMAIN.onelogin.com/oidc/2", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT, "gateway.token": "id_token"},
        register=(
            "An OpenID Connect app: application type *Native/Mobile*, token endpoint *None (PKCE)*, and this"
            " redirect URI; the port is compared. The lifetimes of its tokens are in the same place.",
        ),
        notes=(
            "The gateway takes ID tokens; with an API authorization server, `--gateway-token access_token`.",
            "Not verified: that the port is compared, and that access tokens without such a server are for"
            " OneLogin alone.",
        ),
    ),
    IdentityProvider(
        id="jumpcloud",
        title="JumpCloud",
        issuer=r"oauth\.id\.((eu|in)\.)?jumpcloud\.com/?",
        example=("https://oauth.id.jumpcloud.com/", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT, "gateway.token": "id_token"},
        register=(
            "SSO Applications, Custom OIDC App: grant types *Authorization Code* and *Refresh Token*, client"
            " authentication *Public (None PKCE)*, and this redirect URI; it must match exactly.",
            "The standard scopes *Email* and *Profile*, and the groups of your users; then *Activate*.",
        ),
        notes=(
            "The issuer ends with a slash. It is `oauth.id.eu.jumpcloud.com` in the EU and"
            " `oauth.id.in.jumpcloud.com` in India.",
            "A refresh token lasts 30 days by default, at most 90. Not verified: that access tokens are"
            " opaque, for which the gateway takes ID tokens here.",
        ),
        errors={
            "does not match any of the OAuth 2.0 Client's pre-registered redirect urls": "the redirect URI is"
            " not registered, port included",
        },
    ),
    IdentityProvider(
        id="gitlab",
        title="GitLab",
        issuer=r"gitlab\.com",
        endpoints={"jwks_uri": r".*/oauth/discovery/keys"},
        example=("https://gitlab.example.com", "CLIENT-ID"),
        defaults={"oidc.scopes": ("openid", "email")},
        register=(
            "An application with *Confidential* unticked, the scopes `openid` and `email`, and this redirect"
            " URI, which takes every port. Not with `localhost`: its port is compared.",
        ),
        notes=(
            "There is no `offline_access`; the refresh token comes without it, and works once.",
            "Access tokens are opaque and last 2 hours: the gateway must have GitLab introspect them.",
            "`--device-code` works from GitLab 17.1 on. GitHub has no login of this kind, only tokens for"
            " its jobs (`thv-llm help scripts`).",
        ),
        errors={
            "redirect uri included is not valid": "the redirect URI is not registered for this application",
            "requested scope is invalid": "the application does not have one of these scopes",
        },
        revokes="token",
    ),
    IdentityProvider(
        id="zitadel",
        title="Zitadel",
        issuer=r"[^/]+\.zitadel\.cloud",
        endpoints={"token_endpoint": r".*/oauth/v2/token", "jwks_uri": r".*/oauth/v2/keys"},
        example=("https://ORG.zitadel.cloud", "CLIENT-ID"),
        given={
            "oidc.scopes": ("openid", "offline_access", "urn:zitadel:iam:org:project:id:PROJECT-ID:aud"),
        },
        register=(
            "An application of type *Native*, authentication *None*, with this redirect URI, which takes"
            " every port. Tick *Refresh Token*, and set the type of its access tokens to *JWT*.",
        ),
        notes=(
            "The scope `urn:zitadel:iam:org:project:id:…:aud` puts that project into the audience.",
            "By default an access token lasts 12 hours; a session ends after 30 days without use, and after"
            " 90 days in any case.",
        ),
    ),
    IdentityProvider(
        id="authentik",
        title="authentik",
        issuer=r"[^/]+(/.*)?/application/o/[^/]+/",
        endpoints={"token_endpoint": r".*/application/o/token/"},
        example=("https://id.example.com/application/o/SLUG/", "CLIENT-ID"),
        redirect_uri=r"http://127\.0\.0\.1:\d+/callback",
        register=(
            "An OAuth2/OpenID provider with client type *Public* and this redirect URI in the mode *Regex*;"
            f" in the mode *Strict*, `{FIXED_PORT}` and `--callback-port {PORT}`.",
            "Add the scope mapping `offline_access`: without it the session ends with the browser's.",
        ),
        notes=("The issuer ends with a slash. Tokens are JWTs whose audience is the client id.",),
        errors={"Redirect URI Error": "the redirect URI is not registered for this provider"},
    ),
    IdentityProvider(
        id="dex",
        title="Dex",
        endpoints={
            "authorization_endpoint": r".*/auth",
            "token_endpoint": r".*/token",
            "jwks_uri": r".*/keys",
        },
        example=("https://dex.example.com", "thv-llm"),
        redirect_uri="",
        given={"oidc.scopes": ("openid", "offline_access", "audience:server:client_id:GATEWAY-ID")},
        register=(
            "A static client with `public: true` and no `redirectURIs`: it takes every port of a loopback"
            " address. Any entry there would make it compare exactly.",
        ),
        notes=(
            "Older versions take `localhost` only: `--redirect-host localhost`. The scope"
            " `audience:server:client_id:…` names the gateway's client.",
        ),
        errors={"Unregistered redirect_uri": "name no redirectURIs for a public client"},
        revokes="nothing",
    ),
    IdentityProvider(
        id="cloudflare",
        title="Cloudflare Access, as an OIDC provider",
        issuer=r"[^/]+\.cloudflareaccess\.com/cdn-cgi/access/sso/oidc/[^/]+",
        example=("https://TEAM.cloudflareaccess.com/cdn-cgi/access/sso/oidc/CLIENT-ID", "CLIENT-ID"),
        redirect_uri=FIXED_PORT,
        takes_any_port=False,
        defaults={"oidc.callback_port": PORT},
        register=(
            "Access, Applications: a SaaS application of type *OIDC* with PKCE, no client secret"
            " (`allow_pkce_without_client_secret`), refresh tokens, and this redirect URL.",
        ),
        notes=("The refresh token lasts no longer than the global session of Cloudflare Access.",),
    ),
    IdentityProvider(
        id="aws-identity-center",
        title="AWS IAM Identity Center",
        issuer=r"(oidc|portal\.sso|identitycenter|sso)\.[a-z0-9-]+\.amazonaws\.com(/.*)?"
        r"|[^/]+\.awsapps\.com(/.*)?|[^/]+\.app\.aws(/.*)?",
        unusable="it has no OpenID Connect endpoint for other applications: its tokens are for AWS alone."
        " Use the provider that it takes its users from, or Amazon Cognito",
    ),
)


def of(issuer: str) -> IdentityProvider | None:
    """Return the provider that an issuer belongs to, by its URL alone; None when that says nothing."""
    address = issuer.partition("://")[2]
    found = (one for one in PROVIDERS if one.issuer and re.fullmatch(one.issuer, address, re.IGNORECASE))
    return next(found, None)


def described(metadata: Mapping[str, Any]) -> IdentityProvider | None:
    """Return the provider with such metadata (members by name), also one that runs under any name."""

    def fits(one: IdentityProvider) -> bool:
        found = ((metadata[name], pattern) for name, pattern in one.endpoints.items())
        return bool(one.endpoints) and all(re.fullmatch(pattern, url) for url, pattern in found)

    return of(metadata["issuer"]) or next((one for one in PROVIDERS if fits(one)), None)


def to_register(metadata: Mapping[str, Any], redirect_uri: str, *, is_fixed: bool) -> str:
    """Return the redirect URI that a login needs to have registered, and what is to be known of its port.

    Args:
        redirect_uri: the one that the login uses.
        is_fixed: its port is one of the settings.
    """
    one = described(metadata)
    if is_fixed:
        return redirect_uri
    without_port = re.sub(r":\d+/", "/", redirect_uri)
    if one and one.takes_any_port:
        uri = one.redirect_uri if one.redirect_uri not in ("", ANY_PORT) else without_port
        return f"{uri} ({one.title} takes every port)"
    fixed = re.sub(r":\d+/", f":{PORT}/", redirect_uri)
    if one:
        return f"{fixed} ({one.title} compares the port: thv-llm setup --callback-port {PORT})"
    return (
        f"{without_port}, for every port; where the port is compared,\n"
        f"  {fixed}, and then: thv-llm setup --callback-port {PORT}"
    )


def meaning(text: str) -> str:
    """Return what the text of a provider's error means; "" when it says enough itself."""
    known = {part: said for one in PROVIDERS for part, said in one.errors.items()}
    fits = [part for part in known if part in text and not text.partition(part)[2][:1].isdigit()]
    return known[max(fits, key=len)] if fits else ""
