"""The claims of an ID token. What a provider can do wrong with them: `test_misbehaviors`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import rsa
from thv_llm.errors import InvalidResponseError
from thv_llm.oidc import id_token
from thv_llm.oidc.id_token import Identity
from thv_llm.secret import Secret

ISSUER = "https://idp.example"
NOW = 1_800_000_000.0
CLAIMS = {"iss": ISSUER, "sub": "u1", "aud": "cli", "iat": NOW, "exp": NOW + 300, "nonce": "n"}
ACCESS = Secret("dNZX1hEZ9wBCzNL40Upu646bdzQA")


class Jwks:
    """Key sets that are fetched one after the other."""

    def __init__(self, *sets: list[Any]) -> None:
        self.sets = list(sets)
        self.fetches = 0

    def __call__(self) -> list[Any]:
        self.fetches += 1
        return self.sets.pop(0) if len(self.sets) > 1 else self.sets[0]


def token(header: dict[str, Any] | None = None, **claims: Any) -> Secret:
    found = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return Secret(rsa.jwt({"alg": "RS256", "kid": "key-1", **(header or {})}, found, rsa.KEY))


def check(jwt: Secret, keys: Jwks | None = None, **changes: Any) -> Identity:
    fetch_keys = keys or Jwks([rsa.KEY.jwk()])
    expected = {"nonce": Secret("n"), "access": ACCESS, "now": NOW, "fetch_keys": fetch_keys, **changes}
    return id_token.check(jwt, issuer=ISSUER, client_id="cli", **expected)


@pytest.mark.parametrize(
    ("claims", "who"),
    [
        ({}, "u1"),
        ({"name": "Jo Doe"}, "Jo Doe"),
        ({"name": "Jo Doe", "preferred_username": "jo"}, "jo"),
        ({"preferred_username": "jo", "email": "jo@example.com"}, "jo@example.com"),
        ({"email": ""}, "u1"),
        ({"email": ["jo@example.com"]}, "u1"),
        ({"email": "\x1b[2Jjo"}, "'\\x1b[2Jjo'"),
        ({"sub": "u\n1"}, "'u\\n1'"),
    ],
)
def test_the_user_has_a_name_fit_to_be_shown(claims: dict[str, Any], who: str) -> None:
    assert check(token(**claims)).who == who


def test_a_signature_that_was_checked_is_said_to_be() -> None:
    assert check(token()) == Identity("u1", "u1", True)
    assert not check(token(), fetch_keys=None).is_verified
    assert not check(token({"alg": "PS256"})).is_verified


@pytest.mark.parametrize("seconds", [0.0, 119.0, -300.0, -419.0])
def test_clocks_may_differ_by_two_minutes(seconds: float) -> None:
    assert check(token(), now=NOW - seconds).subject == "u1"


@pytest.mark.parametrize(("seconds", "says"), [(121.0, "in the future"), (-421.0, "expired 121 s ago")])
def test_clocks_that_differ_by_more_are_blamed(seconds: float, says: str) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        check(token(), now=NOW - seconds)

    assert says in str(caught.value)
    assert "clock" in str(caught.value)


@pytest.mark.parametrize("name", ["nonce", "aud", "iss", "azp"])
def test_half_a_character_in_a_claim_is_one_more_wrong_value(name: str) -> None:
    claims: dict[str, Any] = {name: "\ud800"}
    with pytest.raises(InvalidResponseError):
        check(token(**claims))


def test_a_flow_without_nonce_asks_for_none() -> None:
    assert check(token(nonce=None), nonce=None).subject == "u1"


def test_keys_are_fetched_once_and_once_more_for_an_unknown_kid() -> None:
    known = Jwks([rsa.KEY.jwk()])
    check(token(), known)
    late = Jwks([rsa.OTHER_KEY.jwk()], [rsa.OTHER_KEY.jwk(), rsa.KEY.jwk()])
    check(token(), late)
    never = Jwks([rsa.OTHER_KEY.jwk()])
    with pytest.raises(InvalidResponseError, match="no RSA key 'key-1'"):
        check(token(), never)

    assert (known.fetches, late.fetches, never.fetches) == (1, 2, 2)


def test_keys_for_other_purposes_are_passed_over() -> None:
    others = [
        7,
        {"kty": "EC", "kid": "key-1"},
        {**rsa.KEY.jwk(), "use": "enc"},
        {**rsa.KEY.jwk(), "alg": "RS512"},
    ]

    assert check(token(), Jwks([*others, rsa.KEY.jwk()])).is_verified


def test_at_hash_ties_the_access_token() -> None:
    """The values are those of an example in OpenID Connect Core."""
    access = Secret("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y")
    good = token(at_hash="77QmUPtjPfzWtF2AnpK9RQ")

    assert check(good, access=access).subject == "u1"
    with pytest.raises(InvalidResponseError, match="at_hash"):
        check(good, access=Secret("another"))
    with pytest.raises(InvalidResponseError, match="at_hash"):
        check(token({"alg": "ES384"}, at_hash="77QmUPtjPfzWtF2AnpK9RQ"), access=access)
    assert check(token({"alg": "EdDSA"}, at_hash="x"), access=access).subject == "u1"


def refreshed(subject: str = "u1", **claims: Any) -> None:
    id_token.check_refreshed(token(**claims), issuer=ISSUER, client_id="cli", subject=subject)


def test_a_refreshed_token_may_lack_what_only_a_login_has() -> None:
    refreshed(nonce=None, iat=None, exp=None)
    refreshed(aud=["other", "cli"])
    refreshed(subject="", sub="anybody")


@pytest.mark.parametrize(
    "claims",
    [{"iss": "x"}, {"aud": "x"}, {"sub": "u2"}, {"sub": "\ud800"}, {"sub": None}, {"aud": None}],
)
def test_a_refreshed_token_of_another_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponseError):
        refreshed(**claims)


@pytest.mark.parametrize(
    ("access", "expiry"),
    [
        (token(), NOW + 300),
        (token(exp=None), None),
        (token(exp="soon"), None),
        (Secret("opaque"), None),
        (Secret("a.b.c"), None),
        (Secret(".."), None),
    ],
)
def test_the_expiry_of_an_access_token_is_read_when_there_is_one(
    access: Secret, expiry: float | None
) -> None:
    assert id_token.expiry_of(access) == expiry


def test_errors_hold_nothing_of_the_token() -> None:
    jwt = token(iss="https://evil.example")
    with pytest.raises(InvalidResponseError) as caught:
        check(jwt)

    assert not any(part in repr(caught.value) for part in jwt.reveal().split("."))
