"""Tokens for a workload instead of a user (`oidc.grant`), and the secrets that come in files.

token-file:          a ready bearer token, read at each use. No provider is asked.
federated:           a token that the workload has already (the assertion), as client assertion
                     (RFC 7523 section 2.2) or, with `oidc.exchange`, by token exchange (RFC 8693).
client-credentials:  RFC 6749 section 4.4, with `oidc.client_secret`.

Rule 1: no store and no browser: nothing is kept, so nothing can be lost.
Rule 2: a file that holds a secret is a regular file of this user's or root's (as Kubernetes mounts
        them), perhaps behind links, which no other user can write. It is read anew each time.
Rule 3: a secret goes into a request and nowhere else; `client_secret` and `gateway.header_file` of the
        settings are a path, or say that the session's store has it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from thv_llm import system, validation
from thv_llm.errors import NO_TOKEN, InvalidResponseError, RefusedError, ThvLlmError, UnreachableError, shown
from thv_llm.secret import Secret
from thv_llm.settings import STORED, OidcSettings, Settings
from thv_llm.system import file_system
from thv_llm.tokens.source import AccessToken, TokenSource

if TYPE_CHECKING:
    from thv_llm.oidc.discovery import Metadata
    from thv_llm.oidc.http import Provider
    from thv_llm.oidc.token_endpoint import Tokens
    from thv_llm.store import SessionStore

MAX_FILE_BYTES = 64 * 1024
LOOK_AGAIN_S = 30.0
"""How long the token of a file serves before a caller that waits for its renewal reads the file again."""

CHECK = "check oidc.grant and what goes with it: thv-llm config show"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
GITHUB = "github"
GITHUB_URL, GITHUB_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
PERMISSION = "permissions: id-token: write (in the workflow)"
FOR_USERS = frozenset({"openid", "offline_access"})


def secret_in(path: str, what: str) -> Secret:
    """Return the one word that a file holds.

    Args:
        what: the setting that names the file.

    Raises:
        ThvLlmError: it is not there, another user could have written it, or it is no such file.
    """
    return _word(_contents(path, what), lambda why: _unusable(path, what, why))


def headers_in(path: str) -> Secret:
    """Return the headers that a file holds, one a line.

    Raises:
        ThvLlmError: as `secret_in`.
    """
    what = "gateway.header_file"
    try:
        lines = _contents(path, what).decode("ascii").splitlines()
        found = validation.headers(tuple(line for line in lines if line.strip()))
        assert isinstance(found, tuple)
        if not found:
            raise ValueError('"Name: value" of a header')
    except UnicodeDecodeError:
        raise _unusable(path, what, "it is not ASCII") from None
    except ValueError as wanted:
        raise _unusable(path, what, f"each line must be {wanted}") from None
    return Secret("\n".join(found))


def _contents(path: str, what: str) -> bytes:
    try:
        descriptor = file_system.open_file(path, os.O_RDONLY)
    except OSError as error:
        raise _unusable(path, what, error.strerror or type(error).__name__) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _unusable(path, what, "it is not a regular file")
        if found.st_uid not in (system.user_id(), 0):  # 0 for every file on Windows
            raise _unusable(path, what, "it belongs to another user")
        if file_system.shared(path, found) & (stat.S_IWGRP | stat.S_IWOTH):
            raise _unusable(path, what, "other users can write to it")
        data = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(path, what, f"it is larger than {MAX_FILE_BYTES // 1024} KiB")
    return data


def _unusable(path: str, what: str, why: str) -> ThvLlmError:
    return RefusedError(f"cannot use the file {path} ({what})", why=why, next_step=CHECK)


def _word(data: bytes, error: Callable[[str], ThvLlmError]) -> Secret:
    word = data.strip()
    if not word:
        raise error("it is empty")
    if not all(0x21 <= byte <= 0x7E for byte in word):
        raise error("it holds more than one word of visible ASCII")
    return Secret(word.decode("ascii"))


def secret_entry(oidc: OidcSettings) -> str:
    """Return the name of a client's secret in the store; it outlives the session."""
    return f"client-secret {oidc.client_id} {oidc.issuer}"


def client_secret(oidc: OidcSettings, open_store: Callable[[], SessionStore]) -> Secret | None:
    """Return the client's secret, from its file or from the store; None without one.

    Raises:
        ThvLlmError: it is set and cannot be read.
    """
    if not oidc.client_secret:
        return None
    if oidc.client_secret != STORED:
        return secret_in(oidc.client_secret, "oidc.client_secret")
    found = open_store().load(secret_entry(oidc))
    if found is None:
        raise RefusedError(
            NO_TOKEN,
            why="the client secret is not in the store any more",
            next_step="thv-llm setup --client-secret-file FILE",
        )
    return found


def headers_entry(wanted: Settings) -> str:
    """Return the name of the secret headers in the store: they are for one gateway alone."""
    return f"headers {wanted.gateway_url}"


def secret_headers(wanted: Settings, open_store: Callable[[], SessionStore]) -> Mapping[str, Secret]:
    """Return the headers of `gateway.header_file` by name, from the file or from the store.

    Raises:
        ThvLlmError: there are some and they cannot be read.
    """
    path = wanted.gateway_header_file
    found = headers_in(path) if path != STORED else open_store().load(headers_entry(wanted))
    if found is None:
        raise RefusedError(
            "cannot send the headers that the gateway wants",
            why="they are not in the store any more",
            next_step="thv-llm setup --gateway-header-file FILE",
        )
    pairs = (line.split(": ", 1) for line in found.reveal().splitlines())
    return {name: Secret(value) for name, value in pairs}


class Nothing:
    """The store of a session that needs none."""

    name = ""

    def __init__(self, oidc: OidcSettings) -> None:
        self._oidc = oidc

    def describe(self) -> str:
        """Say that nothing is stored."""
        return f"no store (oidc.grant = {self._oidc.grant})"

    def load(self, key: str) -> Secret | None:
        """Return what stands for the session: it is always there."""
        return Secret(key)

    def ready(self) -> None:
        """There is nothing to save."""

    def save(self, key: str, value: Secret) -> None:
        """Save nothing."""

    def delete(self, key: str) -> None:
        """There is nothing to delete."""


class FileTokens(TokenSource):
    """The token of `oidc.token_file`, read at each use: no lock, no memory, no provider."""

    def get(
        self,
        min_valid_s: float = 0.0,  # noqa: ARG002 - the file's owner renews it
        *,
        rejected: Secret | None = None,  # noqa: ARG002
        newer_than: float | None = None,  # noqa: ARG002
    ) -> AccessToken:
        """Return what the file holds now.

        Raises:
            ThvLlmError: the file cannot be used.
            UnreachableError: its token has expired.
        """
        from thv_llm.oidc import id_token

        now = self._clock.now()
        token = secret_in(self.path, "oidc.token_file")
        expires_at = id_token.expiry_of(token)
        if expires_at is not None and expires_at <= now:
            why = f"the token in {self.path} expired {now - expires_at:.0f} s ago"
            raise UnreachableError(NO_TOKEN, why=why, next_step="have it renewed by what writes this file")
        return AccessToken(token, expires_at or now + 2 * LOOK_AGAIN_S, now + LOOK_AGAIN_S)

    def at_hand(self) -> Secret | None:
        """Return what the file holds now, if it can be used."""
        try:
            return self.get().value
        except ThvLlmError:
            return None

    def remaining_s(self) -> float:
        """Return for how many seconds the token in the file is valid; 0 when it does not say so."""
        from thv_llm.oidc import id_token

        try:
            expires_at = id_token.expiry_of(self.get().value)
        except ThvLlmError:
            return 0.0
        return expires_at - self._clock.now() if expires_at else 0.0


def request(
    oidc: OidcSettings, http: Provider, environ: Mapping[str, str], metadata: Metadata, *, now: float
) -> Tokens:
    """Ask the provider for a token of the workload itself.

    Args:
        http: knows the client's secret, where there is one.
        now: seconds since the epoch when the request starts.

    Raises:
        RefusedError: the provider refuses, or there is no assertion.
        UnreachableError: no usable response.
    """
    from thv_llm.oidc import token_endpoint

    fields: dict[str, str | Secret] = {
        "grant_type": TOKEN_EXCHANGE if oidc.exchange else "client_credentials",
        **oidc.parameters,
        "scope": " ".join(scope for scope in oidc.scopes if scope not in FOR_USERS),
        **http.authentication(),
    }
    if oidc.grant == "federated":
        proof = assertion(oidc, http, environ)
        if oidc.exchange:
            fields |= {
                "subject_token": proof,
                "subject_token_type": JWT,
                "requested_token_type": ACCESS_TOKEN,
            }
        else:
            fields |= {"client_assertion": proof, "client_assertion_type": JWT_BEARER}
    response = http.post_form(metadata.token_endpoint, fields, is_basic=metadata.is_basic)
    if response.status != 200:
        error = token_endpoint.refused(NO_TOKEN, response, fields, later=token_endpoint.PERSISTS)
        if error.next_step == token_endpoint.LOGIN:
            raise RefusedError(error.what, why=error.why, next_step=CHECK)
        raise error
    found = token_endpoint.for_gateway(token_endpoint.tokens(response, now=now), oidc, now=now)
    return found._replace(refresh=None)


def assertion(oidc: OidcSettings, http: Provider, environ: Mapping[str, str]) -> Secret:
    """Return the token that the workload has, from where the settings say.

    Raises:
        RefusedError: it is not there.
        UnreachableError: GitHub Actions gives none.
    """
    if oidc.assertion_file:
        return secret_in(oidc.assertion_file, "oidc.assertion_file")
    name, _, audience = oidc.assertion_env.partition(":")
    if name == GITHUB:
        return _of_github(http, environ, audience or oidc.issuer)

    def missing(why: str) -> ThvLlmError:
        what = f"cannot use the variable {name} (oidc.assertion_env)"
        return RefusedError(what, why=why, next_step="run where it is set; for the service: restart it there")

    return _word(environ.get(name, "").encode("utf-8", "replace"), missing)


def _of_github(http: Provider, environ: Mapping[str, str], audience: str) -> Secret:
    """Ask GitHub Actions for the job's ID token."""
    from urllib.parse import quote

    url, token = environ.get(GITHUB_URL), environ.get(GITHUB_TOKEN)
    if not url or not token:
        raise RefusedError(
            "GitHub Actions gives this job no ID token",
            why=f"{GITHUB_URL} is not set",
            next_step=PERMISSION,
        )
    response = http.get(
        f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}", token=Secret(token)
    )
    value = (response.json or {}).get("value")
    if response.status != 200 or not isinstance(value, str):
        why = f"{shown(response.host)} returned HTTP {response.status}"
        raise InvalidResponseError("GitHub Actions gave no ID token", why=why, next_step=PERMISSION)
    return _word(
        value.encode("utf-8", "replace"),
        lambda why: InvalidResponseError(NO_TOKEN, why=f"GitHub's token: {why}"),
    )
