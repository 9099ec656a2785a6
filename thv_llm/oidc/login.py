"""A login, from the first URL to checked tokens.

Rule 1: `state`, `nonce` and `code_verifier` are fresh for each authorization request; the response is
        redeemed only after everything about it was checked.
Rule 2: the listener is there before the URL is shown, and closed when the login ends.
Rule 3: some providers keep the refresh token back, without a word, unless the user was
        asked for consent. Such a login is repeated once with `prompt=consent`, in the same
        browser window, and then taken as it is.
Rule 4: one login at a time: ten terminals whose session has ended must not open ten browsers. The
        first one holds a lock and leaves its URL in a file beside it; the others show that URL,
        wait, and end with it. The URL holds nothing secret: `state`, `nonce` and the PKCE
        challenge are of use only to the process that has the verifier.

Source: OpenID Connect Core 1.0 section 3.1; RFC 8252; RFC 9700 section 2.1.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar
from urllib.parse import parse_qs, urlencode

from thv_llm import files, log, providers
from thv_llm.errors import LOGIN_FAILED, InvalidResponseError, ThvLlmError, shown
from thv_llm.oidc import device, id_token, loopback, token_endpoint
from thv_llm.oidc.device import MAX_LIFETIME_S
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import Provider
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.loopback import AuthorizationResponse, RedirectListener
from thv_llm.oidc.token_endpoint import Tokens
from thv_llm.secret import Secret
from thv_llm.settings import OidcSettings

Flow = Literal["browser", "manual", "device"]

TIMEOUT_S = 300.0
HINT_S = 20.0
"""After so long a message says what can be wrong at the provider."""
POLL_S = 0.1  # how often the terminal is looked at while the listener waits
OTHER_WAIT_S = MAX_LIFETIME_S + 30.0  # a little longer than any login can take; one by code takes longest
OTHER_POLL_S = 0.2
NEXT_STEP = "thv-llm login"
MAX_FIELDS = 50  # of an authorization response
RANDOM_BYTES = 48  # 384 bits; 64 characters of base64url, within the 43 to 128 of RFC 7636

T = TypeVar("T")


@dataclass(frozen=True)
class LoginResult:
    """A login that has worked.

    Attributes:
        tokens: `tokens.refresh` is None when the provider gives none: the session then ends
            with the access token.
        subject: `sub` of the ID token; "" without one.
        who: the user's name, for display; "" when it is unknown.
    """

    tokens: Tokens
    subject: str
    who: str


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
    claims: str = "",
    keep: Callable[[LoginResult], None] = lambda _: None,
    timeout_s: float = TIMEOUT_S,
    hint_s: float = HINT_S,
) -> LoginResult:
    """Log a user in.

    Args:
        now: seconds since the epoch.
        gateway_name: what the page in the browser calls the gateway.
        flow: `browser` opens one; `manual` prints the URL and takes the pasted response, too;
            `device` shows a code to type in elsewhere. Where there is no other login, all show a code.
        prompt: what to send as `prompt` instead of what the settings say.
        claims: what to send as `claims`, because the provider asked for it (not by device code).
        keep: stores the result. Called before the browser is told that the login has worked, so
            that its failure shows there, too.
        timeout_s: for the user; the requests have limits of their own.
        hint_s: when to say which redirect URI must be registered.

    Raises:
        ThvLlmError: the user or the provider ended it, the time is up, the port is taken.
        UnreachableError: the provider gave no usable response.
    """
    context = _Context(oidc, http, metadata, interaction, now, keep, claims, hint_s)
    if flow == "device" or metadata.is_device_only:
        result = _by_device(context, opens=flow == "browser")
    else:
        result = _by_browser(
            context, gateway_name, prompt or oidc.prompt, opens=flow == "browser", timeout_s=timeout_s
        )
    if result.tokens.refresh is None:
        interaction.say("The provider gave no refresh token: the session will end with the access token.")
    return result


def _random() -> Secret:
    return Secret(secrets.token_urlsafe(RANDOM_BYTES))


@dataclass(frozen=True)
class AuthorizationRequest:
    """What makes one authorization request unguessable, fresh for each. Source: RFC 7636 section 4."""

    code_verifier: Secret = field(default_factory=_random)
    state: Secret = field(default_factory=_random)
    nonce: Secret = field(default_factory=_random)

    @property
    def code_challenge(self) -> str:
        """The S256 challenge, which is all that the authorization endpoint sees of the verifier."""
        digest = hashlib.sha256(self.code_verifier.reveal().encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorization_url(
    metadata: Metadata,
    oidc: OidcSettings,
    request: AuthorizationRequest,
    redirect_uri: str,
    *,
    prompt: str = "",
    claims: str = "",
) -> str:
    """Return the URL at which the user logs in; it holds no secret beyond `state` and the challenge."""
    fields = {
        "response_type": "code",
        **oidc.parameters,
        "redirect_uri": redirect_uri,
        "scope": " ".join(oidc.scopes),
        "state": request.state.reveal(),
        "nonce": request.nonce.reveal() if "openid" in oidc.scopes else "",
        "code_challenge": request.code_challenge,
        "code_challenge_method": "S256",
        "prompt": prompt,
        "claims": claims,
    }
    own = {name: value for name, value in fields.items() if value}
    query = urlencode(oidc.extra_parameters | own)
    # RFC 6749 section 3.1: a query that the endpoint has already must be kept.
    return metadata.authorization_endpoint + ("&" if "?" in metadata.authorization_endpoint else "?") + query


def is_response(query: str, state: Secret) -> bool:
    """Tell whether a query is the authorization response to the request with that `state`.

    Without it, it is a stray, whatever else it says, and never ends a login. Compared in constant time.
    """
    found = _values(query).get("state", [])
    return len(found) == 1 and Secret(found[0]) == state


def code_of(query: str, metadata: Metadata) -> Secret:
    """Return the authorization code of a query that `is_response`.

    Raises:
        ThvLlmError: the provider says that the login failed.
        InvalidResponseError: it is of another issuer, or holds not one code.

    Source: RFC 6749 section 4.1.2; RFC 9207 section 2.4.
    """
    values = _values(query)
    _check_iss(values.get("iss", []), metadata)
    if "error" in values:
        error, description = values["error"][0], values.get("error_description", [""])[0]
        why = f"the provider says {shown(error)}{f': {shown(description, 200)}' if description else ''}"
        if meaning := providers.meaning(f"{error} {description}"):
            why += f" ({meaning})"
        next_step = token_endpoint.remedy(error, description)
        if error == "access_denied":
            next_step = device.DENIED
        raise ThvLlmError(LOGIN_FAILED, why=why, next_step=next_step)
    codes = values.get("code", [])
    if len(codes) != 1 or not codes[0]:
        raise InvalidResponseError(
            LOGIN_FAILED,
            why="the redirect carries no code" if not any(codes) else "the redirect carries two codes",
            next_step="thv-llm login",
        )
    return Secret(codes[0])


def _check_iss(found: list[str], metadata: Metadata) -> None:
    if found == [metadata.issuer]:
        return
    if not found:
        if not metadata.iss_in_callback:
            return
        why = "the redirect does not say which issuer it comes from (iss), as this provider always does"
    elif len(found) > 1:
        why = "the redirect names two issuers (iss)"
    else:
        why = f"the redirect comes from the issuer {shown(found[0], 200)}, not from {metadata.issuer!r}"
    raise InvalidResponseError(LOGIN_FAILED, why=why, next_step="thv-llm login")


def _values(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:  # too many
        return {}


def discard(metadata: Metadata, oidc: OidcSettings, http: Provider, refresh: Secret | None) -> None:
    """Revoke a refresh token that will not be used, where that ends nothing else (`providers`)."""
    known = providers.described(metadata._asdict())
    if refresh and known and known.revokes == "token":
        why = token_endpoint.revoke(metadata, oidc.client_id, refresh, http)
        log.debug(f"a discarded refresh token was not revoked: {why}" if why else "revoked a discarded one")


@dataclass(frozen=True)
class _Context:
    oidc: OidcSettings
    http: Provider
    metadata: Metadata
    interaction: Interaction
    now: Callable[[], float]
    keep: Callable[[LoginResult], None]
    claims: str
    hint_s: float

    def redeem(self, query: str, request: AuthorizationRequest, redirect_uri: str) -> LoginResult:
        """Exchange the authorization response for tokens of a known user."""
        code = code_of(query, self.metadata)
        tokens = token_endpoint.exchange(
            self.metadata,
            self.oidc,
            self.http,
            code=code,
            redirect_uri=redirect_uri,
            code_verifier=request.code_verifier,
            now=self.now(),
        )
        return self.identify(tokens, request.nonce if "openid" in self.oidc.scopes else None)

    def identify(self, tokens: Tokens, nonce: Secret | None) -> LoginResult:
        """Return whose tokens these are; a session that is refused is ended."""
        try:
            return self._checked(tokens, nonce)
        except ThvLlmError:
            discard(self.metadata, self.oidc, self.http, tokens.refresh)
            raise

    def _checked(self, tokens: Tokens, nonce: Secret | None) -> LoginResult:
        usable = token_endpoint.for_gateway(tokens, self.oidc, now=self.now())
        if tokens.id_token is None:  # a plain OAuth 2.0 server: PKCE and `state` protect the login
            return LoginResult(usable, "", "")
        found = id_token.check(
            tokens.id_token,
            issuer=self.metadata.issuer,
            client_id=self.oidc.client_id,
            nonce=nonce,
            access=tokens.access,
            now=self.now(),
            fetch_keys=self._keys if self.metadata.jwks_uri else None,
        )
        if not found.is_verified:
            log.debug("the ID token's signature cannot be checked here; TLS to the provider stands for it")
        return LoginResult(usable, found.subject, found.who)

    def _keys(self) -> list[object]:
        keys = self.http.get_json(self.metadata.jwks_uri).get("keys")
        if not isinstance(keys, list):
            raise InvalidResponseError(
                LOGIN_FAILED, why="the provider's JWKS has no list of keys", next_step=NEXT_STEP
            )
        return keys


def _by_device(context: _Context, *, opens: bool) -> LoginResult:
    tokens = device.authorize(
        context.oidc,
        context.http,
        metadata=context.metadata,
        interaction=context.interaction,
        now=context.now,
        opens=opens,
    )
    result = context.identify(tokens, nonce=None)
    context.keep(result)
    return result


def _by_browser(
    context: _Context, gateway_name: str, prompt: str, *, opens: bool, timeout_s: float
) -> LoginResult:
    if not context.metadata.authorization_endpoint:
        raise InvalidResponseError(
            LOGIN_FAILED,
            why="the provider names no authorization_endpoint, so it has no login by browser",
            next_step="thv-llm login --device-code",
        )
    until = time.monotonic() + timeout_s
    with RedirectListener(context.oidc.redirect_host, context.oidc.callback_port) as listener:
        first = _Round(context, listener, prompt)
        response = first.start(opens=opens, until=until)
        with _told(response):
            result = first.redeem(response)
        if _is_kept_back(result, context.oidc, prompt):
            second = _Round(context, listener, f"{prompt} consent".strip())
            response = second.follow(response, until=until)
            with _told(response):
                result = second.redeem(response)
        with _told(response):
            context.keep(result)
        response.show(loopback.success_page(gateway_name))
        return result


def _is_kept_back(result: LoginResult, oidc: OidcSettings, prompt: str) -> bool:
    """Tell whether asking for consent can bring the refresh token that is missing."""
    return result.tokens.refresh is None and "offline_access" in oidc.scopes and "consent" not in prompt


@contextlib.contextmanager
def _told(response: AuthorizationResponse) -> Iterator[None]:
    """Let the browser know when the block fails."""
    try:
        yield
    except ThvLlmError as error:
        response.show(loopback.failure_page(error.why or error.what, error.next_step))
        raise


class _Round:
    """One authorization request and its response."""

    def __init__(self, context: _Context, listener: RedirectListener, prompt: str) -> None:
        self._context = context
        self._say = context.interaction.say
        self._listener = listener
        self._request = AuthorizationRequest()
        self._url = authorization_url(
            context.metadata,
            context.oidc,
            self._request,
            listener.redirect_uri,
            prompt=prompt,
            claims=context.claims,
        )
        listener.expect(self._is_response)

    def start(self, *, opens: bool, until: float) -> AuthorizationResponse:
        """Show the user the URL, and wait for the response."""
        self._context.interaction.announce(self._url)
        if opens and self._context.interaction.open_browser(self._url):
            self._say("Your browser has been opened for the login. If it shows nothing, open this URL:")
        else:
            self._say("Open this URL in a browser to log in:")
        self._say(f"\n  {self._url}\n")
        if self._context.interaction.read_line:
            self._say(
                "If the browser ends at a page that cannot be shown (because it runs on another machine),"
                " copy the address of that page, paste it here and press Enter."
            )
        return self._wait(until)

    def follow(self, previous: AuthorizationResponse, *, until: float) -> AuthorizationResponse:
        """Send the same browser to the provider again, and wait for the response."""
        self._context.interaction.announce(self._url)
        self._say("The provider gave no refresh token; asking once more, for your consent.")
        if not previous.in_browser:
            self._say("Open this URL, too, and paste the address at which the browser ends:")
            self._say(f"\n  {self._url}\n")
        previous.go_on(self._url)
        return self._wait(until)

    def redeem(self, response: AuthorizationResponse) -> LoginResult:
        """Exchange the response for tokens of a known user."""
        return self._context.redeem(response.query, self._request, self._listener.redirect_uri)

    def _wait(self, until: float) -> AuthorizationResponse:
        read_line = self._context.interaction.read_line
        hint_at = time.monotonic() + self._context.hint_s
        while (rest_s := until - time.monotonic()) > 0:
            if (hint_s := hint_at - time.monotonic()) <= 0:
                self._say_what_to_register()
                hint_at = hint_s = math.inf
            response = self._listener.wait(POLL_S if read_line else min(rest_s, hint_s))
            if response is not None:
                return response
            line = read_line(0.0) if read_line else None
            if line:
                before, mark, after = line.strip().partition("?")
                query = after.partition("#")[0] if mark else before
                if self._is_response(query):
                    return AuthorizationResponse(query)
                self._say("This is not the address of this login. Paste the whole address, from http:// on.")
        why = "the browser did not come back in time"
        raise ThvLlmError(LOGIN_FAILED, why=why, next_step=NEXT_STEP)

    def _say_what_to_register(self) -> None:
        oidc, metadata = self._context.oidc, self._context.metadata
        uri = providers.to_register(
            metadata._asdict(), self._listener.redirect_uri, is_fixed=oidc.callback_port != 0
        )
        self._say("Still waiting for the browser. If the provider's page says the redirect URI is wrong,")
        self._say(f"your administrator must register it there for the client {oidc.client_id}:")
        self._say(f"\n  {uri}\n")

    def _is_response(self, query: str) -> bool:
        return is_response(query, self._request.state)


def one_at_a_time(
    lock_path: str,
    perform: Callable[[Interaction], T],
    *,
    interaction: Interaction,
    already: Callable[[], T | None],
    wait_s: float = OTHER_WAIT_S,
) -> T:
    """Log in, unless another process is at it: then wait for that one.

    Args:
        lock_path: `Paths.lock("login")`.
        perform: does the login with the Interaction that it is given, and stores its result
            before it returns, because then the lock is let go.
        already: returns what `perform` would, if the other login has brought it; else None.

    Raises:
        ThvLlmError: of `perform`; or the other login did not end in time.
    """
    until = time.monotonic() + wait_s
    url_path = os.path.splitext(lock_path)[0] + ".url"
    waiter = _Waiter(url_path, interaction)
    with contextlib.ExitStack() as held:
        while not _try_lock(held, lock_path):
            waiter.show()
            if time.monotonic() >= until:
                raise ThvLlmError(
                    "another login is under way on this machine",
                    why="it did not end in time",
                    next_step="finish it in its browser window, or end its process",
                )
            interaction.sleep(OTHER_POLL_S)
        if waiter.has_waited and (found := already()) is not None:
            interaction.say("The other login has ended; its session serves here, too.")
            return found
        return _alone(url_path, perform, interaction)


def _try_lock(held: contextlib.ExitStack, lock_path: str) -> bool:
    try:
        held.enter_context(files.lock(lock_path, timeout_s=0.0, what="the login"))
    except files.LockHeldError:
        return False
    return True


def _alone(url_path: str, perform: Callable[[Interaction], T], interaction: Interaction) -> T:
    def announce(url: str, *of_code: object) -> None:
        with contextlib.suppress(ThvLlmError):  # without the file the others just see no URL
            files.replace(url_path, url.encode())
        interaction.announce(url, *of_code)

    _forget(url_path)  # of a login that was killed
    try:
        return perform(replace(interaction, announce=announce))
    finally:
        _forget(url_path)


def _forget(url_path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(url_path)


class _Waiter:
    """Say once that, and each time where, another login is under way."""

    def __init__(self, path: str, interaction: Interaction) -> None:
        self._path = path
        self._say = interaction.say
        self._announce = interaction.announce
        self._url = ""
        self.has_waited = False

    def show(self) -> None:
        if not self.has_waited:
            self._say("Another login is under way on this machine; waiting for it.")
            self.has_waited = True
        url = (files.read(self._path) or b"").decode("ascii", "replace")
        if url and url != self._url and all("!" <= character <= "~" for character in url):
            self._url = url
            self._announce(url)
            self._say(f"It can be finished in a browser at this URL:\n\n  {url}\n")
