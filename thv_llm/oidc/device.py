"""A login with a code that is typed in on another device.

Source: RFC 8628.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from thv_llm.errors import LOGIN_FAILED, InvalidResponseError, NoResponseError, ThvLlmError, shown
from thv_llm.net.http_client import JsonObject, Response
from thv_llm.oidc import token_endpoint
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import Provider, checked_url
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_INTERVAL_S = 5.0  # RFC 8628 section 3.2
SLOW_DOWN_S = 5.0  # section 3.5
MAX_INTERVAL_S = 60.0
MAX_LIFETIME_S = 1800.0
NEXT_STEP = "thv-llm login --device-code"
DENIED = "ask your administrator for access; if it was you who refused: thv-llm login"

_USER_CODE = re.compile(r"[!-~](?:[ -~]{0,38}[!-~])?")


@dataclass(frozen=True)
class Offer:
    """What the user must do, and what the program polls with."""

    device_code: Secret
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    lifetime_s: float
    interval_s: float


def authorize(
    oidc: OidcSettings,
    http: Provider,
    *,
    metadata: Metadata,
    interaction: Interaction,
    now: Callable[[], float],
    opens: bool = False,
) -> Tokens:
    """Show a code, and wait until the user has typed it in elsewhere.

    Args:
        opens: show the page in a browser here, too; the code in it is the one to compare.

    Raises:
        ThvLlmError: refused, or not done in time.
        UnreachableError: the provider has no such flow, or gave no usable response.
    """
    if not metadata.device_authorization_endpoint:
        raise InvalidResponseError(
            LOGIN_FAILED,
            why="the provider names no usable device_authorization_endpoint, so it has no login by code",
            next_step="thv-llm login --skip-browser",
        )
    offer = _ask(oidc, http, metadata)
    page = offer.verification_uri_complete or offer.verification_uri
    interaction.announce(page, offer.user_code, offer.lifetime_s)
    _show(offer, interaction.say)
    if opens and interaction.open_browser(page):
        interaction.say("Your browser has been opened at that page; compare the code that it shows.")
    return _poll(offer, oidc, http, metadata, interaction, now)


def _ask(oidc: OidcSettings, http: Provider, metadata: Metadata) -> Offer:
    fields: dict[str, str | Secret] = {
        **oidc.extra_parameters,
        **oidc.parameters,
        "scope": " ".join(oidc.scopes),
        **http.authentication(),
    }
    response = http.post_form(metadata.device_authorization_endpoint, fields, is_basic=metadata.is_basic)
    if response.status != 200 or response.json is None:
        raise token_endpoint.refused(LOGIN_FAILED, response, fields)
    return _offer(response.json, metadata.issuer)


def _offer(response: JsonObject, issuer: str) -> Offer:
    device_code, user_code = response.get("device_code"), response.get("user_code")
    if not isinstance(device_code, str) or not device_code:
        raise _odd("there is no device_code")
    if not isinstance(user_code, str) or not _USER_CODE.fullmatch(user_code):
        raise _odd(f"user_code is {shown(user_code)}")
    complete = response.get("verification_uri_complete") or ""
    # Google's older name for it is still met.
    uri = response.get("verification_uri", response.get("verification_url"))
    return Offer(
        Secret(device_code),
        user_code,
        checked_url("verification_uri", uri, issuer=issuer),
        checked_url("verification_uri_complete", complete, issuer=issuer) if complete else "",
        _seconds(response, "expires_in", default=MAX_LIFETIME_S, most=MAX_LIFETIME_S),
        _seconds(response, "interval", default=DEFAULT_INTERVAL_S, most=MAX_INTERVAL_S),
    )


def _seconds(response: JsonObject, name: str, *, default: float, most: float) -> float:
    value = response.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return default
    return float(min(value, most))


def _odd(why: str) -> InvalidResponseError:
    return InvalidResponseError(
        LOGIN_FAILED,
        why=f"the provider's device response is broken: {why}",
        next_step="thv-llm login --skip-browser",
    )


def _show(offer: Offer, say: Callable[[str], None]) -> None:
    say("On any device, open this page and enter the code:")
    say(f"\n  {offer.verification_uri}\n")
    width = len(offer.user_code) + 6
    say(f"  ┌{'─' * width}┐\n  │   {offer.user_code}   │\n  └{'─' * width}┘\n")
    if offer.verification_uri_complete:
        say(f"Or open this one, which has the code in it:\n\n  {offer.verification_uri_complete}\n")
    say(f"The code expires in {offer.lifetime_s / 60:.0f} minutes. Waiting …")


def _poll(
    offer: Offer,
    oidc: OidcSettings,
    http: Provider,
    metadata: Metadata,
    interaction: Interaction,
    now: Callable[[], float],
) -> Tokens:
    fields: dict[str, str | Secret] = {
        "grant_type": GRANT_TYPE,
        "device_code": offer.device_code,
        **oidc.parameters,
        **http.authentication(),
    }
    interval_s, waited_s = offer.interval_s, 0.0
    while waited_s + interval_s <= offer.lifetime_s:
        interaction.sleep(interval_s)
        waited_s += interval_s
        try:
            started_at = now()
            response = http.post_form(metadata.token_endpoint, fields, is_basic=metadata.is_basic)
        except NoResponseError:  # section 3.5: go on, at half the pace
            interval_s = min(interval_s * 2, MAX_INTERVAL_S)
            continue
        if response.status == 200:
            return token_endpoint.tokens(response, now=started_at)
        interval_s += _extra_wait(response, fields)
    raise ThvLlmError(LOGIN_FAILED, why="the code was not entered in time", next_step=NEXT_STEP)


def _extra_wait(response: Response, fields: dict[str, str | Secret]) -> float:
    """Return how much slower to poll from now on, or raise when polling is over."""
    error = response.json.get("error") if response.json else None
    if error == "authorization_pending":
        return 0.0
    if error == "slow_down":
        return SLOW_DOWN_S
    if error == "expired_token":
        raise ThvLlmError(
            LOGIN_FAILED, why="the code was not entered in time (expired_token)", next_step=NEXT_STEP
        )
    if error == "access_denied":
        raise ThvLlmError(LOGIN_FAILED, why="the login was refused (access_denied)", next_step=DENIED)
    if error is None and response.status in (429, 500, 502, 503, 504):
        return SLOW_DOWN_S
    raise token_endpoint.refused(LOGIN_FAILED, response, fields)
