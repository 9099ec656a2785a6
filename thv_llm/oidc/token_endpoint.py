"""Codes and refresh tokens in, access tokens out (RFC 6749).

Rule 1: only `invalid_grant` (or a bare 400 or 401) ends a session. Whatever else happens, the
        refresh token may still be good, and the caller keeps it.
Rule 2: a token that is not visible ASCII is refused: it is going to be a header's value.
Rule 3: text of the provider is shown only after every secret that we sent is taken out of it;
        providers echo them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from thv_llm.errors import LoginRequiredError, ThvLlmError, UnreachableError, shown
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.failures import LOGIN_FAILED, UntrustedAnswerError
from thv_llm.oidc.http import Provider, Reply, describe
from thv_llm.oidc.strict_json import JsonObject
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

ASSUMED_LIFETIME_S = 300.0  # when neither `expires_in` nor a JWT says
MAX_LIFETIME_S = 30 * 86400.0  # "huge" values end here: asking again after a month harms nobody
MAX_RETRY_AFTER_S = 3600.0

WHAT = "cannot get an access token"
LOGIN = "thv-llm login"


class Tokens(NamedTuple):
    """What one successful token response holds.

    Attributes:
        expires_at: seconds since the epoch, on this machine's clock.
        refresh: None when the response had none: an older one stays in force.
    """

    access: Secret
    expires_at: float
    refresh: Secret | None = None
    id_token: Secret | None = None


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
        UnreachableError: no usable answer.

    Source: RFC 6749 section 4.1.3; RFC 7636 section 4.5.
    """
    fields: dict[str, str | Secret] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        **oidc.parameters,
        "code_verifier": code_verifier,
    }
    reply = http.post_form(metadata.token_endpoint, fields)
    if reply.status != 200:
        raise refused(LOGIN_FAILED, reply, fields)
    return tokens(reply, now=now)


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

    The provider may rotate the refresh token. If it did, the old one is dead already, so the
    caller must store `Tokens.refresh` before it uses `Tokens.access`.

    Args:
        now: seconds since the epoch when the request starts; `expires_at` counts from it.
        subject: who logged in; an ID token for somebody else is refused. "" checks nobody.

    Raises:
        LoginRequiredError: the provider refused the refresh token for good.
        NoAnswerError: nothing came back; see its `maybe_sent`.
        UnreachableError: anything else; the refresh token may still be good.

    Source: RFC 6749 section 6; rotation: RFC 9700 section 4.14.2.
    """
    fields: dict[str, str | Secret] = {
        "grant_type": "refresh_token",
        "refresh_token": token,
        **oidc.parameters,
    }
    reply = http.post_form(metadata.token_endpoint, fields)
    if reply.status != 200:
        raise _ended(reply) if _has_ended(reply) else refused(WHAT, reply, fields)
    found = tokens(reply, now=now)
    if found.id_token is not None:
        _check_refreshed(found.id_token, metadata.issuer, oidc.client_id, subject)
    return found


def _check_refreshed(token: Secret, issuer: str, client_id: str, subject: str) -> None:
    # Most providers send no ID token here, and a cold `token` should not pay for this import.
    from thv_llm.oidc import id_token

    id_token.check_refreshed(token, issuer=issuer, client_id=client_id, subject=subject)


def _ended(reply: Reply) -> LoginRequiredError:
    reason = "invalid_grant" if reply.json else f"status {reply.status}"
    return LoginRequiredError(WHAT, why=f"the stored session has ended ({reason})", next_step=LOGIN)


def _has_ended(reply: Reply) -> bool:
    """Tell whether the answer to a refresh means that the session is gone.

    RFC 6749 section 5.2 wants 400; Auth0 says 403 and others 401 with the very same JSON. A 400
    or 401 without any body is how some providers refuse a reused token.
    """
    if reply.json is not None:
        return reply.status in (400, 401, 403) and reply.json.get("error") == "invalid_grant"
    return reply.status in (400, 401) and reply.is_empty


def refused(what: str, reply: Reply, sent: Mapping[str, str | Secret]) -> ThvLlmError:
    """Return the error for a reply that is no success.

    Args:
        sent: the form that was sent; its secrets are kept out of the text.
    """
    error = reply.json.get("error") if reply.json else None
    if not isinstance(error, str):
        why, next_step = describe(reply)
        return UnreachableError(what, why=why, next_step=next_step, retry_after_s=_retry_after(reply))
    why = f"the provider says {shown(_without_secrets(error, sent))}"
    description = reply.json.get("error_description") if reply.json else None
    if isinstance(description, str) and description:
        why += f": {shown(_without_secrets(description, sent), 200)}"
    if error in ("interaction_required", "login_required", "consent_required"):
        return UnreachableError(what, why=why, next_step=LOGIN)
    if error in ("invalid_client", "unauthorized_client"):
        return UnreachableError(what, why=why, next_step="check the client id: it must be a public client")
    if error == "invalid_grant" and "refresh_token" not in sent:  # of a code: that login is over
        return ThvLlmError(what, why=why, next_step=LOGIN)
    return UnreachableError(what, why=why, next_step="try again later", retry_after_s=_retry_after(reply))


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


def _retry_after(reply: Reply) -> float | None:
    """Return what `Retry-After` asks for, in seconds. Source: RFC 9110 section 10.2.3."""
    from email.utils import parsedate_to_datetime

    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_S)
    try:  # a date: counted from the provider's own clock, which may differ from ours
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(reply.headers["date"])
        return min(max(0.0, wait.total_seconds()), MAX_RETRY_AFTER_S)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def tokens(reply: Reply, *, now: float) -> Tokens:
    """Return the tokens of a 200 reply.

    Raises:
        UntrustedAnswerError: the reply breaks RFC 6749 section 5.1; names what is wrong.
    """
    if reply.json is None:
        why, next_step = describe(reply)
        raise UntrustedAnswerError(WHAT, why=why, next_step=next_step)
    kind = reply.json.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _odd(f"token_type is {shown(kind)}, not Bearer")
    access = _token(reply.json, "access_token", low="!")
    if access is None:
        raise _odd("there is no access_token")
    return Tokens(
        access=access,
        expires_at=_expires_at(reply.json.get("expires_in"), access, now),
        refresh=_token(reply.json, "refresh_token", low=" "),
        id_token=_token(reply.json, "id_token", low="!"),
    )


def _token(answer: JsonObject, name: str, *, low: str) -> Secret | None:
    value = answer.get(name)
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


def _odd(why: str) -> UntrustedAnswerError:
    return UntrustedAnswerError(
        WHAT, why=f"the provider's token response is broken: {why}", next_step="tell those who run it"
    )


def _expires_at(expires_in: object, access: Secret, now: float) -> float:
    """Return when the access token ends: by `expires_in`, else by its own `exp`, else soon."""
    lifetime_s = _lifetime(expires_in)
    if lifetime_s is not None:
        return now + min(lifetime_s, MAX_LIFETIME_S)
    from thv_llm.oidc import id_token  # a cold `token` seldom needs it

    said = id_token.expiry_of(access)
    return min(said, now + MAX_LIFETIME_S) if said is not None and said > now else now + ASSUMED_LIFETIME_S


def _lifetime(value: object) -> float | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():  # seen at Microsoft
        value = int(value[:12])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(min(value, MAX_LIFETIME_S)) if value > 0 else None
