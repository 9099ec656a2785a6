"""From the gateway's URL to settings: what the gateway publishes, and what only the user can say.

Rule 1: what was found is shown and confirmed once, before anything is saved, opened or registered.
Rule 2: what the user types, and what the administrator of this machine has decided, stands.
Rule 3: `--yes` stands for the user only where no other party decides who gets the tokens: the issuer was
        typed, is allowed by name on this machine, is the gateway itself, or is the one that was saved for
        this gateway.
Rule 4: a run without a URL, with complete settings, sends no request.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thv_llm import policy, settings, state
from thv_llm.commands import parser as flags
from thv_llm.errors import NoResponseError, ThvLlmError, UsageError, shown
from thv_llm.settings import ROWS, Settings
from thv_llm.state import PublishedState

if TYPE_CHECKING:
    from thv_llm.context import Context
    from thv_llm.oidc.discovery import Metadata
    from thv_llm.oidc.published import Published
    from thv_llm.policy import Policy
    from thv_llm.secret import Secret
    from thv_llm.state import State

GATEWAY, ISSUER, CLIENT_ID = "gateway_url", "oidc.issuer", "oidc.client_id"
QUESTIONS = {
    GATEWAY: "URL of the LLM gateway:",
    ISSUER: "URL of the issuer, exactly as its metadata names it:",
    CLIENT_ID: "Client id of thv-llm at the issuer:",
}
TO_BE_REGISTERED = "to-be-registered"
"""The client id in a dry run, which registers nothing."""
SHOWN = {
    CLIENT_ID: "client id",
    "oidc.scopes": "scopes",
    "oidc.audience": "audience",
    "oidc.resource": "resource",
    "gateway.token": "token",
    "oidc.callback_port": "redirect port",
    "oidc.redirect_host": "redirect host",
    "openai_path_prefix": "OpenAI's API",
    "anthropic_path_prefix": "Anthropic's API",
    "gemini_path_prefix": "Gemini's API",
    "models_path": "list of models",
    "models": "models",
}
"""What can be found besides the issuer, and what it is called."""


def check_audience(wanted: Settings, token: Secret) -> None:
    """Compare the audience of a token with what was shown, before it is kept, and before the gateway gets it.

    A provider can ignore what the login requested, and issue a token for another API.

    Raises:
        ThvLlmError: the token is for another audience.
    """
    from thv_llm.oidc import id_token, published

    said = id_token.unchecked_claims(token).get("aud")
    audience = [str(one) for one in said] if isinstance(said, list) else [str(said)] if said else []
    oidc, gateway = wanted.oidc, wanted.gateway_url
    known = {oidc.audience, oidc.resource, oidc.client_id, *oidc.scopes}
    known |= {scope.rpartition("/")[0] for scope in oidc.scopes}  # Entra: a scope is below its audience
    if audience and all(published.is_elsewhere(one, gateway) and one not in known for one in audience):
        raise ThvLlmError(
            "the token is not for the gateway",
            why=f"its audience is {shown(' '.join(audience), 200)}; it was neither kept nor sent there",
            next_step="ask the administrator of the gateway; if that is right: thv-llm setup --audience NAME",
        )


def is_published(context: Context, wanted: Settings) -> bool:
    """Tell whether settings of this gateway come from what it publishes."""
    known = state.load(context.paths.state).published
    return bool(known.keys) and known.gateway_url == wanted.gateway_url


def typed_url(args: argparse.Namespace) -> None:
    """Take the URL without a flag as the gateway's; one without a scheme is https.

    Scheme and host are compared with what the gateway says of itself, which has them in lower case.
    """
    if not args.url:
        return
    scheme, mark, rest = _with_scheme(args.url).partition("://")
    host, slash, path = rest.partition("/")
    url = f"{scheme.lower()}{mark}{host.lower()}{slash}{path}".rstrip("/")
    if (getattr(args, GATEWAY) or url).rstrip("/") != url:
        raise UsageError(
            "two gateways are named", why="by URL and by --gateway-url", next_step="thv-llm setup --help"
        )
    setattr(args, GATEWAY, url)


def complete(
    args: argparse.Namespace, context: Context, changes: dict[str, object], wanted: Settings
) -> tuple[Settings, Mapping[str, object]]:
    """Return the settings with what the gateway publishes and the user answers, put into `changes`, too.

    The values that the gateway published come second.

    Raises:
        UsageError: values are missing, or must be confirmed, and there is no terminal.
        InvalidResponseError: what the gateway publishes cannot be used.
    """
    if wanted.oidc.grant != "user":
        return wanted, {}
    run = _Run(args, context, changes, policy.load())
    is_all_named = {ISSUER, CLIENT_ID} <= run.named
    if (is_all_named or not args.url) and not wanted.missing():
        return wanted, {}
    if not (args.url or context.has_terminal or GATEWAY in run.decided.values):
        return wanted, {}  # a script's flags are all that it means
    return run.complete(wanted if wanted.gateway_url else run.asked(wanted, GATEWAY))


def remember(context: Context, changes: Collection[str], wanted: Settings, found: Collection[str]) -> None:
    """Note which settings the gateway published, so that `doctor` sees when it publishes others."""

    def changed(old: State) -> State:
        keys = set(found)
        if not keys and old.published.gateway_url == wanted.gateway_url:
            keys = set(old.published.keys) - set(changes)
        return replace(old, published=PublishedState(wanted.gateway_url if keys else "", tuple(sorted(keys))))

    state.update(context.paths, changed)


class _Run:
    """One search and its questions.

    Attributes:
        decided: what the administrator of this machine has decided.
        named: keys that the user or that administrator has decided.
    """

    def __init__(
        self, args: argparse.Namespace, context: Context, changes: dict[str, object], decided: Policy
    ) -> None:
        self._args = args
        self._context = context
        self._changes = changes
        self.decided = decided
        typed = {key for key, value in changes.items() if value is not None}
        self.named = typed | set(decided.values) | set(decided.locked)

    def complete(self, wanted: Settings) -> tuple[Settings, Mapping[str, object]]:
        """Find, confirm, and ask for the rest."""
        from thv_llm.oidc import published

        context, before = self._context, flags.readable(self._context.paths.settings)
        is_new = bool(self._args.url)
        keeps_issuer = ISSUER in self.named or not is_new
        context.progress(f"Asking {wanted.gateway_url} how to log in …")
        known = self.named | ({ISSUER} if keeps_issuer and wanted.oidc.issuer else set())
        try:
            found, tried = published.find(wanted.gateway_url, wanted.ca_file, context.environ, named=known)
        except NoResponseError as error:
            raise _with_authority(error, wanted.gateway_url) from None
        if found and keeps_issuer and wanted.oidc.issuer and wanted.oidc.issuer not in found.issuers:
            names = " ".join(found.issuers)
            tried.append(f"{found.url}: it is for the issuer {shown(names, 200)}, not for yours")
            found = None
        if found is None:
            return self._without(wanted, tried), {}
        issuer = wanted.oidc.issuer if wanted.oidc.issuer in found.issuers else self._chosen(found, wanted)
        if self.decided.forbids(ISSUER, issuer):  # before anything is sent there
            self._set(wanted, {ISSUER: issuer})
        metadata = self._metadata(issuer, wanted, found.ca_sha256)
        values = published.proposed(found, issuer, metadata, named=self.named - {ISSUER})
        wanted = self._set(wanted, {**self._stale(before, wanted.gateway_url, issuer), **values})
        registers = not wanted.oidc.client_id and bool(metadata.registration_endpoint)
        self._show(found, wanted, registers=registers)
        if not (wanted.oidc.client_id or registers):
            if self._args.yes or not context.has_terminal:
                raise self._missing(wanted)
            wanted = self._asked_rest(wanted)
        self._confirm(before, wanted)
        if registers:
            client_id = TO_BE_REGISTERED
            if not self._args.dry_run:
                client_id = published.register(metadata, wanted.oidc, wanted.ca_file, context.environ)
                context.say(f"Registered the client {shown(client_id)} at {issuer}.")
            wanted = self._set(wanted, {CLIENT_ID: client_id})
        return wanted, values

    def asked(self, wanted: Settings, key: str) -> Settings:
        """Ask the user for one setting."""
        answer = self._context.ask(QUESTIONS[key])
        return self._set(wanted, {key: _with_scheme(answer) if key != CLIENT_ID else answer})

    def _asked_rest(self, wanted: Settings) -> Settings:
        for key in (ISSUER, CLIENT_ID):
            if key in wanted.missing():
                wanted = self.asked(wanted, key)
        return wanted

    def _without(self, wanted: Settings, tried: list[str]) -> Settings:
        """Go on without anything that was published."""
        for line in ("The gateway does not publish how to log in:", *(f"  {line}" for line in tried)):
            self._context.say(line)
        if wanted.missing():
            self._context.say("thv-llm help providers has the command line for each identity provider.")
        if not wanted.missing() and not self._args.url:
            return wanted
        if self._args.url:  # the saved values can be another gateway's
            stale = {key: None for key in (ISSUER, CLIENT_ID) if key not in self.named}
            before = flags.readable(self._context.paths.settings)
            if before is None or before.gateway_url != wanted.gateway_url:
                wanted = self._set(wanted, stale)
        if wanted.missing():
            if self._context.has_terminal and not self._args.yes:
                return self._asked_rest(wanted)
            if self._args.url:
                raise self._missing(wanted)
        return wanted  # of a run without a URL, `require_configured` says what is missing

    def _missing(self, wanted: Settings) -> UsageError:
        issuer = wanted.oidc.issuer or "URL"
        return UsageError(
            "the gateway does not say all that a login needs",
            why=f"not set: {', '.join(wanted.missing())}",
            next_step=f"thv-llm setup {wanted.gateway_url} --issuer {issuer} --client-id ID",
        )

    def _chosen(self, found: Published, wanted: Settings) -> str:
        """Return the issuer, which the user chooses where there are several. Source: RFC 9728 section 7.6."""
        if len(found.issuers) == 1:
            return found.issuers[0]
        if not self._context.has_terminal:
            raise UsageError(
                "the gateway names several issuers",
                why=shown(" ".join(found.issuers), 400),
                next_step=f"thv-llm setup {wanted.gateway_url} --issuer URL",
            )
        for number, issuer in enumerate(found.issuers, 1):
            self._context.say(f"  {number}  {shown(issuer, 200)}")
        answer = self._context.ask(f"Where do you log in? [1-{len(found.issuers)}]")
        if not (answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(found.issuers)):
            raise UsageError(
                f"{shown(answer)} is none of them", next_step=f"thv-llm setup {wanted.gateway_url}"
            )
        self.named.add(ISSUER)
        return found.issuers[int(answer) - 1]

    def _metadata(self, issuer: str, wanted: Settings, ca_sha256: str) -> Metadata:
        from thv_llm.oidc import discovery
        from thv_llm.oidc.http import Provider

        http = Provider(wanted.ca_file, self._context.environ)
        try:
            return discovery.discover(issuer, http, cache_path="", now=self._context.now())
        except NoResponseError as error:
            raise _with_authority(error, wanted.gateway_url, ca_sha256) from None

    def _stale(self, before: Settings | None, gateway_url: str, issuer: str) -> dict[str, object]:
        """Return, as None, what belongs to another gateway or issuer than the new ones."""
        if before is None or (before.gateway_url, before.oidc.issuer) == (gateway_url, issuer):
            return {}
        is_moved = before.oidc.issuer != issuer
        return {
            row.key: None
            for row in ROWS
            if (row.key in SHOWN or (is_moved and row.in_oidc)) and row.key not in self.named
        }

    def _set(self, wanted: Settings, values: Mapping[str, object]) -> Settings:
        values = {key: value for key, value in values.items() if key not in self.decided.locked}
        wanted = settings.overlaid(wanted, values, self.decided)
        self._changes.update(values)
        return wanted

    def _show(self, found: Published, wanted: Settings, *, registers: bool) -> None:
        from thv_llm.oidc import published

        say, gateway, issuer = self._context.say, wanted.gateway_url, wanted.oidc.issuer
        say(f"The gateway publishes how to log in ({found.url}):")
        note = ""
        if published.is_foreign(issuer, gateway):
            note = "  (NOT in the gateway's domain; continue only if you know it)"
        lines = {"gateway": gateway, "issuer": f"{shown(issuer, 200)}{note}"}
        for row in ROWS:
            value = wanted.get(row)
            is_said = row.key == "oidc.scopes" or value != row.default or row.key in found.values
            if row.key in SHOWN and is_said:
                words = " ".join(value) if isinstance(value, tuple) else value
                lines[SHOWN[row.key]] = shown(words, 1000) if value is not None else "-"
        if registers:
            lines[SHOWN[CLIENT_ID]] = "a new one, which the issuer gives to any client that asks"
        for name, text in lines.items():
            say(f"  {name:<16}{text}")
        whose = wanted.oidc.audience or wanted.oidc.resource or wanted.oidc.client_id or "thv-llm"
        say(f"Tokens for {shown(whose)} will be sent to {urlsplit(gateway).netloc}.")

    def _confirm(self, before: Settings | None, wanted: Settings) -> None:
        if self._args.dry_run or (before and all(before.get(row) == wanted.get(row) for row in ROWS)):
            return
        if self._args.yes and self._is_decided(before, wanted):
            return
        if not self._context.has_terminal:
            flag = f"thv-llm setup {wanted.gateway_url} --issuer {wanted.oidc.issuer} --yes"
            raise UsageError(
                "what the gateway publishes was not confirmed",
                why="there is no terminal to ask at, and it names who logs you in",
                next_step=f"if it is right: {flag}",
            )
        self._context.confirm("", "Use these settings?", default=False)

    def _is_decided(self, before: Settings | None, wanted: Settings) -> bool:
        """Tell whether `--yes` is enough (rule 3)."""
        issuer, gateway = wanted.oidc.issuer, wanted.gateway_url
        is_same = before is not None and (
            (_origin(before.gateway_url), _origin(before.oidc.issuer)) == (_origin(gateway), _origin(issuer))
        )
        is_allowed = ISSUER in self.decided.allowed  # else `_set` had refused it
        return ISSUER in self.named or is_allowed or is_same or _origin(issuer) == _origin(gateway)


def _with_authority(error: NoResponseError, gateway_url: str, ca_sha256: str = "") -> NoResponseError:
    """Return an error about an unknown certificate authority with the whole line to type."""
    from thv_llm.net.failures import OWN_AUTHORITY

    if error.next_step != OWN_AUTHORITY:
        return error
    why, steps = error.why, "if your network has its own: "
    if ca_sha256:
        why += f"; the gateway's administrator names one whose SHA-256 is {ca_sha256}"
        steps = "ask for its certificate; check: openssl x509 -noout -fingerprint -sha256 -in FILE; then: "
    next_step = f"{steps}thv-llm setup {gateway_url} --ca-file FILE"
    return NoResponseError(error.what, why=why, next_step=next_step)


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"https://{url}"


def _origin(url: str) -> tuple[str, str]:
    return urlsplit(url)[:2]
