"""What makes one login attempt unguessable: code verifier, state, nonce.

Pure but for the operating system's random numbers.

Source: RFC 7636 section 4.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field

from thv_llm.secret import Secret

RANDOM_BYTES = 48  # 384 bits; 64 characters of base64url, within the 43 to 128 of RFC 7636


def _random() -> Secret:
    return Secret(secrets.token_urlsafe(RANDOM_BYTES))


@dataclass(frozen=True)
class Attempt:
    """The random values of one login attempt, fresh for each."""

    code_verifier: Secret = field(default_factory=_random)
    state: Secret = field(default_factory=_random)
    nonce: Secret = field(default_factory=_random)

    @property
    def code_challenge(self) -> str:
        """The S256 challenge, which is all that the authorization endpoint sees of the verifier."""
        digest = hashlib.sha256(self.code_verifier.reveal().encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
