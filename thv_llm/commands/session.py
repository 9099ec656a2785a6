"""The session as commands begin and end it: logging a person in, and out.

For `setup`, `login` and `token --login`; for `logout`, `teardown --purge-tokens` and `config reset`.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from thv_llm import settings
from thv_llm.commands import screen
from thv_llm.errors import LoginRequiredError, ThvLlmError, shown

if TYPE_CHECKING:
    from thv_llm.oidc.interaction import Interaction
    from thv_llm.oidc.login import Flow
    from thv_llm.secret import Secret
    from thv_llm.settings import Settings
    from thv_llm.tokens import AccessToken, TokenSource
    from thv_llm.tokens.ending import Ended
    from thv_llm.world import World

AGENT_TIMEOUT_S = 2.0


class Begun(NamedTuple):
    """What a login has brought.

    Attributes:
        is_kept: there is a session that gives more tokens; else this one is all, and `hand_over` tries
            to have it kept.
    """

    token: AccessToken
    is_kept: bool = True


def add_flow(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose how to log in."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--skip-browser", action="store_true", help="print the login URL, open no browser")
    group.add_argument("--device-code", action="store_true", help="show a code to type on another device")


def flow(args: argparse.Namespace) -> Flow:
    """Return the flow that the options name."""
    if args.device_code:
        return "device"
    return "manual" if args.skip_browser else "browser"


def begin(
    world: World, wanted: Settings, *, flow: Flow = "browser", force: bool = False, prompt: str | None = None
) -> Begun:
    """Log in, unless the session is good; say so either way.

    Args:
        force: log in even then.
        prompt: OIDC `prompt` for this one login.
    """
    from thv_llm import sessions, tokens
    from thv_llm.oidc import login_once
    from thv_llm.oidc.interaction import Interaction, terminal_lines

    passphrase = _Passphrase(world)
    source = tokens.open(
        wanted, world.paths, world.environ, now=world.now, interactive=True, ask_passphrase=passphrase.ask
    )
    is_stored = _is_stored(source)  # asked in any case, so that a locked store says so before the login
    found = _tried(world, wanted, passphrase) if is_stored and not force else None
    if found:
        world.say("Already logged in.")
        return found
    sessions.load(world.paths.state)  # what would keep a login from being recorded is said before it
    began = world.now()

    def of_other_login() -> Begun | None:
        """Return a token of a session that was not there at the start."""
        logged_in_at = sessions.load(world.paths.state).latest.logged_in_at
        is_new = logged_in_at is not None and logged_in_at >= began
        return _tried(world, wanted, passphrase) if is_new else None

    return login_once.once(
        world.paths.lock("login"),
        lambda interaction: _login(world, wanted, source, interaction, flow, prompt or ""),
        interaction=Interaction(
            world.say, world.open_browser, terminal_lines(world.stdin), sleep=world.sleep
        ),
        already=of_other_login,
    )


def _is_stored(source: TokenSource) -> bool:
    """Tell whether there is a session that can be read; a person may have to unlock its store."""
    from thv_llm.store.model import DamagedError

    try:
        return source.has_session()
    except DamagedError:  # the new one puts it aside
        return False


def _tried(world: World, wanted: Settings, passphrase: _Passphrase) -> Begun | None:
    """Return a token that the session gave just now; None when it has ended, or there is none."""
    from thv_llm import trial

    world.progress("Trying the session …")
    try:
        return Begun(trial.token(wanted, world.environ, passphrase=passphrase.typed))
    except LoginRequiredError:
        return None


def _login(
    world: World, wanted: Settings, source: TokenSource, interaction: Interaction, flow: Flow, prompt: str
) -> Begun:
    from thv_llm.oidc import discovery
    from thv_llm.oidc.http import Provider
    from thv_llm.oidc.login import login
    from thv_llm.tokens import AccessToken

    world.progress(f"Asking {wanted.oidc.issuer} how to log in …")
    http = Provider(wanted.ca_file, world.environ)
    result = login(
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
    make_service_forget(world)  # it may still serve the person before
    world.say(f"Logged in{f' as {shown(result.who)}' if result.who else ''}.")
    is_kept = result.tokens.refresh is not None
    if is_kept:
        world.say(screen.wrapped(f"The session is in {source.describe()}.", 0))
    return Begun(AccessToken(result.tokens.access, result.tokens.expires_at), is_kept)


def hand_over(world: World, begun: Begun) -> None:
    """Have the service keep a token that is all a login has brought, and say what will become of it."""
    if begun.is_kept:
        return
    from thv_llm.service import answers

    token, expires_at = begun.token.value, begun.token.expires_at
    try:
        line = f"adopt {expires_at:.0f} {token.reveal()}"
        answers.ask(world.paths.socket, line, timeout_s=AGENT_TIMEOUT_S)
    except (OSError, ThvLlmError):
        world.say("Only the background service could keep that token, and it does not run: with the end of")
        world.say("this command nobody is logged in.")
        world.say("  next: thv-llm proxy start --background, then thv-llm login")
    else:
        left = screen.duration(expires_at - world.now())
        world.say(f"The background service keeps it for {left}, if it runs that long; then: thv-llm login")


class _Passphrase:
    """The passphrase of the session file: asked for once, and only where somebody is there to answer."""

    def __init__(self, world: World) -> None:
        self.typed: Secret | None = None
        self._stderr = world.stderr
        self.ask = self._ask if world.stdin.isatty() else None

    def _ask(self) -> Secret:
        if self.typed is None:
            import getpass

            from thv_llm.secret import Secret

            try:
                typed = getpass.getpass("Passphrase of the session file: ", stream=self._stderr)
            except EOFError:  # the input ended, and so must the line of the question
                typed = ""
                self._stderr.write("\n")
            self.typed = Secret(typed)
        return self.typed


def say_left_behind(world: World, before: Settings | None, after: Settings) -> None:
    """Say so when settings change in a way that makes the stored session somebody else's."""
    from thv_llm import sessions
    from thv_llm.tokens.session import session_key

    if before is None or session_key(before.oidc) == session_key(after.oidc):
        return
    if sessions.load(world.paths.state).of(session_key(before.oidc)).store:
        world.say("The stored session belongs to the old values; the new ones need a login of their own.")
        world.say("thv-llm logout ends every session that is stored, whatever it belongs to.")


def end(world: World) -> None:
    """Delete every session, make the service forget, and revoke each at its provider if that works."""
    from thv_llm.tokens import ending

    saved = settings.load(world.paths.settings)
    is_terminal = world.stdin.isatty()
    found = ending.end_all(
        saved, world.paths, world.environ, interactive=is_terminal, ask_passphrase=_Passphrase(world).ask
    )
    has_ended = False
    for ended in found:
        has_ended = True
        make_service_forget(world)
        whose = "" if ended.is_current else f" of {ended.client_id} at {ended.issuer}, from earlier settings"
        world.say(f"Deleted the session{whose}.")
        _revoke(world, saved.ca_file, ended)
    if not has_ended:
        make_service_forget(world)  # it may still have a token of a session that is gone
        is_configured = saved.oidc.issuer and saved.oidc.client_id
        why = "" if is_configured else " (thv-llm is not configured)"
        world.say(f"There was no session{why}.")


def make_service_forget(world: World) -> None:
    """Make a running service drop the access token in its memory."""
    from thv_llm.service import answers

    with contextlib.suppress(OSError, ThvLlmError):  # no service runs, or it ends just now
        answers.ask(world.paths.socket, "forget", timeout_s=AGENT_TIMEOUT_S)


def _revoke(world: World, ca_file: str, ended: Ended) -> None:
    from thv_llm.oidc import discovery, revocation
    from thv_llm.oidc.http import Provider

    http = Provider(ca_file, world.environ)
    world.progress(f"Revoking it at {ended.issuer} …")
    try:
        metadata = discovery.discover(
            ended.issuer, http, cache_path=world.paths.discovery_cache, now=world.now()
        )
    except ThvLlmError as error:
        world.say(f"It could not be revoked at the provider: {error.why or error.what}.")
        return
    if revocation.revoke(metadata, ended.client_id, ended.refresh, http):
        world.say("Revoked it at the provider.")
    else:
        world.say("The provider did not revoke it; it ends there by itself.")
    if metadata.end_session_endpoint:
        world.say(f"To end the provider's own session in your browser: {metadata.end_session_endpoint}")
