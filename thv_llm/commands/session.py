"""`thv-llm login` and `thv-llm logout`: the session as commands begin and end it.

Also for `setup` and `token --login`; for `teardown --purge-tokens` and `config reset`.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from thv_llm import sessions, settings
from thv_llm.commands import connection, screen
from thv_llm.commands.parser import Command, add_format
from thv_llm.errors import ExitCode, LoginRequiredError, ThvLlmError, shown
from thv_llm.secret import Secret
from thv_llm.settings import STORED
from thv_llm.system import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from thv_llm.context import Context
    from thv_llm.oidc.interaction import Interaction
    from thv_llm.oidc.login import Flow, LoginResult
    from thv_llm.providers import IdentityProvider
    from thv_llm.secret import Secret
    from thv_llm.settings import Settings
    from thv_llm.tokens import AccessToken, TokenSource
    from thv_llm.tokens.session import Ended, Stores

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
    for flag, flow, about in (
        ("--skip-browser", "manual", "print the login URL, open no browser"),
        ("--device-code", "device", "show a code to type on another device"),
    ):
        group.add_argument(flag, action="store_const", dest="flow", const=flow, help=about)
    parser.set_defaults(flow="browser")


def begin(
    context: Context,
    wanted: Settings,
    *,
    flow: Flow = "browser",
    force: bool = False,
    prompt: str | None = None,
    before_login: Callable[[], None] = lambda: None,
    is_published: bool = False,
) -> Begun:
    """Log in, unless the session gives a token; say so either way.

    Only the provider itself can tell whether its refusal lasts, so any session that gives no token
    is replaced, whatever the reason.

    Args:
        force: log in even then.
        prompt: OIDC `prompt` for this one login.
        before_login: called when a login is needed; can raise to prevent it.
        is_published: the gateway itself has named settings, so the token must be for it.
    """
    from thv_llm import tokens

    passphrase = _Passphrase(context)
    if wanted.oidc.grant != "user":
        from thv_llm.service import cold_token

        begun = Begun(cold_token.try_session(wanted, context.environ))
        _note_session(context, begun, "", is_new=False)
        context.say(f"No login needed: got an access token (oidc.grant = {wanted.oidc.grant}).")
        return begun
    source = tokens.open(
        wanted,
        context.paths,
        context.environ,
        now=context.now,
        interactive=True,
        ask_passphrase=passphrase.ask,
    )
    is_stored = _is_stored(source)  # asked in any case, so that a locked store says so before the login
    found = _tried(context, wanted, passphrase) if is_stored and not force else None
    if found:
        who = sessions.load(context.paths.state).of(wanted.session_id).who
        context.say(f"Already logged in{f' as {shown(who)}' if who else ''}.")
        _note_session(context, found, who, is_new=False)
        return found
    before_login()
    sessions.load(context.paths.state)  # what would keep a login from being recorded is said before it
    began = context.now()
    is_published = is_published or connection.is_published(context, wanted)

    from thv_llm.oidc.interaction import Interaction
    from thv_llm.oidc.login import one_at_a_time

    def keep(result: LoginResult) -> None:
        if is_published:
            connection.check_audience(wanted, result.tokens.access)
        source.adopt(result)

    def of_other_login() -> Begun | None:
        """Return a token of a session that was not there at the start."""
        logged_in_at = sessions.load(context.paths.state).latest.logged_in_at
        is_new = logged_in_at is not None and logged_in_at >= began
        return _tried(context, wanted, passphrase) if is_new else None

    def announce(url: str, code: str = "", lifetime_s: float = 0.0) -> None:
        of_code = {"user_code": code, "expires_in": int(lifetime_s)} if code else {}
        context.event("login", url=url, **of_code)

    return one_at_a_time(
        context.paths.lock("login"),
        lambda interaction: _login(
            context, wanted, source, interaction, flow, prompt or "", passphrase, keep
        ),
        interaction=Interaction(
            context.say,
            context.open_browser,
            terminal.lines(context.stdin),
            announce=announce,
            sleep=context.sleep,
        ),
        already=of_other_login,
    )


def stored(context: Context, wanted: Settings) -> Begun | None:
    """Return a token of the session that is stored, without a user; None when there is none to be had."""
    from thv_llm import tokens

    try:
        source = tokens.open(wanted, context.paths, context.environ, now=context.now)
        return _tried(context, wanted, _Passphrase(context)) if source.has_session() else None
    except ThvLlmError:
        return None


def _is_stored(source: TokenSource) -> bool:
    """Tell whether there is a session that can be read; perhaps the user must unlock its store."""
    from thv_llm.store import DamagedError

    try:
        return source.has_session()
    except DamagedError:  # the new one puts it aside
        return False


def _tried(context: Context, wanted: Settings, passphrase: _Passphrase) -> Begun | None:
    """Return a token that the session gave just now; None when it gives none."""
    from thv_llm import tokens
    from thv_llm.service import cold_token

    context.progress("Trying the session …")
    try:
        found = Begun(cold_token.try_session(wanted, context.environ, passphrase=passphrase.typed))
        tokens.note_found(wanted, context.paths, context.environ)
        return found
    except LoginRequiredError:
        return None
    except ThvLlmError as error:
        context.say(f"The stored session gives no access token: {error.cause}.")
        return None


def _login(
    context: Context,
    wanted: Settings,
    source: TokenSource,
    interaction: Interaction,
    flow: Flow,
    prompt: str,
    passphrase: _Passphrase,
    keep: Callable[[LoginResult], None],
) -> Begun:
    from thv_llm.oidc import discovery
    from thv_llm.oidc.http import Provider
    from thv_llm.oidc.login import discard, login
    from thv_llm.tokens import AccessToken

    context.progress(f"Asking {wanted.oidc.issuer} how to log in …")
    http = Provider(
        wanted.ca_file, context.environ, client_secret=_stores(context, wanted, passphrase).client_secret
    )
    metadata = discovery.discover(
        wanted.oidc.issuer, http, cache_path=context.paths.discovery_cache, now=context.now(), fresh=True
    )
    before = source.stored()
    result = login(
        wanted.oidc,
        http,
        metadata=metadata,
        interaction=interaction,
        now=context.now,
        gateway_name=urlsplit(wanted.gateway_url).netloc,
        flow=flow,
        prompt=prompt,
        claims=source.claims(),
        keep=keep,
    )
    make_service_forget(context)  # it can still serve the user before
    if before != result.tokens.refresh:
        discard(metadata, wanted.oidc, http, before)
    context.say(f"Logged in{f' as {shown(result.who)}' if result.who else ''}.")
    is_kept = result.tokens.refresh is not None
    if is_kept:
        context.say(screen.wrapped(f"The session is in {source.describe()}.", 0))
    begun = Begun(AccessToken(result.tokens.access, result.tokens.expires_at), is_kept)
    _note_session(context, begun, result.who, is_new=True)
    return begun


def _note_session(context: Context, begun: Begun, who: str, *, is_new: bool) -> None:
    """Put the session into the result of `--format json`."""
    expires_at = int(begun.token.expires_at)
    context.facts["session"] = {"who": who or None, "is_new": is_new, "token_expires_at": expires_at}


def provider(context: Context, wanted: Settings) -> IdentityProvider | None:
    """Return which provider this is by its metadata; None for an unknown one, or one that says nothing."""
    from thv_llm import providers
    from thv_llm.oidc import discovery
    from thv_llm.oidc.http import Provider

    http = Provider(wanted.ca_file, context.environ)
    try:
        metadata = discovery.discover(
            wanted.oidc.issuer, http, cache_path=context.paths.discovery_cache, now=context.now()
        )
    except ThvLlmError:  # the login will say why
        return None
    return providers.described(metadata._asdict())


def _stores(context: Context, wanted: Settings, passphrase: _Passphrase | None = None) -> Stores:
    from thv_llm.tokens.session import Stores

    ask = (passphrase or _Passphrase(context)).ask
    return Stores(wanted, context.paths, context.environ, terminal.is_one(context.stdin), ask)


def keep_secrets(
    context: Context, wanted: Settings, changes: dict[str, object], before: Settings | None
) -> None:
    """Move the secrets that flags name as files into the store; a workload's own stays in its file.

    Args:
        before: the saved settings; headers for another gateway are deleted.

    Raises:
        ThvLlmError: a file or the store cannot be used.
    """
    from thv_llm.tokens import grants

    store = _stores(context, wanted).current
    moved: list[tuple[str, str, Secret, str]] = []
    path = changes.get("oidc.client_secret")
    if path not in (None, "", STORED) and wanted.oidc.grant == "user":
        secret = grants.secret_in(str(path), "oidc.client_secret")
        moved.append(("oidc.client_secret", grants.secret_entry(wanted.oidc), secret, "The client secret is"))
    path = changes.get("gateway.header_file")
    if path not in (None, "", STORED):
        headers = grants.headers_in(str(path))
        moved.append(("gateway.header_file", grants.headers_entry(wanted), headers, "The headers are"))
    if before and before.gateway_header_file == STORED and "gateway.header_file" in changes:
        _stores(context, before).current().delete(grants.headers_entry(before))
    for key, entry, secret, what in moved:
        place = store()
        place.save(entry, secret)
        context.say(f"{what} in {place.describe().partition(';')[0]}; {changes[key]} can be deleted.")
        changes[key] = STORED
    if moved:
        make_service_forget(context)


def forget_secrets(context: Context, saved: Settings) -> None:
    """Delete from the store what `keep_secrets` has put there."""
    from thv_llm.tokens import grants

    store = _stores(context, saved).current
    if saved.oidc.client_secret == STORED:
        store().delete(grants.secret_entry(saved.oidc))
    if saved.gateway_header_file == STORED:
        store().delete(grants.headers_entry(saved))


def hand_over(context: Context, begun: Begun) -> None:
    """Have the service keep a token that is all a login has brought, and say what will become of it."""
    if begun.is_kept:
        return
    from thv_llm.service import agent_protocol

    token, expires_at = begun.token.value, begun.token.expires_at
    try:
        agent_protocol.hand_over(context.paths.socket, token, expires_at, timeout_s=AGENT_TIMEOUT_S)
    except agent_protocol.ForeignAgentError as error:
        context.say(f"thv-llm: warning: {error}")
    except (OSError, ThvLlmError):
        context.say(
            "Only the background service could keep that token, and it is not running: "
            "this session ends with this command."
        )
        context.say("  next: thv-llm proxy start --background, then thv-llm login")
    else:
        left = screen.duration(expires_at - context.now())
        context.say(f"The background service keeps it for {left}, if it runs that long; then: thv-llm login")


class _Passphrase:
    """The passphrase of the session file: asked for once, and only at a terminal."""

    def __init__(self, context: Context) -> None:
        self.typed: Secret | None = None
        self._stderr = context.stderr
        self._settle = context.settle
        self.ask = self._ask if terminal.is_one(context.stdin) else None

    def _ask(self) -> Secret:
        if self.typed is None:
            import getpass

            self._settle()
            try:
                typed = getpass.getpass("Passphrase of the session file: ", stream=self._stderr)
            except EOFError:  # the input ended, and so must the line of the question
                typed = ""
                self._stderr.write("\n")
            self.typed = Secret(typed)
        return self.typed


def say_left_behind(context: Context, before: Settings | None, after: Settings) -> None:
    """Say so when settings change in a way that makes the stored session another user's."""
    if before is None or before.session_id == after.session_id:
        return
    if sessions.load(context.paths.state).of(before.session_id).store:
        context.say("The stored session belongs to the old values; the new ones need a login of their own.")
        context.say("thv-llm logout ends every session that is stored, whatever it belongs to.")


def end(context: Context, saved: Settings) -> None:
    """Delete every session, make the service forget, and revoke each at its provider if that works.

    Args:
        saved: can lack issuer and client id: then there are only the sessions of earlier settings.
    """
    from thv_llm import tokens

    is_terminal = terminal.is_one(context.stdin)
    found = tokens.end_all(
        saved,
        context.paths,
        context.environ,
        interactive=is_terminal,
        ask_passphrase=_Passphrase(context).ask,
    )
    has_ended = False
    context.facts["sessions"] = []
    for ended in found:
        has_ended = True
        make_service_forget(context)
        whose = f"Ended the session of {ended.client_id} at {ended.issuer}, from earlier settings."
        context.say("Logged out." if ended.is_current else whose)
        _revoke(context, saved, ended)
    if not has_ended:
        make_service_forget(context)  # it can still have a token of a session that has ended
        why = " (thv-llm is not configured)" if saved.missing() else ""
        if not why and saved.oidc.grant != "user":
            why = f": a workload's tokens need no login (oidc.grant = {saved.oidc.grant})"
        context.say(f"Not logged in{why}.")


def make_service_forget(context: Context) -> None:
    """Make a running service drop the access token in its memory."""
    from thv_llm.service import agent_protocol

    with contextlib.suppress(OSError, ThvLlmError):  # no service runs, or it ends just now
        agent_protocol.call(context.paths.socket, "forget", timeout_s=AGENT_TIMEOUT_S)


def _revoke(context: Context, saved: Settings, ended: Ended) -> None:
    from thv_llm.oidc import discovery, token_endpoint
    from thv_llm.oidc.http import Provider

    is_ours = ended.client_id == saved.oidc.client_id and ended.issuer == saved.oidc.issuer
    secret = _stores(context, saved).client_secret if is_ours else lambda: None
    http = Provider(saved.ca_file, context.environ, client_secret=secret)
    context.progress(f"Revoking it at {ended.issuer} …")
    try:
        metadata = discovery.discover(
            ended.issuer, http, cache_path=context.paths.discovery_cache, now=context.now()
        )
        why = token_endpoint.revoke(metadata, ended.client_id, ended.refresh, http)
    except ThvLlmError as error:
        why, browser_url = error.why or error.what, ""
    else:
        browser_url = metadata.end_session_endpoint
    revoked = {"revoked": not why, "reason": why or None, "end_session_url": browser_url or None}
    context.note("sessions", issuer=ended.issuer, client_id=ended.client_id, **revoked)
    if why:
        context.say(f"The session was not revoked at the provider: {why}.")
        context.say("Its refresh token is deleted here; there it stays valid until it expires.")
        context.say(
            "  next: end the session in your account at the provider, or have your administrator do so"
        )
    else:
        context.say("The session was revoked at the provider.")
    if browser_url:
        context.say(f"To end the provider's own session in your browser: {browser_url}")


def _add_login(parser: argparse.ArgumentParser) -> None:
    """Declare how to log in."""
    add_flow(parser)
    add_format(parser)
    parser.add_argument("--force", action="store_true", help="log in even if the session works")
    parser.add_argument("--prompt", metavar="VALUE", help="OIDC `prompt` for this login, e.g. select_account")


def _run_login(args: argparse.Namespace, context: Context) -> ExitCode:
    """Log in unless the session is good already."""
    from thv_llm.commands import wiring

    saved = settings.load(context.paths.settings)
    saved.require_configured()
    begun = begin(context, saved, flow=args.flow, force=args.force or bool(args.prompt), prompt=args.prompt)
    wiring.catch_up(context, saved, begun.token.value)  # can restart the service, which would forget it
    hand_over(context, begun)
    return ExitCode.DONE


LOGIN = Command("log in at the provider", _add_login, _run_login)


def _run_logout(_args: argparse.Namespace, context: Context) -> ExitCode:
    """Revoke, delete, and tell the service to forget."""
    end(context, settings.load(context.paths.settings))
    return ExitCode.DONE


LOGOUT = Command("end the session; revokes it at the provider", add_format, _run_logout)
