"""Signing a person in, for `setup`, `login` and `token --login`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thv_llm.commands import signing_out
from thv_llm.errors import LoginRequiredError, shown

if TYPE_CHECKING:
    from thv_llm.oidc.interaction import Interaction
    from thv_llm.oidc.login import Flow, LoginResult
    from thv_llm.settings import Settings
    from thv_llm.tokens import TokenSource
    from thv_llm.world import World


def add_flow(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose how to sign in."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--skip-browser", action="store_true", help="print the login URL, open no browser")
    group.add_argument("--device-code", action="store_true", help="show a code to type on another device")


def flow(args: argparse.Namespace) -> Flow:
    """Return the flow that the options name."""
    if args.device_code:
        return "device"
    return "manual" if args.skip_browser else "browser"


def sign_in(
    world: World, wanted: Settings, *, flow: Flow = "browser", force: bool = False, prompt: str | None = None
) -> None:
    """Sign in, unless the session is good; say so either way.

    Args:
        force: sign in even then.
        prompt: OIDC `prompt` for this one login.
    """
    from thv_llm import state, tokens
    from thv_llm.oidc import login_once
    from thv_llm.oidc.interaction import Interaction, terminal_lines

    source = tokens.open(wanted, world.paths, world.environ, now=world.now, interactive=True)
    if not force and _is_good(source):
        world.say("Already signed in.")
        return
    began = world.now()

    def other_login_worked() -> bool:
        """Tell whether there is a session that was not there at the start."""
        logged_in_at = state.load(world.paths.state).session.logged_in_at
        return logged_in_at is not None and logged_in_at >= began and _is_good(source)

    result = login_once.once(
        world.paths.lock("login"),
        lambda interaction: _login(world, wanted, source, interaction, flow, prompt or ""),
        interaction=Interaction(
            world.say, world.open_browser, terminal_lines(world.stdin), sleep=world.sleep
        ),
        already=other_login_worked,
    )
    if result:
        signing_out.make_service_forget(world)  # it may still serve the person before
        world.say(f"Signed in{f' as {shown(result.who)}' if result.who else ''}; {source.describe()}.")


def _login(
    world: World, wanted: Settings, source: TokenSource, interaction: Interaction, flow: Flow, prompt: str
) -> LoginResult:
    from thv_llm.oidc import discovery
    from thv_llm.oidc.http import Provider
    from thv_llm.oidc.login import login

    world.progress(f"Asking {wanted.oidc.issuer} how to sign in …")
    http = Provider(wanted.ca_file, world.environ)
    return login(
        wanted.oidc,
        http,
        metadata=discovery.discover(
            wanted.oidc.issuer, http, cache_path=world.paths.discovery_cache, now=world.now(), fresh=True
        ),
        interaction=interaction,
        now=world.now,
        gateway_name=urlsplit(wanted.gateway_url).netloc,
        flow=flow,
        prompt=prompt,
        keep=source.adopt,
    )


def _is_good(source: TokenSource) -> bool:
    try:
        source.get()
    except LoginRequiredError:
        return False
    return True
