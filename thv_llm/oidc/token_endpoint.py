"""Codes and refresh tokens in, access tokens out (RFC 6749); and revocation (RFC 7009).

Rule 1: a refresh fails in one of four ways, and only the first of them ends the session.
        - ended: `invalid_grant`, or a 400 or 401 without a body;
        - interaction required: the provider wants its user to log in again, for a policy's sake;
        - refused: another error in JSON with a 4xx, which a setting causes and repeating repeats;
        - unreachable: everything else. Trying again later can help.
Rule 2: a token that is not visible ASCII is refused: it is going to be a header's value.
Rule 3: text of the provider is shown only after every secret that we sent is taken out of it;
        providers echo them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from thv_llm.errors import (
    LOGIN_FAILED,
    NO_TOKEN,
    InteractionRequiredError,
    InvalidResponseError,
    LoginRequiredError,
    RefusedError,
    ThvLlmError,
    UnreachableError,
    shown,
)
from thv_llm.net.http_client import JsonObject, Response
from thv_llm.oidc import discovery
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import Provider, describe
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

ASSUMED_LIFETIME_S = 300.0  # when neither `expires_in` nor a JWT says
MAX_LIFETIME_S = 30 * 86400.0  # "huge" values end here: another refresh after a month does no harm
MAX_SESSION_S = 10 * 365 * 86400.0
MAX_RETRY_AFTER_S = 3600.0

MAX_CLAIMS = 4096

LOGIN = "thv-llm login"
PERSISTS = "if the problem persists, contact your administrator"
WANTS_SECRET = "the provider wants a client secret: thv-llm setup --client-secret-file FILE"
WRONG_SECRET = "check the client secret: thv-llm setup --client-secret-file FILE"
NO_ID_TOKEN = (
    "thv-llm login; if the gateway takes access tokens, too: thv-llm setup --gateway-token access_token"
)
NO_REVOCATION = "the provider offers no revocation"

INTERACTION = frozenset({"interaction_required", "login_required", "consent_required", "mfa_required"})
"""OpenID Connect Core section 3.1.2.6; the last one is Auth0's."""

POLICY = frozenset(
    {
        "basic_action",
        "additional_action",
        "message_only",
        "consent_required",
        "user_password_expired",
        "protection_policy_required",
        "device_authentication_failed",
        "invalid_rapt",
    }
)
"""With one of these beside it, `invalid_grant` is a matter of policy: `suberror` at Microsoft, the last
one is Google's `error_subtype`."""

PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down", "authorization_pending"})

SETTINGS = {
    "access_denied": "ask your administrator for access",
    "invalid_client": "check oidc.client_id, a public client: thv-llm setup --client-id ID",
    "unauthorized_client": "ask your administrator to allow this login and refresh tokens for oidc.client_id",
    "unsupported_grant_type": "ask your administrator to allow refresh tokens for oidc.client_id",
    "invalid_scope": "check oidc.scopes: thv-llm setup --scopes LIST",
    "invalid_target": "check oidc.resource and oidc.audience: thv-llm setup --resource URI",
}
"""What helps with an error of the provider: most are about a setting."""


class Tokens(NamedTuple):
    """What one successful token response holds.

    Attributes:
        expires_at: seconds since the epoch, on this machine's clock.
        refresh: None when the response had none: an older one stays in force.
        session_ends_at: as the provider says; inf: never, None: it does not say.
    """

    access: Secret
    expires_at: float
    refresh: Secret | None = None
    id_token: Secret | None = None
    session_ends_at: float | None = None


def exchange(
    metadata: Metadata,
    oidc: OidcSettings,
    http: Provider,
    *,
    code: Secret,
    redirect_uri: str,
    code_verifier: Secret,
    now: float,
) -> Tokens:
    """Exchange an authorization code for tokens.

    Raises:
        ThvLlmError: the provider refused the code.
        UnreachableError: no usable response.

    Source: RFC 6749 section 4.1.3; RFC 7636 section 4.5.
    """
    fields: dict[str, str | Secret] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        **oidc.parameters,
        "code_verifier": code_verifier,
        **http.authentication(),
    }
    response = http.post_form(metadata.token_endpoint, fields, is_basic=metadata.is_basic)
    if response.status != 200:
        raise refused(LOGIN_FAILED, response, fields)
    return tokens(response, now=now)


def refresh(
    metadata: Metadata,
    oidc: OidcSettings,
    token: Secret,
    http: Provider,
    *,
    now: float,
    subject: str = "",
) -> Tokens:
    """Exchange a refresh token for a new access token.

    The provider can rotate the refresh token. If it did, the old one is dead already, so the
    caller must store `Tokens.refresh` before it uses `Tokens.access`.

    Args:
        now: seconds since the epoch when the request starts; `expires_at` counts from it.
        subject: who logged in; an ID token for another user is refused. "" checks nothing.

    Raises:
        LoginRequiredError: the provider refused the refresh token for good.
        InteractionRequiredError, RefusedError: see rule 1.
        NoResponseError: nothing came back; see its `maybe_sent`.
        UnreachableError: anything else; the refresh token can still be valid.

    Source: RFC 6749 section 6; rotation: RFC 9700 section 4.14.2.
    """
    fields: dict[str, str | Secret] = {
        "grant_type": "refresh_token",
        "refresh_token": token,
        **oidc.parameters,
        **http.authentication(),
    }
    response = http.post_form(metadata.token_endpoint, fields, is_basic=metadata.is_basic)
    if response.status != 200:
        raise _failed_refresh(response, fields)
    found = tokens(response, now=now)
    if found.id_token is not None:
        # Most providers send none here, and a cold `token` should not pay for this import.
        from thv_llm.oidc.id_token import check_refreshed

        check_refreshed(found.id_token, issuer=metadata.issuer, client_id=oidc.client_id, subject=subject)
    elif oidc.gateway_token == "id_token":
        why = "the session has ended: the provider renews no ID token, which the gateway wants"
        raise LoginRequiredError(NO_TOKEN, why=why, next_step=NO_ID_TOKEN)
    return for_gateway(found, oidc, now=now)


def for_gateway(found: Tokens, oidc: OidcSettings, *, now: float) -> Tokens:
    """Return the tokens with that as the access token which the gateway accepts.

    Raises:
        InvalidResponseError: there is no such token.
    """
    if oidc.gateway_token == "access_token":
        return found
    if found.id_token is None:
        raise InvalidResponseError(
            NO_TOKEN,
            why="the provider issued no ID token, which the gateway wants (gateway.token)",
            next_step="thv-llm setup --scopes with openid in it, or --gateway-token access_token",
        )
    return found._replace(access=found.id_token, expires_at=_expires_at(None, found.id_token, now))


def _failed_refresh(response: Response, sent: Mapping[str, str | Secret]) -> ThvLlmError:
    """Return the error for the response to a refresh.

    RFC 6749 section 5.2 wants 400; Auth0 says 403 and others 401 with the very same JSON. A 400
    or 401 without any body is how some providers refuse a reused token.
    """
    if response.json is None and not response.body.strip() and response.status in (400, 401):
        return _ended(f"HTTP {response.status}")
    found = response.json or {}
    error = found.get("error")
    if not isinstance(error, str) or response.status not in (400, 401, 403):
        return refused(NO_TOKEN, response, sent, later=PERSISTS)
    is_policy = error == "invalid_grant" and not POLICY.isdisjoint(
        str(found.get(name)) for name in ("suberror", "error_subtype")
    )
    if is_policy or error in INTERACTION:
        why = f"the provider wants you to log in again: {_said(found, sent)}"
        return InteractionRequiredError(NO_TOKEN, why=why, next_step=LOGIN, claims=_claims(found))
    if error == "invalid_grant":
        return _ended(error, _description(found, sent))
    return refused(NO_TOKEN, response, sent, later=PERSISTS)


def _ended(reason: str, description: str = "") -> LoginRequiredError:
    why = f"the stored session has ended ({reason}){description}"
    return LoginRequiredError(NO_TOKEN, why=why, next_step=LOGIN)


def _claims(found: JsonObject) -> str:
    """Return what the next login must ask for, as Microsoft's step-up says it: JSON in a string."""
    claims = found.get("claims")
    is_usable = isinstance(claims, str) and len(claims) <= MAX_CLAIMS and claims.isprintable()
    return str(claims) if is_usable else ""


def revoke(metadata: Metadata, client_id: str, token: Secret, http: Provider) -> str:
    """Revoke a refresh token, and with it the session; return why that was not possible, "" when it was.

    Best effort: whatever happens here, the caller deletes its copy.

    Source: RFC 7009.
    """
    try:
        url = metadata.revocation_endpoint or _other_endpoint(metadata.issuer, http)
        if not url:
            return NO_REVOCATION
        fields: dict[str, str | Secret] = {
            "token": token,
            "token_type_hint": "refresh_token",
            "client_id": client_id,
            **http.authentication(),
        }
        response = http.post_form(url, fields, is_basic=metadata.is_basic)
    except ThvLlmError as error:
        return error.why or error.what
    if response.status == 200:
        return ""
    error_code = (response.json or {}).get("error")
    says = f" {shown(_without_secrets(error_code, fields))}" if isinstance(error_code, str) else ""
    return f"{response.host} returned HTTP {response.status}{says}"


def _other_endpoint(issuer: str, http: Provider) -> str:
    """Return the endpoint that only the OAuth metadata names; "" when that has none, either."""
    try:
        document = http.get_json(discovery.oauth_metadata_url(issuer))
        return discovery.parse(document, issuer).revocation_endpoint
    except InvalidResponseError:  # there is no such document
        return ""


def refused(
    what: str, response: Response, sent: Mapping[str, str | Secret], *, later: str = "try again later"
) -> ThvLlmError:
    """Return the error for a response that is no success.

    Args:
        sent: the form that was sent; its secrets are kept out of the text.
        later: the next step when only time can help.
    """
    found = response.json or {}
    error = found.get("error")
    if not isinstance(error, str):
        why, next_step = describe(response)
        return UnreachableError(
            what, why=why, next_step=next_step or later, retry_after_s=_retry_after(response)
        )
    why = f"the provider says {_said(found, sent)}"
    if not 400 <= response.status < 500 or response.status in (408, 429) or error in PASSING:
        return UnreachableError(what, why=why, next_step=later, retry_after_s=_retry_after(response))
    next_step = remedy(error, str(found.get("error_description")))
    if error == "invalid_client" and "client_secret" in sent:
        next_step = WRONG_SECRET
    return RefusedError(what, why=why, next_step=next_step)


def remedy(error: str, description: str) -> str:
    """Return what helps when the provider says this, at the token endpoint or in a redirect."""
    if "client_secret" in description:  # Google, of desktop apps, too
        return WANTS_SECRET
    if "offline tokens not allowed" in description.lower():  # Keycloak, whatever the error's name
        return SETTINGS["invalid_scope"]
    return SETTINGS.get(error, LOGIN)


def _said(found: JsonObject, sent: Mapping[str, str | Secret]) -> str:
    return shown(_without_secrets(str(found["error"]), sent)) + _description(found, sent)


def _description(found: JsonObject, sent: Mapping[str, str | Secret]) -> str:
    from thv_llm import providers  # which a refresh that works need not load

    text = found.get("error_description")
    text = text if isinstance(text, str) else ""
    codes = (str(found.get(name, "")) for name in ("error", "suberror", "error_subtype"))
    meaning = providers.meaning(" ".join((*codes, text)))
    said = f": {shown(_without_secrets(text, sent), 200)}" if text else ""
    return f"{said} ({meaning})" if meaning else said


def _without_secrets(text: str, sent: Mapping[str, str | Secret]) -> str:
    secrets = [value.reveal() for value in sent.values() if isinstance(value, Secret) and value]
    for secret in secrets:
        text = text.replace(secret, "***")
    words = text.split(" ")
    # A word that is a piece of a secret: eight characters in a row are no coincidence.
    return " ".join(
        "***" if any(word[i : i + 8] in secret for secret in secrets for i in range(len(word) - 7)) else word
        for word in words
    )


def _retry_after(response: Response) -> float | None:
    """Return what `Retry-After` asks for, in seconds. Source: RFC 9110 section 10.2.3."""
    from email.utils import parsedate_to_datetime

    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_S)
    try:  # a date: counted from the provider's own clock, which can differ from ours
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(response.headers["date"])
        return min(max(0.0, wait.total_seconds()), MAX_RETRY_AFTER_S)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def tokens(response: Response, *, now: float) -> Tokens:
    """Return the tokens of a 200 response.

    Raises:
        InvalidResponseError: the response breaks RFC 6749 section 5.1; names what is wrong.
    """
    if response.json is None:
        why, next_step = describe(response)
        raise InvalidResponseError(NO_TOKEN, why=why, next_step=next_step)
    kind = response.json.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _odd(f"token_type is {shown(kind)}, not Bearer")
    access = _token(response.json, "access_token", low="!")
    if access is None:
        raise _odd("there is no access_token")
    return Tokens(
        access=access,
        expires_at=_expires_at(response.json.get("expires_in"), access, now),
        refresh=_token(response.json, "refresh_token", low=" "),
        id_token=_token(response.json, "id_token", low="!"),
        session_ends_at=_session_ends_at(response.json, now),
    )


def _token(body: JsonObject, name: str, *, low: str) -> Secret | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _odd(f"{name} is not a string")
    if not value:
        if name == "access_token":
            raise _odd("access_token is empty")
        return None
    if not all(low <= character <= "~" for character in value):
        raise _odd(f"{name} holds characters that no token has")
    return Secret(value)


def _odd(why: str) -> InvalidResponseError:
    return InvalidResponseError(
        NO_TOKEN,
        why=f"the provider's token response is broken: {why}",
        next_step="contact your administrator",
    )


def _expires_at(expires_in: object, access: Secret, now: float) -> float:
    """Return when the access token ends: by `expires_in`, else by its own `exp`, else soon."""
    lifetime_s = _lifetime(expires_in)
    if lifetime_s is not None:
        return now + min(lifetime_s, MAX_LIFETIME_S)
    from thv_llm.oidc import id_token  # a cold `token` seldom needs it

    said = id_token.expiry_of(access)
    return min(said, now + MAX_LIFETIME_S) if said is not None and said > now else now + ASSUMED_LIFETIME_S


def _session_ends_at(body: JsonObject, now: float) -> float | None:
    """Return when the refresh token ends: no standard, but Keycloak's and Google's or Microsoft's word."""
    value = body.get("refresh_expires_in", body.get("refresh_token_expires_in"))
    if value == 0 and value is not False:  # Keycloak's offline sessions
        return math.inf
    lifetime_s = _lifetime(value, MAX_SESSION_S)
    return None if lifetime_s is None else now + lifetime_s


def _lifetime(value: object, longest_s: float = MAX_LIFETIME_S) -> float | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():  # seen at Microsoft
        value = int(value[:12])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        return None
    return float(min(value, longest_s))
