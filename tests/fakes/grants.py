"""What the fake provider has given out: codes, refresh tokens, access tokens.

A session is what stands behind a refresh token and all its successors. When a refresh token
that was used before comes back, the whole session ends, as with real providers.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests import canaries
from tests.fakes import rsa


class OAuthError(Exception):
    """An error response of the token endpoint."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.description = description


@dataclass(frozen=True)
class Grant:
    """What a user has allowed."""

    client_id: str
    scope: str
    subject: str
    nonce: str = ""
    audience: str = "gateway"
    is_offline: bool = True
    session: str = field(default_factory=lambda: secrets.token_hex(8))


class Grants:
    """The provider's memory; safe for many threads.

    Attributes:
        access_tokens: claims by token, also of opaque ones.
        refreshes: how many refreshes have worked.
        reuses: how many times a used refresh token came back and ended its session.
        given_out: every code and token there ever was, so that a test can look for leaks; each
            carries the canaries' mark.
    """

    def __init__(self, now: Callable[[], float], *, rotates: bool, reuse_grace_s: float) -> None:
        self._now = now
        self.rotates = rotates
        self._reuse_grace_s = reuse_grace_s
        self._lock = threading.RLock()
        self._codes: dict[str, tuple[Grant, str, str]] = {}
        self._device_codes: dict[str, Grant] = {}
        self._live: dict[str, Grant] = {}
        self._used: dict[str, tuple[Grant, str, float]] = {}  # token: grant, its successor, when
        self._ended: set[str] = set()
        self.access_tokens: dict[str, dict[str, Any]] = {}
        self.given_out: list[str] = []
        self.refreshes = 0
        self.reuses = 0

    def _new(self, kind: str) -> str:
        text = f"{kind}-{canaries.MARK}-{secrets.token_urlsafe(32)}"
        self.given_out.append(text)
        return text

    def new_code(self, grant: Grant, redirect_uri: str, challenge: str) -> str:
        """Return a fresh authorization code."""
        with self._lock:
            code = self._new("code")
            self._codes[code] = grant, redirect_uri, challenge
            return code

    def redeem_code(self, form: dict[str, str]) -> Grant:
        """Take a code back, once, from the client that holds its verifier."""
        import hashlib

        with self._lock:
            found = self._codes.pop(form.get("code", ""), None)
        if found is None:
            raise OAuthError("invalid_grant", "no such code")
        grant, redirect_uri, challenge = found
        verifier = form.get("code_verifier", "")
        canaries.note("code verifier", verifier)
        digest = hashlib.sha256(verifier.encode()).digest()
        if rsa.b64(digest) != challenge:
            raise OAuthError("invalid_grant", "PKCE verification failed")
        if form.get("redirect_uri") != redirect_uri or form.get("client_id") != grant.client_id:
            raise OAuthError("invalid_grant", "redirect_uri or client_id differs")
        return grant

    def new_device_code(self, grant: Grant) -> str:
        """Return a fresh device code."""
        with self._lock:
            code = self._new("device")
            self._device_codes[code] = grant
            return code

    def redeem_device_code(self, code: str) -> Grant:
        """Take a device code back, once."""
        with self._lock:
            grant = self._device_codes.pop(code, None)
        if grant is None:
            raise OAuthError("invalid_grant", "no such device code")
        return grant

    def new_refresh_token(self, grant: Grant) -> str:
        """Return a fresh refresh token."""
        with self._lock:
            token = self._new("rt")
            self._live[token] = grant
            return token

    def refresh(self, token: str, client_id: str) -> tuple[Grant, str | None]:
        """Return the grant behind a refresh token, and the new token when there is one.

        Raises:
            OAuthError: invalid_grant; a token that was used before ends its session.
        """
        with self._lock:
            grant = self._live.get(token)
            if grant is None:
                return self._reused(token)
            if grant.session in self._ended or grant.client_id != client_id:
                raise OAuthError("invalid_grant", "the session has ended")
            self.refreshes += 1
            if not self.rotates:
                return grant, None
            del self._live[token]
            successor = self.new_refresh_token(grant)
            self._used[token] = grant, successor, self._now()
            return grant, successor

    def _reused(self, token: str) -> tuple[Grant, str | None]:
        if token not in self._used:
            raise OAuthError("invalid_grant", "no such refresh token")
        grant, successor, when = self._used[token]
        in_time = self._now() - when < self._reuse_grace_s
        if in_time and successor in self._live and grant.session not in self._ended:
            return grant, successor
        self.reuses += 1
        self._ended.add(grant.session)
        raise OAuthError("invalid_grant", "this refresh token was used before")

    def is_live(self, token: str) -> bool:
        """Tell whether a refresh token still works."""
        with self._lock:
            return token in self._live and self._live[token].session not in self._ended

    def new_access_token(self, claims: dict[str, Any], *, opaque: bool) -> str:
        """Return a fresh access token with these claims."""
        claims = {**claims, "jti": f"{canaries.MARK}-{secrets.token_hex(8)}"}
        header = {"mark": canaries.MARK, "alg": "RS256", "kid": rsa.KEY.kid, "typ": "at+jwt"}
        token = self._new("at") if opaque else rsa.jwt(header, claims, rsa.KEY)
        with self._lock:
            self.given_out.append(token)
            self.access_tokens[token] = claims
        return token

    def revoke(self, token: str) -> None:
        """End the session of a token; unknown ones are fine (RFC 7009 section 2.2)."""
        with self._lock:
            grant = self._live.pop(token, None) or self._used.get(token, (None,))[0]
            claims = self.access_tokens.get(token)
            if grant is not None:
                self._ended.add(grant.session)
            elif claims is not None:
                self._ended.add(claims["sid"])

    def has_ended(self, session: str) -> bool:
        """Tell whether a session was revoked or has died by reuse."""
        with self._lock:
            return session in self._ended
