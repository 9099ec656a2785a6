"""Checks over the network: provider, its clock against ours, gateway."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from thv_llm.checks.model import Check, Ground, fail, ok, warn
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.gateway import status_with
from thv_llm.oidc import discovery
from thv_llm.oidc.http import Provider
from thv_llm.oidc.tls_trouble import OWN_AUTHORITY
from thv_llm.secret import Secret

MAX_SKEW_S = 60.0
"""Providers allow little when they check times in tokens; RFC 7519 speaks of a few minutes."""
FATAL_SKEW_S = 300.0
CHECK_ADDRESS = "check the network, and gateway_url in: thv-llm config show"


def provider(ground: Ground) -> Iterator[Check]:
    """The provider's metadata can be fetched, names the configured issuer, and its clock is ours."""
    issuer = ground.settings.oidc.issuer
    ground.progress(f"Asking {issuer} …")
    http = Provider(ground.settings.ca_file, ground.environ)
    reply = http.get(issuer.rstrip("/") + discovery.WELL_KNOWN)  # unreachable, TLS: its error says so
    discovery.discover(issuer, http, cache_path=ground.where.discovery_cache, now=ground.now(), fresh=True)
    yield ok("provider", f"{issuer} answers and names itself so")
    yield from _clock(ground, reply.headers.get("date", ""))


def _clock(ground: Ground, date: str) -> Iterator[Check]:
    try:
        skew = ground.now() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    remedy = (
        "sudo sntp -sS time.apple.com" if ground.platform == "darwin" else "sudo timedatectl set-ntp true"
    )
    reason = f"this clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the provider's"
    if abs(skew) > FATAL_SKEW_S:
        yield fail("clock", reason, remedy)
    elif abs(skew) > MAX_SKEW_S:
        yield warn("clock", reason, remedy)
    else:
        yield ok("clock", "agrees with the provider's")


def gateway(ground: Ground) -> Iterator[Check]:
    """The gateway refuses who has no token, and takes ours."""
    url = ground.settings.gateway_url
    ground.progress(f"Asking {url} …")
    bare = _status(ground, None)
    if bare not in (401, 403):
        reason = f"{url} answers {bare} to a request without a token; 401 was expected"
        yield warn("gateway", reason, "thv-llm config show, and check gateway_url")
    try:
        token = ground.token.value
    except ThvLlmError:
        yield ok("gateway", f"{url} answers; not tried with a token")
        return
    status = _status(ground, token)
    if status in (401, 403):
        reason = f"{url} refuses our token ({status}); it may be meant for another audience"
        yield fail("gateway", reason, "thv-llm config set --audience NAME, then thv-llm login --force")
    elif status >= 500:
        yield fail("gateway", f"{url} answers {status}", "try again later; tell the people who run it")
    elif bare in (401, 403):
        yield ok("gateway", f"{url} takes our token and refuses others")


def _status(ground: Ground, token: Secret | None) -> int:
    """Ask the gateway for its models and return the status.

    Raises:
        UnreachableError: there is no usable answer.
    """
    try:
        return status_with(ground.settings, ground.environ, token)
    except UnreachableError as error:
        what = f"no answer from {ground.settings.gateway_url}"
        next_step = OWN_AUTHORITY if "certificate" in error.why else CHECK_ADDRESS
        raise UnreachableError(what, why=error.why, next_step=next_step) from None
