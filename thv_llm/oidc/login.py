"""A login, from the first URL to checked tokens.

Rule 1: `state`, `nonce` and `code_verifier` are fresh for each attempt; the answer is
        redeemed only after everything about it was checked.
Rule 2: the listener is there before the URL is shown, and gone when the login ends.
Rule 3: some providers keep the refresh token back, without a word, unless the person was
        asked for consent. Such a login is repeated once with `prompt=consent`, in the same
        browser window, and then taken as it is.

Source: OpenID Connect Core 1.0 section 3.1; RFC 8252; RFC 9700 section 2.1.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from thv_llm import log
from thv_llm.errors import ThvLlmError
from thv_llm.oidc import callback, device, id_token, loopback, page, token_endpoint
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.failures import LOGIN_FAILED, UntrustedAnswerError
from thv_llm.oidc.http import Provider
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.pkce import Attempt
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

Flow = Literal["browser", "manual", "device"]

TIMEOUT_S = 300.0
POLL_S = 0.1  # how often the terminal is looked at while the listener waits
NEXT_STEP = "thv-llm login"


@dataclass(frozen=True)
class LoginResult:
    """A login that has worked.

    Attributes:
        tokens: `tokens.refresh` is None when the provider gives none: the session then ends
            with the access token.
        subject: `sub` of the ID token.
        who: the person's name, for display.
    """

    tokens: Tokens
    subject: str
    who: str


def _keep_nothing(result: LoginResult) -> None:
    """Leave it to the caller."""


def login(
    oidc: OidcSettings,
    http: Provider,
    *,
    metadata: Metadata,
    interaction: Interaction,
    now: Callable[[], float],
    gateway_name: str,
    flow: Flow = "browser",
    prompt: str = "",
    keep: Callable[[LoginResult], None] = _keep_nothing,
    timeout_s: float = TIMEOUT_S,
) -> LoginResult:
    """Log a person in.

    Args:
        now: seconds since the epoch.
        gateway_name: what the page in the browser calls the gateway.
        flow: `browser` opens one; `manual` prints the URL and takes the pasted answer, too;
            `device` shows a code to type in elsewhere.
        prompt: what to send as `prompt` instead of what the settings say.
        keep: stores the result. Called before the browser is told that the login has worked, so
            that its failure shows there, too.
        timeout_s: for the person; the requests have limits of their own.

    Raises:
        ThvLlmError: the person or the provider ended it, the time is up, the port is taken.
        UnreachableError: the provider gave no usable answer.
    """
    context = _Context(oidc, http, metadata, interaction, now, keep)
    if flow == "device":
        result = _by_device(context)
    else:
        result = _by_browser(
            context, gateway_name, prompt or oidc.prompt, opens=flow == "browser", timeout_s=timeout_s
        )
    if result.tokens.refresh is None:
        interaction.say("The provider gave no refresh token: the session will end with the access token.")
    return result


def authorization_url(
    metadata: Metadata, oidc: OidcSettings, attempt: Attempt, redirect_uri: str, prompt: str
) -> str:
    """Return the URL at which the person logs in; it holds no secret beyond `state` and the challenge."""
    fields = {
        "response_type": "code",
        **oidc.parameters,
        "redirect_uri": redirect_uri,
        "scope": " ".join(oidc.scopes),
        "state": attempt.state.reveal(),
        "nonce": attempt.nonce.reveal(),
        "code_challenge": attempt.code_challenge,
        "code_challenge_method": "S256",
        "prompt": prompt,
    }
    query = urlencode({name: value for name, value in fields.items() if value})
    # RFC 6749 section 3.1: a query that the endpoint has already must be kept.
    return metadata.authorization_endpoint + ("&" if "?" in metadata.authorization_endpoint else "?") + query


@dataclass(frozen=True)
class _Context:
    oidc: OidcSettings
    http: Provider
    metadata: Metadata
    interaction: Interaction
    now: Callable[[], float]
    keep: Callable[[LoginResult], None]

    def redeem(self, query: str, attempt: Attempt, redirect_uri: str) -> LoginResult:
        """Turn the answer of the browser into tokens of a known person."""
        code = callback.code(query, self.metadata)
        tokens = token_endpoint.exchange(
            self.metadata,
            self.oidc,
            self.http,
            code=code,
            redirect_uri=redirect_uri,
            code_verifier=attempt.code_verifier,
            now=self.now(),
        )
        return self.identify(tokens, attempt.nonce)

    def identify(self, tokens: Tokens, nonce: Secret | None) -> LoginResult:
        if tokens.id_token is None:
            raise UntrustedAnswerError(
                LOGIN_FAILED,
                why="the token response has no id_token although openid was asked for",
                next_step=NEXT_STEP,
            )
        expected = id_token.Expected(
            self.metadata.issuer, self.oidc.client_id, nonce, tokens.access, self.now()
        )
        found = id_token.check(tokens.id_token, expected, self._keys if self.metadata.jwks_uri else None)
        if not found.is_verified:
            log.debug("the ID token's signature cannot be checked here; TLS to the provider stands for it")
        return LoginResult(tokens, found.subject, found.who)

    def _keys(self) -> list[object]:
        keys = self.http.get_json(self.metadata.jwks_uri).get("keys")
        if not isinstance(keys, list):
            raise UntrustedAnswerError(
                LOGIN_FAILED, why="the provider's JWKS has no list of keys", next_step=NEXT_STEP
            )
        return keys


def _by_device(context: _Context) -> LoginResult:
    tokens = device.authorize(
        context.oidc,
        context.http,
        metadata=context.metadata,
        interaction=context.interaction,
        now=context.now,
    )
    result = context.identify(tokens, nonce=None)
    context.keep(result)
    return result


def _by_browser(
    context: _Context, gateway_name: str, prompt: str, *, opens: bool, timeout_s: float
) -> LoginResult:
    if not context.metadata.authorization_endpoint:
        raise UntrustedAnswerError(
            LOGIN_FAILED,
            why="the provider names no authorization_endpoint, so it has no login by browser",
            next_step="thv-llm login --device-code",
        )
    until = time.monotonic() + timeout_s
    with loopback.Listener(context.oidc.redirect_host, context.oidc.callback_port) as listener:
        first = _Round(context, listener, prompt)
        answer = first.start(opens=opens, until=until)
        with _told(answer):
            result = first.redeem(answer)
        if _is_kept_back(result, context.oidc, prompt):
            second = _Round(context, listener, f"{prompt} consent".strip())
            answer = second.follow(answer, until=until)
            with _told(answer):
                result = second.redeem(answer)
        with _told(answer):
            context.keep(result)
        if isinstance(answer, loopback.Answer):
            answer.show(page.success(gateway_name))
        return result


def _is_kept_back(result: LoginResult, oidc: OidcSettings, prompt: str) -> bool:
    """Tell whether asking for consent may bring the refresh token that is missing."""
    return result.tokens.refresh is None and "offline_access" in oidc.scopes and "consent" not in prompt


@contextlib.contextmanager
def _told(answer: loopback.Answer | str) -> Iterator[None]:
    """Let the browser know when the block fails."""
    try:
        yield
    except ThvLlmError as error:
        if isinstance(answer, loopback.Answer):
            answer.show(page.failure(error.why or error.what, error.next_step))
        raise


class _Round:
    """One trip to the provider and back."""

    def __init__(self, context: _Context, listener: loopback.Listener, prompt: str) -> None:
        self._context = context
        self._say = context.interaction.say
        self._listener = listener
        self._attempt = Attempt()
        self._url = authorization_url(
            context.metadata, context.oidc, self._attempt, listener.redirect_uri, prompt
        )

    def start(self, *, opens: bool, until: float) -> loopback.Answer | str:
        """Show the person the URL, and wait for the answer."""
        self._context.interaction.announce(self._url)
        if opens and self._context.interaction.open_browser(self._url):
            self._say("Your browser has been opened for the login. If it shows nothing, open this URL:")
        else:
            self._say("Open this URL in a browser to log in:")
        self._say(f"\n  {self._url}\n")
        if self._context.interaction.read_line:
            self._say(
                "If the browser ends at a page that cannot be shown (because it runs on another machine),"
            )
            self._say("copy the address of that page, paste it here and press Enter.")
        return self._wait(until)

    def follow(self, answer: loopback.Answer | str, *, until: float) -> loopback.Answer | str:
        """Send the same browser to the provider again, and wait for the answer."""
        self._context.interaction.announce(self._url)
        self._say("The provider gave no refresh token; asking once more, for your consent.")
        if isinstance(answer, loopback.Answer):
            answer.go_on(self._url)
        else:
            self._say("Open this URL, too, and paste the address at which the browser ends:")
            self._say(f"\n  {self._url}\n")
        return self._wait(until)

    def redeem(self, answer: loopback.Answer | str) -> LoginResult:
        """Turn the answer into tokens of a known person."""
        query = answer.query if isinstance(answer, loopback.Answer) else answer
        return self._context.redeem(query, self._attempt, self._listener.redirect_uri)

    def _wait(self, until: float) -> loopback.Answer | str:
        read_line = self._context.interaction.read_line
        while (rest_s := until - time.monotonic()) > 0:
            answer = self._listener.wait(POLL_S if read_line else rest_s, self._is_ours)
            if answer is not None:
                return answer
            line = read_line(0.0) if read_line else None
            if line:
                before, mark, after = line.strip().partition("?")
                query = after.partition("#")[0] if mark else before
                if self._is_ours(query):
                    return query
                self._say("That is not the answer to this login. Paste the whole address, from http:// on.")
        raise ThvLlmError(LOGIN_FAILED, why="no answer came from the browser in time", next_step=NEXT_STEP)

    def _is_ours(self, query: str) -> bool:
        return callback.is_ours(query, self._attempt.state)
