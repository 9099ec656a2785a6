"""Checks over the network: the provider and its clock against ours, session and token, the gateway.

The gateway accepts the token only where it said so: a 2xx response to a request with the token.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from thv_llm import system, tokens
from thv_llm.checks.model import LOGIN, SETUP, Check, Installation, fail, failed, ok, warn
from thv_llm.errors import InvalidResponseError, ThvLlmError, shown
from thv_llm.gateway import PROTOCOLS, Presence, models_path, presence, probe, send, sign_in_host
from thv_llm.net.failures import ASK_IN_FRONT, IN_FRONT
from thv_llm.net.http_client import Response
from thv_llm.oidc import discovery, id_token
from thv_llm.oidc import published as oidc_published
from thv_llm.oidc.http import Provider
from thv_llm.secret import Secret
from thv_llm.settings import ROWS, OidcSettings
from thv_llm.tokens.failure import FailureMemory
from thv_llm.tools.engine import TOOLS
from thv_llm.tools.values import used
from thv_llm.validation import SettingValue, gateway_root

LONG_TOKEN = 6144
"""Bytes that still fit into a header line of 8 KiB, the default of nginx and Kong."""
SHORT_LIFE_S = 300.0
"""Tools ask the helper every five minutes; a token of less life dies in their hands."""
ASK_ADMINISTRATOR = "contact the administrator of the gateway"
ASK_AUDIENCE = "ask the administrator of the gateway which audience and kind of token it expects; then: "
ASK_URL = "ask the administrator of the gateway for its URL; then: thv-llm setup --gateway-url URL"
DAY_S = 86400.0
RETRY = "try again later; if the problem persists, contact the administrator of the gateway"


def provider(here: Installation) -> Iterator[Check]:
    """The provider's metadata can be fetched, names the configured issuer, and its clock is ours."""
    issuer = here.settings.oidc.issuer
    if here.settings.oidc.grant == "token-file":  # its tokens come from elsewhere
        return
    here.progress(f"Asking {issuer} …")
    http = Provider(here.settings.ca_file, here.network)
    response = http.get(issuer.rstrip("/") + discovery.WELL_KNOWN)  # unreachable, TLS: its error says so
    discovery.discover(issuer, http, cache_path=here.where.discovery_cache, now=here.now(), fresh=True)
    yield ok("provider", f"{issuer} reachable, issuer matches")
    yield from _clock(here, response.headers.get("date", ""))


def _clock(here: Installation, date: str) -> Iterator[Check]:
    """Compare the clocks: beyond the leeway of the login, ID tokens are rejected."""
    try:
        skew_s = here.now() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    remedy, by = system.setting_the_clock(here.platform), f"{abs(skew_s):.0f} s"
    if abs(skew_s) > 2 * DAY_S:
        by = f"{abs(skew_s) / DAY_S:.0f} days"
    reason = f"this clock is {by} {'ahead of' if skew_s > 0 else 'behind'} the provider's"
    if abs(skew_s) >= id_token.LEEWAY_S:
        yield fail("clock", f"{reason}: logins fail", remedy)
    elif abs(skew_s) >= id_token.LEEWAY_S / 2:
        yield warn("clock", reason, remedy)
    else:
        yield ok("clock", "agrees with the provider's")


def session(here: Installation) -> Iterator[Check]:
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
        yield warn("session", f"{who}ends in {left}; log in again before that", (*LOGIN, "--force"))
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
    claims = id_token.unchecked_claims(found.value)
    kind = f"for {_audience(claims)}" if claims else "opaque"
    if here.settings.oidc.grant == "token-file":  # read at each use, and renewed by what writes it
        lasts = f"expires in {left:.0f} s" if id_token.expiry_of(found.value) else "expiry unknown"
        yield ok("token", f"{lasts}, {kind}; its file is read at each use")
    elif left < SHORT_LIFE_S:
        reason = f"expires in {left:.0f} s; tools request one every {SHORT_LIFE_S:.0f} s"
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
        reason = f"it is for {_audience(claims)}, the settings request {shown(wanted)}"
        yield warn("token", reason, "ask the administrator of the provider to issue tokens for that audience")


def _source(here: Installation) -> tokens.TokenSource:
    return tokens.open(here.settings, here.where, here.environ, now=here.now)


def _can_try(here: Installation) -> bool:
    """Tell whether there is a session; `session` has said so if there is none."""
    try:
        return _source(here).has_session() or bool(here.adopted_until)
    except ThvLlmError:
        return False


def _audiences(claims: dict[str, object]) -> list[str]:
    found = claims.get("aud", [])
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]


def _audience(claims: dict[str, object]) -> str:
    return ", ".join(shown(one) for one in _audiences(claims)) or "no audience"


def published(here: Installation) -> Iterator[Check]:
    """What setup took from the gateway is what it still publishes; nothing follows a change by itself."""
    known, wanted = here.state.published, here.settings
    if not known.keys or known.gateway_url != wanted.gateway_url:
        return
    here.progress(f"Asking {wanted.gateway_url} how to log in …")
    remedy = ("thv-llm", "setup", wanted.gateway_url)
    try:
        found, _ = oidc_published.find(wanted.gateway_url, wanted.ca_file, here.network)
    except InvalidResponseError as error:
        yield warn("published", f"{error.what}: {error.why}", ASK_ADMINISTRATOR)
        return
    if found is None:
        reason = f"{wanted.gateway_url} no longer publishes how to log in"
        yield warn("published", f"{reason}; what it published at setup stays in use", ASK_ADMINISTRATOR)
        return
    issuer = wanted.oidc.issuer if wanted.oidc.issuer in found.issuers else found.issuers[0]
    http = Provider(wanted.ca_file, here.network)
    metadata = discovery.discover(issuer, http, cache_path="", now=here.now())
    values = oidc_published.proposed(found, issuer, metadata)
    differences = []
    for row in ROWS:
        now, saved = values.get(row.key, row.default), wanted.get(row)
        if now != saved and (row.key in known.keys or (row.key in values and saved == row.default)):
            differences.append(f"{row.key} {shown(_words(now), 200)} (here: {shown(_words(saved), 200)})")
    if differences:
        reason = f"{found.url} has changed since setup: {'; '.join(differences)}"
        yield warn("published", f"{reason}; if that is right, take it over", remedy)
    else:
        yield ok("published", f"{found.url} agrees with the settings")


def _words(value: SettingValue | None) -> SettingValue | None:
    return " ".join(value) if isinstance(value, tuple) else value


def gateway(here: Installation) -> Iterator[Check]:
    """The gateway rejects requests without a token, and accepts ours."""
    url = here.settings.gateway_url
    here.progress(f"Asking {url} …")
    bare = _asked(here, None)
    without = bare.status
    is_open = 200 <= without < 300 and not sign_in_host(bare)
    if is_open:
        reason = f"{url} accepts a request without a token (HTTP {without}); HTTP 401 was expected"
        yield warn("gateway", reason, ASK_URL)
    try:
        token = here.token.value
    except ThvLlmError:
        if not is_open:
            yield _untested(url, bare)
        return
    found, note = _asked(here, token), ""
    if found.status in (401, 403) and here.is_served:  # what the service holds can have been revoked
        note = f"; the one before was rejected (HTTP {found.status})"
        try:
            token = here.newer_token().value
        except ThvLlmError as error:
            yield failed(f"gateway rejects the token (HTTP {found.status})", error)
            return
        found = _asked(here, token)
    is_accepted = 200 <= found.status < 300 and not sign_in_host(found)
    leads_elsewhere = found.status in (401, 403) or 300 <= found.status < 400 or sign_in_host(found)
    missing, is_any_there = ([], True) if leads_elsewhere else _missing_routes(here, token)
    if not is_accepted:
        asked = gateway_root(url) + models_path(here.settings)
        yield _not_accepted(asked, found, without, here.settings.oidc, is_gateway=is_any_there)
    elif not is_open:
        rest = f"rejects requests without one (HTTP {without})"
        yield ok("gateway", f"{url} accepts the token (HTTP {found.status}{note}), {rest}")
    if is_accepted or is_any_there:  # else the URL is what is wrong
        yield from missing


def _missing_routes(here: Installation, token: Secret) -> tuple[list[Check], bool]:
    """Ask every URL that was written into a tool's file: which lead nowhere, and whether any is right."""
    wired = {tool.tool for tool in here.state.wired}
    missing, there = [], 0
    for protocol in PROTOCOLS:
        users = [tool.title for tool in TOOLS if tool.id in wired and used(tool) & protocol.values]
        if not users:
            continue
        prefix = protocol.prefix_in(here.settings)
        found = probe(here.settings, here.network, protocol, prefix, token)
        if presence(found) is Presence.ABSENT:
            url = gateway_root(here.settings.gateway_url) + prefix + protocol.path
            reason = f"HTTP {found.status} from {url}: no {protocol.title} API there for {', '.join(users)}"
            missing.append(fail("gateway", reason, SETUP))
        else:
            there += 1
    return missing, bool(there or not missing)


def _untested(url: str, bare: Response) -> Check:
    """Return what a request without a token alone tells."""
    without = bare.status
    if host := sign_in_host(bare):
        return _in_front(url, host)
    if without in (401, 403):
        return ok("gateway", f"{url} reachable (HTTP {without}); not tested with a token")
    if without >= 500:
        return fail("gateway", f"HTTP {without} from {url}", RETRY)
    reason = f"HTTP {without} from {url} to a request without a token; HTTP 401 was expected"
    return warn("gateway", reason, ASK_URL)


def _in_front(url: str, host: str) -> Check:
    return fail("gateway", f"{IN_FRONT}: {url} leads to the login page of {shown(host)}", ASK_IN_FRONT)


def _other_audience(oidc: OidcSettings) -> str:
    """Return what can make the gateway accept a token that it rejects."""
    if oidc.grant == "token-file":
        return f"{ASK_AUDIENCE}have such a one written to {oidc.token_file}"
    other = "access_token" if oidc.gateway_token == "id_token" else "id_token"
    kind = f", or --gateway-token {other}" if oidc.grant == "user" else ""
    return f"{ASK_AUDIENCE}thv-llm setup --audience NAME{kind}"


def _not_accepted(url: str, found: Response, without: int, oidc: OidcSettings, *, is_gateway: bool) -> Check:
    """Return what a response that is no success to a request with a new token means.

    Args:
        is_gateway: an API of a tool was found there, or none was looked for.
    """
    status = found.status
    if host := sign_in_host(found):
        return _in_front(url, host)
    seen = f"HTTP {status} from {url} with a new access token"
    if status == 401:
        return fail("gateway", f"{seen}; it is perhaps meant for another audience", _other_audience(oidc))
    if status == 403:
        return fail("gateway", f"{seen}: access denied", "ask the administrator of the gateway for access")
    if status in (404, 405, 410, 501):
        reason = f"{seen}: it lists no models there"
        if not is_gateway:
            return fail("gateway", f"{reason}, nor has it an API of the configured tools", ASK_URL)
        if without in (401, 403):
            return warn("gateway", f"{reason}; without a token HTTP {without}", ASK_URL)
        return fail("gateway", reason, ASK_URL)
    if 300 <= status < 400:
        return fail("gateway", f"{seen}: it redirects, which is never followed", ASK_URL)
    if status in (408, 425, 429):
        return warn("gateway", f"{seen}: not now", RETRY)
    return fail("gateway", seen, RETRY if status >= 500 else ASK_ADMINISTRATOR)


def _asked(here: Installation, token: Secret | None) -> Response:
    """Return the response to a request for the models; unreachable: the error says so."""
    return send(here.settings, here.network, models_path(here.settings), token=token)
