"""Checks of the session: where it is kept, whether it can be read, and whether it gives tokens."""

from __future__ import annotations

from collections.abc import Iterator

from thv_llm import tokens
from thv_llm.checks.model import LOGIN, Check, Installation, fail, ok, warn
from thv_llm.errors import ThvLlmError, shown
from thv_llm.oidc.id_token import unchecked_claims
from thv_llm.tokens.failure import FailureMemory

LOGIN_AGAIN = (*LOGIN, "--force")
LONG_TOKEN = 6144
"""Bytes that still fit into a header line of 8 KiB, the default of nginx and Kong."""
SHORT_LIFE_S = 300.0
"""Tools ask the helper every five minutes; a token of less life dies in their hands."""


def stored(here: Installation) -> Iterator[Check]:
    """The session's store is there and opens."""
    facts = here.state.sessions.of(here.settings.session_id)
    source = _source(here)
    if not source.has_session():
        yield _none(here)
        return
    who = f"{facts.who or facts.subject}, " if facts.who or facts.subject else ""
    left_s = facts.ending_s(here.now())
    if left_s is not None:
        left = f"{left_s / 3600:.0f} h" if left_s > 5400 else f"{max(left_s, 0) / 60:.0f} min"
        yield warn("session", f"{who}ends in {left}; log in again before that", LOGIN_AGAIN)
        return
    yield ok("session", f"{who}kept in {source.describe().partition(';')[0]}")


def _none(here: Installation) -> Check:
    if not here.adopted_until:
        why = FailureMemory(here.where.refresh_failure, here.settings.session_id, now=here.now).why_ended()
        return fail("session", f"not logged in{f': {why.why}' if why else ''}", LOGIN)
    left_min = (here.adopted_until - here.now()) / 60
    reason = (
        f"the provider issued no refresh token; the access token in the service expires in {left_min:.0f} min"
    )
    return warn("session", reason, "ask the administrator of the provider to allow offline_access")


def token(here: Installation) -> Iterator[Check]:
    """A token can be had, lives long enough, and is meant for the gateway."""
    if not _can_try(here):
        return
    here.progress("Asking for a token …")
    found = here.token
    left = found.expires_at - here.now()
    claims = unchecked_claims(found.value)
    kind = f"for {_audience(claims)}" if claims else "opaque"
    if left < SHORT_LIFE_S:
        reason = f"expires in {left:.0f} s; tools ask for one every {SHORT_LIFE_S:.0f} s"
        yield warn("token", reason, "ask the administrator of the provider for a longer lifetime")
    else:
        yield ok("token", f"expires in {left / 60:.0f} min, {kind}")
    if (length := len(found.value.reveal())) > LONG_TOKEN:
        reason = f"it has {length} bytes; servers that take 8 KiB for a header line return HTTP 400 or 431"
        yield warn(
            "token", reason, "ask the administrator of the provider to leave claims such as groups out"
        )
    oidc = here.settings.oidc
    wanted = oidc.audience if oidc.gateway_token == "access_token" else oidc.client_id
    if claims and wanted and wanted not in _audiences(claims):
        reason = f"it is for {_audience(claims)}, the settings ask for {shown(wanted)}"
        yield warn("token", reason, "ask the administrator of the provider to issue tokens for that audience")


def _source(here: Installation) -> tokens.TokenSource:
    return tokens.open(here.settings, here.where, here.environ, now=here.now)


def _can_try(here: Installation) -> bool:
    """Tell whether there is a session; `stored` has said so if there is none."""
    try:
        return _source(here).has_session() or bool(here.adopted_until)
    except ThvLlmError:
        return False


def _audiences(claims: dict[str, object]) -> list[str]:
    found = claims.get("aud", [])
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]


def _audience(claims: dict[str, object]) -> str:
    return ", ".join(shown(one) for one in _audiences(claims)) or "no audience"
