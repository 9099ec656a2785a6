"""RS256 signatures with what Python brings: one `pow`.

Public keys only, so there is no secret that timing could give away. The signature is not
parsed: the one encoding that is right is built and compared, which leaves no room for forged
padding.

Pure. Source: RFC 8017 section 8.2.2; RFC 7518 sections 3.3 and 6.3.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

MIN_KEY_BITS = 2048  # RFC 7518 section 3.3
MAX_KEY_BITS = 16384  # above, one signature keeps the processor busy for seconds
MAX_EXPONENT_BITS = 64  # likewise; in practice it is 65537

# DigestInfo of SHA-256 without the digest itself (RFC 8017 section 9.2, note 1).
_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class PublicKey:
    """An RSA key that is fit for use."""

    modulus: int
    exponent: int

    @property
    def size_bytes(self) -> int:
        """How long each signature of this key is."""
        return (self.modulus.bit_length() + 7) // 8


def key_of(jwk: dict[str, Any]) -> PublicKey:
    """Return the key that a JWK of type RSA holds.

    Raises:
        ValueError: with what is wrong with it, in words.
    """
    try:
        modulus, exponent = (int.from_bytes(decode(jwk[name]), "big") for name in ("n", "e"))
    except (KeyError, TypeError, ValueError):
        raise ValueError("is not an RSA key") from None
    if modulus.bit_length() < MIN_KEY_BITS:
        raise ValueError(f"is shorter than {MIN_KEY_BITS} bits")
    if modulus.bit_length() > MAX_KEY_BITS or exponent.bit_length() > MAX_EXPONENT_BITS:
        raise ValueError("is too large")
    if exponent < 3 or exponent % 2 == 0 or modulus % 2 == 0:
        raise ValueError("has numbers that no RSA key has")
    return PublicKey(modulus, exponent)


def is_signed_by(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is that key's RS256 signature of `message`."""
    number = int.from_bytes(signature, "big")
    if len(signature) != key.size_bytes or number >= key.modulus:
        return False
    found = pow(number, key.exponent, key.modulus).to_bytes(key.size_bytes, "big")
    digest = hashlib.sha256(message).digest()
    padding = b"\xff" * (key.size_bytes - len(_PREFIX) - len(digest) - 3)
    return found == b"\x00\x01" + padding + b"\x00" + _PREFIX + digest


def decode(text: str) -> bytes:
    """Return the bytes of base64url without padding, as JWTs write it.

    Raises:
        ValueError: anything else, such as characters that other decoders skip.

    Source: RFC 7515 section 2.
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("is not base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("is not base64url") from None
