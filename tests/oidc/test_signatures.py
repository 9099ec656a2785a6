"""RS256, by the vectors of Wycheproof and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpora import wycheproof
from tests.fakes import rsa
from thv_llm.oidc import id_token


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_wycheproof(bits: int) -> None:
    groups = wycheproof(f"rsa_signature_{bits}_sha256")

    wrong = []
    for group in groups:
        numbers = (int(group["publicKey"][name], 16) for name in ("modulus", "publicExponent"))
        key = id_token.PublicKey(*numbers)
        for case in group["tests"]:
            found = id_token.is_signed_by(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            # "acceptable" are encodings that no signer should make: ours compares, so it takes none.
            if found != (case["result"] == "valid"):
                wrong.append(case["tcId"])

    assert sum(len(group["tests"]) for group in groups) > 250
    assert wrong == []


def test_a_signature_is_good_for_its_key_and_message_only() -> None:
    key, other = id_token.public_key(rsa.KEY.jwk()), id_token.public_key(rsa.OTHER_KEY.jwk())
    signature = rsa.KEY.sign(b"message")

    assert id_token.is_signed_by(key, b"message", signature)
    assert not id_token.is_signed_by(key, b"massage", signature)
    assert not id_token.is_signed_by(other, b"message", signature)
    assert not id_token.is_signed_by(key, b"message", b"\x00" + signature)
    assert not id_token.is_signed_by(key, b"message", signature[:-1])
    assert not id_token.is_signed_by(key, b"message", b"")


def test_a_signature_is_not_taken_plus_the_modulus() -> None:
    key = id_token.public_key(rsa.KEY.jwk())
    number = int.from_bytes(rsa.KEY.sign(b"message"), "big") + rsa.KEY.n

    assert not id_token.is_signed_by(key, b"message", number.to_bytes(257, "big"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n": rsa.b64(b"\xff" * 255)}, "shorter"),
        ({"n": rsa.b64(b"\xff" * 2049)}, "too large"),
        ({"n": rsa.b64(b"\xfe" * 256)}, "no RSA key has"),
        ({"e": rsa.b64(b"\x01")}, "no RSA key has"),
        ({"e": rsa.b64(b"\x02")}, "no RSA key has"),
        ({"e": rsa.b64(b"\xff" * 9)}, "too large"),
        ({"e": ""}, "no RSA key has"),
        ({"n": 7}, "not an RSA key"),
        ({"e": None}, "not an RSA key"),
        ({"n": "AQAB=="}, "not an RSA key"),
        ({"n": "AQ AB"}, "not an RSA key"),
    ],
)
def test_keys_that_are_unfit_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError) as caught:
        id_token.public_key({**rsa.KEY.jwk(), **change})

    assert why in str(caught.value)


@pytest.mark.parametrize("text", ["a", "YQ==", "YQ\n", "Y Q", "+/+/", "YÄ"])
def test_only_base64url_is_decoded(text: str) -> None:
    with pytest.raises(ValueError):
        id_token.base64url_decode(text)


def test_base64url_is_decoded() -> None:
    assert id_token.base64url_decode("-_8") == b"\xfb\xff"
    assert id_token.base64url_decode("") == b""
