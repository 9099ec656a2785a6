"""Checks of the session: where it is kept, whether it can be read, and whether it gives tokens."""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator

from thv_llm import tokens
from thv_llm.checks.model import Check, Ground, fail, ok, warn
from thv_llm.errors import ThvLlmError, shown
from thv_llm.secret import Secret
from thv_llm.tokens.session import session_key

SHORT_LIFE_S = 300.0
"""Tools ask the helper every five minutes; a token of less life dies in their hands."""
LOGIN = "thv-llm login"


def stored(ground: Ground) -> Iterator[Check]:
    """The session's store is there and opens."""
    facts = ground.state.sessions.of(session_key(ground.settings.oidc))
    source = _source(ground)
    if not source.has_session():
        yield _none(ground)
        return
    who = f"{facts.who or facts.subject}, " if facts.who or facts.subject else ""
    yield ok("session", f"{who}kept in {source.describe().partition(';')[0]}")


def _none(ground: Ground) -> Check:
    if not ground.adopted_until:
        return fail("session", "there is none", LOGIN)
    left_min = (ground.adopted_until - ground.now()) / 60
    reason = f"the provider gave no refresh token; the service has an access token for {left_min:.0f} min"
    return warn("session", reason, "ask the people who run the provider to allow offline_access")


def token(ground: Ground) -> Iterator[Check]:
    """A token can be had, lives long enough, and is meant for the gateway."""
    if not _can_try(ground):
        return
    ground.progress("Asking for a token …")
    found = ground.token
    left = found.expires_at - ground.now()
    claims = _claims(found.value)
    kind = f"for {_audience(claims)}" if claims else "opaque"
    if left < SHORT_LIFE_S:
        reason = f"it is good for {left:.0f} s only; tools ask for one every {SHORT_LIFE_S:.0f} s"
        yield warn("token", reason, "ask the people who run the provider for a longer life")
    else:
        yield ok("token", f"good for {left / 60:.0f} min, {kind}")
    wanted = ground.settings.oidc.audience
    if claims and wanted and wanted not in _audiences(claims):
        reason = f"it is for {_audience(claims)}, the settings ask for {shown(wanted)}"
        yield warn("token", reason, "thv-llm config set --audience NAME, then thv-llm login --force")


def _source(ground: Ground) -> tokens.TokenSource:
    return tokens.open(ground.settings, ground.where, ground.environ, now=ground.now)


def _can_try(ground: Ground) -> bool:
    """Tell whether there is a session; `stored` has said so if there is none."""
    try:
        return _source(ground).has_session() or bool(ground.adopted_until)
    except ThvLlmError:
        return False


def _claims(token: Secret) -> dict[str, object]:
    """Return the claims of a token that is a JWT, {} of any other. For showing, not for trusting."""
    parts = token.reveal().split(".")
    if len(parts) != 3:
        return {}
    try:
        body = binascii.a2b_base64(parts[1].replace("-", "+").replace("_", "/") + "==")
        claims = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _audiences(claims: dict[str, object]) -> list[str]:
    found = claims.get("aud", [])
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]


def _audience(claims: dict[str, object]) -> str:
    return ", ".join(shown(one) for one in _audiences(claims)) or "no audience"
