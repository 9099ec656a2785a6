"""Ending the session, for `logout`, `teardown --purge-tokens` and `config reset`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from thv_llm import settings
from thv_llm.errors import NotConfiguredError, ThvLlmError, UnreachableError

if TYPE_CHECKING:
    from thv_llm.secret import Secret
    from thv_llm.settings import Settings
    from thv_llm.world import World

AGENT_TIMEOUT_S = 2.0


def sign_out(world: World) -> None:
    """Delete the session, make the service forget it, and revoke it at the provider if that works."""
    saved = settings.load(world.paths.settings)
    try:
        saved.require_configured()
    except NotConfiguredError:
        world.say("There is no session: thv-llm is not configured.")
        return
    from thv_llm import tokens

    source = tokens.open(saved, world.paths, world.environ, now=world.now)
    secret = source.logout()
    make_service_forget(world)
    if secret is None:
        world.say("There was no session.")
        return
    world.say("Deleted the session.")
    _revoke(world, saved, secret)


def make_service_forget(world: World) -> None:
    """Make a running service drop the access token in its memory."""
    from thv_llm.service import answers

    with contextlib.suppress(OSError, ThvLlmError):  # no service runs, or it ends just now
        answers.ask(world.paths.socket, "forget", timeout_s=AGENT_TIMEOUT_S)


def _revoke(world: World, saved: Settings, secret: Secret) -> None:
    from thv_llm.oidc import discovery, revocation
    from thv_llm.oidc.http import Provider

    http = Provider(saved.ca_file, world.environ)
    world.progress(f"Revoking it at {saved.oidc.issuer} …")
    try:
        metadata = discovery.discover(
            saved.oidc.issuer, http, cache_path=world.paths.discovery_cache, now=world.now()
        )
    except UnreachableError as error:
        world.say(f"It could not be revoked at the provider: {error.why or error.what}.")
        return
    if revocation.revoke(metadata, saved.oidc.client_id, secret, http):
        world.say("Revoked it at the provider.")
    else:
        world.say("The provider did not revoke it; it ends there by itself.")
    if metadata.end_session_endpoint:
        world.say(f"To end the provider's own session in your browser: {metadata.end_session_endpoint}")
