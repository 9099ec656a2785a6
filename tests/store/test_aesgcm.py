from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.corpora import wycheproof
from thv_llm.store import aesgcm

OPENSSL_NONCE_LIMIT = 256
"""Nonce bytes; OpenSSL refuses longer ones, which GCM allows."""

Cipher = aesgcm.OpenSsl | aesgcm.Python

openssl = aesgcm.OpenSsl.load()
CIPHERS = [pytest.param(aesgcm.Python(), id="python")] + (
    [pytest.param(openssl, id="openssl")] if openssl else []
)


def vectors() -> list[dict[str, Any]]:
    return [test for group in wycheproof("aes_gcm") if group["keySize"] == 256 for test in group["tests"]]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_all_wycheproof_vectors_for_256_bit_keys_come_out_as_published(cipher: Cipher) -> None:
    wrong = [test["tcId"] for test in vectors() if not agrees(cipher, test)]

    assert len(vectors()) == 105
    assert wrong == []


def agrees(cipher: Cipher, test: dict[str, Any]) -> bool:
    key, nonce, associated, plain = (bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg"))
    sealed = bytes.fromhex(test["ct"] + test["tag"])
    try:
        opened = cipher.decrypt(key, nonce, sealed, associated)
        made = cipher.encrypt(key, nonce, plain, associated)
        return test["result"] == "valid" and opened == plain and made == sealed
    except ValueError:
        too_long = cipher is openssl and len(nonce) >= OPENSSL_NONCE_LIMIT
        return test["result"] == "invalid" or too_long


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_change_of_any_byte_is_noticed(cipher: Cipher) -> None:
    key, nonce = bytes(range(32)), bytes(12)
    sealed = cipher.encrypt(key, nonce, b"a refresh token", b"header")

    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(aesgcm.InvalidTag):
            cipher.decrypt(key, nonce, bytes(changed), b"header")
    for cut in (b"", sealed[:15], sealed[:-1], sealed[1:]):
        with pytest.raises(aesgcm.InvalidTag):
            cipher.decrypt(key, nonce, cut, b"header")
    with pytest.raises(aesgcm.InvalidTag):
        cipher.decrypt(key, nonce, sealed, b"other")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_keys_and_nonces_of_a_wrong_size_are_refused(cipher: Cipher) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        cipher.encrypt(bytes(16), bytes(12), b"", b"")
    with pytest.raises(ValueError, match="nonce"):
        cipher.decrypt(bytes(32), b"", bytes(16), b"")


def test_both_implementations_read_what_the_other_wrote() -> None:
    if openssl is None:
        pytest.skip("no OpenSSL here")
    python = aesgcm.Python()
    key, nonce = bytes(range(1, 33)), bytes(range(12))

    for length in (0, 1, 15, 16, 17, 1500):
        plain, associated = bytes(length), b"h" * (length % 40)
        sealed = openssl.encrypt(key, nonce, plain, associated)
        assert python.encrypt(key, nonce, plain, associated) == sealed
        assert python.decrypt(key, nonce, sealed, associated) == plain


def test_without_ctypes_the_python_implementation_is_used() -> None:
    program = (
        "import sys; sys.modules['ctypes'] = None\n"
        "from thv_llm.store import aesgcm; print(type(aesgcm.best()))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "aesgcm.Python" in done.stdout, done.stderr
