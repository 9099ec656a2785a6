"""ID tokens, checked: who logged in. And the one reader of JWTs.

Rule 1: a token that breaks a rule of OpenID Connect Core 3.1.3.7 is refused, with the claim
        named; its values are shown only where they help (issuer, audience).
Rule 2: RS256 signatures are verified with the provider's keys. Of another algorithm we cannot
        tell; then TLS stands for it, as item 6 there allows for a token that came straight
        from the token endpoint, and it is never called verified. `none` and the HS family
        are refused: no provider can use them with a public client.
Rule 3: keys are fetched once more when the token names one that we do not have, because a
        provider can just have changed them; and only once.
Rule 4: an RS256 signature is not parsed: the one encoding that is right is built and compared, which
        leaves no room for forged padding. Public keys only, so timing can give nothing away.

Pure. Source: OpenID Connect Core 1.0; RFC 7515; RFC 8017 section 8.2.2; RFC 7518 sections 3.3 and 6.3.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thv_llm import system
from thv_llm.errors import InvalidResponseError, shown
from thv_llm.net.http_client import JsonObject, json_object
from thv_llm.secret import Secret

LEEWAY_S = 120.0  # how far the clocks of provider and client can differ
WHAT = "cannot use the provider's ID token"
AGAIN = "thv-llm login; if the problem persists, contact your administrator"
MIN_KEY_BITS = 2048  # RFC 7518 section 3.3
MAX_KEY_BITS = 16384  # above, one signature keeps the processor busy for seconds
MAX_EXPONENT_BITS = 64  # likewise; in practice it is 65537

# DigestInfo of SHA-256 without the digest itself (RFC 8017 section 9.2, note 1).
_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Identity:
    """Who logged in.

    Attributes:
        who: name for people: e-mail, user name, name or, failing all, the subject.
        is_verified: the signature was checked.
    """

    subject: str
    who: str
    is_verified: bool


def check(
    token: Secret,
    *,
    issuer: str,
    client_id: str,
    nonce: Secret | None,
    access: Secret,
    now: float,
    fetch_keys: Callable[[], list[Any]] | None,
) -> Identity:
    """Check an ID token that came straight from the token endpoint.

    Args:
        nonce: None for a flow without one (device).
        access: the access token that came along, for `at_hash`.
        now: seconds since the epoch.
        fetch_keys: returns the `keys` of the provider's JWKS; None when it names none.

    Raises:
        InvalidResponseError: names the claim or part that is wrong.

    Source: OpenID Connect Core 1.0 section 3.1.3.7.
    """
    header, claims, signature, signed = _parts(token)
    is_verified = _check_signature(header, signature, signed, fetch_keys)
    _check_issuer_and_audience(claims, issuer, client_id)
    _check_authorized_party(claims, client_id)
    _check_times(claims, now)
    if nonce is not None:
        found = claims.get("nonce")
        if not isinstance(found, str) or Secret(found) != nonce:
            raise _wrong("nonce is not the one of this login" if found else "there is no nonce")
    _check_access_hash(claims, str(header.get("alg")), access)
    subject = _subject(claims)
    return Identity(subject, _name(claims, subject), is_verified)


def check_refreshed(token: Secret, *, issuer: str, client_id: str, subject: str) -> None:
    """Check the ID token of a refresh: from the same issuer, for this client, about the same user.

    Args:
        subject: who logged in; "" when that is not known.

    Raises:
        InvalidResponseError: names the claim that differs.

    Source: OpenID Connect Core 1.0 section 12.2.
    """
    _, claims, _, _ = _parts(token)
    _check_issuer_and_audience(claims, issuer, client_id)
    if subject and _subject(claims) != subject:
        raise _wrong("sub is not who logged in")


def unchecked_claims(token: Secret) -> JsonObject:
    """Return the claims of a token that is a JWT, {} of any other. To be shown, never to be trusted."""
    try:
        return _parts(token)[1]
    except InvalidResponseError:
        return {}


def expiry_of(access: Secret) -> float | None:
    """Return the `exp` of an access token that happens to be a JWT, unchecked; None if it is none."""
    try:
        return _number(unchecked_claims(access), "exp")
    except InvalidResponseError:
        return None


def _parts(token: Secret) -> tuple[JsonObject, JsonObject, bytes, bytes]:
    """Return header, claims, signature, and the bytes that are signed. Source: RFC 7515 section 3.1."""
    pieces = token.reveal().split(".")
    if len(pieces) != 3:
        raise _wrong("it is not a signed JWT of three parts")
    try:
        header, claims = (json_object(base64url_decode(piece)) for piece in pieces[:2])
        signature = base64url_decode(pieces[2])
    except ValueError as error:
        raise _wrong(f"a part of it {error}") from None
    return header, claims, signature, ".".join(pieces[:2]).encode()


def _check_signature(
    header: JsonObject, signature: bytes, signed: bytes, fetch_keys: Callable[[], list[Any]] | None
) -> bool:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise _wrong("its header names no algorithm (alg)")
    if algorithm.lower() == "none" or algorithm.upper().startswith("HS"):
        raise _wrong(f"it is signed by {shown(algorithm)}, which proves nothing to a public client")
    if "crit" in header:  # RFC 7515 section 4.1.11: what we do not know must not be skipped
        raise _wrong("its header has extensions that must be understood (crit)")
    if algorithm != "RS256" or fetch_keys is None:
        return False
    kid = header.get("kid")
    keys = _matching(fetch_keys(), kid) or _matching(fetch_keys(), kid)
    if not keys:
        raise _wrong(f"the provider has no RSA key {shown(kid)} to check its signature with")
    if not any(_is_signed(jwk, signed, signature) for jwk in keys):
        raise _wrong("its signature is wrong")
    return True


def _matching(keys: list[Any], kid: object) -> list[dict[str, Any]]:
    """Return the keys that can have signed: the one of that `kid`, or all when there is no `kid`."""
    return [
        jwk
        for jwk in keys
        if isinstance(jwk, dict)
        and jwk.get("kty") == "RSA"
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", "RS256") == "RS256"
        and (kid is None or jwk.get("kid") == kid)
    ]


def _is_signed(jwk: dict[str, Any], signed: bytes, signature: bytes) -> bool:
    try:
        return is_signed_by(public_key(jwk), signed, signature)
    except ValueError as error:
        raise _wrong(f"the provider's key {error}") from None


def _check_issuer_and_audience(claims: JsonObject, issuer: str, client_id: str) -> None:
    if claims.get("iss") != issuer:
        raise _wrong(f"iss is {shown(claims.get('iss'), 200)}, not {issuer!r}")
    if client_id not in _audience(claims):
        raise _wrong(f"aud is {shown(claims.get('aud'), 200)}: it is not for {client_id!r}")


def _check_authorized_party(claims: JsonObject, client_id: str) -> None:
    azp = claims.get("azp")
    if azp is not None and azp != client_id:
        raise _wrong(f"azp is {shown(azp)}, not {client_id!r}")
    if len(_audience(claims)) > 1 and azp is None:
        raise _wrong("aud names other clients, too, and azp does not say that it was made for this one")


def _audience(claims: JsonObject) -> list[str]:
    aud = claims.get("aud")
    listed = [aud] if isinstance(aud, str) else aud
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise _wrong("there is no aud" if aud is None else "aud is neither a string nor a list of strings")
    return listed


def _check_times(claims: JsonObject, now: float) -> None:
    expires, issued, not_before = (_number(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise _wrong(f"there is no {'exp' if expires is None else 'iat'}")
    sets = f"set this machine's clock: {system.command_line(system.setting_the_clock())}; then: thv-llm login"
    if expires + LEEWAY_S <= now:
        raise _wrong(f"it expired {now - expires:.0f} s ago (exp) by this machine's clock", sets)
    if issued - LEEWAY_S > now:
        raise _wrong(f"it was made {issued - now:.0f} s in the future (iat) by this machine's clock", sets)
    if not_before is not None and not_before - LEEWAY_S > now:
        raise _wrong("it is not valid yet (nbf) by this machine's clock", sets)


def _number(claims: JsonObject, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise _wrong(f"{name} is not a point in time")
    return float(value)


def _subject(claims: JsonObject) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _wrong("there is no sub" if subject is None else "sub is not a name")
    return subject


def _check_access_hash(claims: JsonObject, algorithm: str, access: Secret) -> None:
    """Check `at_hash`, which ties the two tokens together. Source: OIDC Core section 3.1.3.6."""
    bits = algorithm[-3:]
    if "at_hash" not in claims or bits not in ("256", "384", "512"):
        return
    digest = hashlib.new(f"sha{bits}", access.reveal().encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims["at_hash"] != half:
        raise _wrong("at_hash does not match the access token that came along")


def _name(claims: JsonObject, subject: str) -> str:
    for name in ("email", "preferred_username", "name"):
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value if value.isprintable() and len(value) <= 80 else shown(value)
    return subject if subject.isprintable() and len(subject) <= 80 else shown(subject)


def _wrong(why: str, next_step: str = AGAIN) -> InvalidResponseError:
    return InvalidResponseError(WHAT, why=why, next_step=next_step)


@dataclass(frozen=True)
class PublicKey:
    """An RSA key that is fit for use."""

    modulus: int
    exponent: int

    @property
    def size_bytes(self) -> int:
        """How long each signature of this key is."""
        return (self.modulus.bit_length() + 7) // 8


def public_key(jwk: dict[str, Any]) -> PublicKey:
    """Return the key that a JWK of type RSA holds.

    Raises:
        ValueError: with what is wrong with it, in words.
    """
    try:
        modulus, exponent = (int.from_bytes(base64url_decode(jwk[name]), "big") for name in ("n", "e"))
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


def base64url_decode(text: str) -> bytes:
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
