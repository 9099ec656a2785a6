"""RSA keys for tests, and RS256 with `pow`.

The keys are fixed, so that nothing must be generated, and public, so they are worth nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Key:
    """A private key of 2048 bits."""

    kid: str
    p: int
    q: int
    e: int = 65537

    @property
    def n(self) -> int:
        return self.p * self.q

    @cached_property
    def _crt(self) -> tuple[int, int, int]:
        d = pow(self.e, -1, (self.p - 1) * (self.q - 1))
        return d % (self.p - 1), d % (self.q - 1), pow(self.q, -1, self.p)

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JWKS lists it."""
        n, e = (b64(value.to_bytes((value.bit_length() + 7) // 8, "big")) for value in (self.n, self.e))
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e}

    def sign(self, message: bytes) -> bytes:
        """Return the RS256 signature."""
        number = self._encoded(message)
        d_p, d_q, q_inverse = self._crt
        of_p, of_q = pow(number, d_p, self.p), pow(number, d_q, self.q)
        return (of_q + (q_inverse * (of_p - of_q) % self.p) * self.q).to_bytes(self._size, "big")

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the signature is this key's."""
        return pow(int.from_bytes(signature, "big"), self.e, self.n) == self._encoded(message)

    @property
    def _size(self) -> int:
        return (self.n.bit_length() + 7) // 8

    def _encoded(self, message: bytes) -> int:
        digest = _PREFIX + hashlib.sha256(message).digest()
        padding = b"\xff" * (self._size - len(digest) - 3)
        return int.from_bytes(b"\x00\x01" + padding + b"\x00" + digest, "big")


def jwt(header: dict[str, Any], claims: Any, key: Key) -> str:
    """Return a signed compact JWT; `claims` can be the raw bytes of a payload."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    return f"{signed}.{b64(key.sign(signed.encode()))}"


KEY = Key(
    "key-1",
    0xE96BFC49D0DAA8D2CB48A67367A4EFA06259B5FD1CCF04692982FD335D88AA8AFAA98802252FE31673385FB8195293AF << 640
    | 0xEC9E69BA6BD0B71338689CCBB7AE7A878A3E789D24AD10C52DADB40C91687EB956AE0AD1A6855623AB2D2759BD66FE46
    << 256
    | 0x814353C00C7A98B93A816204717C0E5FE7C8DB8D1D55E668486C52C4DD2291AD,
    0xC0EB170458B4C92EAF60B553404E09AC98806BCC21CDE88E7E6600C4BA7D8FA245EB00D59CE522ACE73937B22CE89862 << 640
    | 0xDA2CBC2A9084690CAB0BE397378C17D704E5D7F84D47BDB603C4A5B6567D7D8110A28ABB048067012FDDF5E111245C47
    << 256
    | 0x3B1A3A3DE2ECBFB1BFC6937F7775DBE50D8E906B3CAA0D29E7BA0807296DCE35,
)
OTHER_KEY = Key(
    "key-2",
    0xFF7AC80D5E44EB59064DEDAA0148B2CD90BE98D164C70A779E783B3E2246CFF1FC45BBCFF9FF47E838481609035C45D7 << 640
    | 0xC40BD617B4E4EE93CDF228A26058DA36ACFF6EAC225996C7628AF1A72B1C37E0346A2D60C88B61DC0CE44C843A016BB6
    << 256
    | 0x671F66C6441A80050A65EC47EEB48226E4A57599E5EA351639F6DE517A3598BF,
    0xEA636ADC7BF677DA2BDA66C224A180A49FFAE0BD16F7E2D49084FBA4504C235F92293F870E490ED7E5BE9112986ED909 << 640
    | 0x790EFCAF3D8D5230E78422AC5AD2235CCFC1A64F67E23FF3312D76BC38F9C3AB809699C7564FB0A1260432AF3D7D1DF8
    << 256
    | 0x36663F6980A359CB713B069B53351F263F053FBC7D52892996F3C9ADCA872141,
)
