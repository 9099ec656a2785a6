"""AES-256-GCM, bytes to bytes.

Strategy: the OpenSSL that Python's own `_hashlib` is linked to, reached through ctypes; else
a libcrypto by name; else sixty lines of Python. The session file is about a kilobyte, so the
slow one takes 2 ms. Loading a library by name never happens on macOS, where touching
/usr/lib/libcrypto.dylib aborts the process, and never through `find_library`, which starts a
compiler.

The Python implementation is not constant in time. What it would leak goes to programs of the
same user, who can read the key file anyway.

Source: NIST SP 800-38D (GCM), FIPS 197 (AES).
"""

from __future__ import annotations

import hmac
from functools import cache
from typing import Any

from thv_llm import system

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

_SET_IV_LENGTH, _GET_TAG, _SET_TAG = 0x9, 0x10, 0x11  # EVP_CTRL_AEAD_* in openssl/evp.h


class InvalidTag(ValueError):
    """The ciphertext, its tag, the nonce, the associated data or the key is not the right one."""


def encrypt(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """Return ciphertext and tag. A nonce must never be used twice with one key."""
    return best().encrypt(key, nonce, plain, associated)


def decrypt(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Return the plain text.

    Raises:
        InvalidTag: something was changed, cut or swapped, or the key is another one.
    """
    return best().decrypt(key, nonce, sealed, associated)


@cache
def best() -> OpenSsl | Python:
    """Return OpenSSL's implementation, or ours when there is no OpenSSL to be had."""
    return OpenSsl.load() or Python()


class OpenSsl:
    """AES-256-GCM by OpenSSL's EVP functions."""

    def __init__(self, library: Any) -> None:
        from ctypes import c_void_p

        library.EVP_CIPHER_CTX_new.restype = c_void_p
        library.EVP_aes_256_gcm.restype = c_void_p
        library.EVP_CIPHER_CTX_free.argtypes = [c_void_p]
        library.EVP_CIPHER_CTX_free.restype = None
        self._lib = library

    @classmethod
    def load(cls) -> OpenSsl | None:
        """Return it, or None when no OpenSSL can be reached."""
        try:
            import ctypes
        except ImportError:
            return None
        for name in _library_names():
            try:
                return cls(ctypes.CDLL(name))
            except (OSError, AttributeError):  # not there, or without these functions
                continue
        return None

    def encrypt(self, key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        """Return ciphertext and tag."""
        return self._run(True, key, nonce, plain, associated, b"")

    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the plain text, or raise InvalidTag."""
        if len(sealed) < TAG_BYTES:
            raise InvalidTag
        return self._run(False, key, nonce, sealed[:-TAG_BYTES], associated, sealed[-TAG_BYTES:])

    def _run(self, seal: bool, key: bytes, nonce: bytes, data: bytes, associated: bytes, tag: bytes) -> bytes:
        from ctypes import byref, c_int, c_void_p, create_string_buffer

        _check_sizes(key, nonce)
        lib, out, size = self._lib, create_string_buffer(len(data) + TAG_BYTES), c_int()
        context = c_void_p(lib.EVP_CIPHER_CTX_new())
        try:
            init = (context, c_void_p(lib.EVP_aes_256_gcm()), None, None, None, int(seal))
            _must(lib.EVP_CipherInit_ex(*init))
            _must(lib.EVP_CIPHER_CTX_ctrl(context, _SET_IV_LENGTH, len(nonce), None))
            _must(lib.EVP_CipherInit_ex(context, None, None, key, nonce, int(seal)))
            if not seal:
                _must(lib.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_BYTES, tag))
            if associated:
                _must(lib.EVP_CipherUpdate(context, None, byref(size), associated, len(associated)))
            if data:  # an update of nothing would be taken for the end by some versions
                _must(lib.EVP_CipherUpdate(context, out, byref(size), data, len(data)))
            if lib.EVP_CipherFinal_ex(context, create_string_buffer(TAG_BYTES), byref(size)) != 1:
                raise InvalidTag
            if not seal:
                return out.raw[: len(data)]
            made = create_string_buffer(TAG_BYTES)
            _must(lib.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_BYTES, made))
            return out.raw[: len(data)] + made.raw
        finally:
            lib.EVP_CIPHER_CTX_free(context)


def _library_names() -> list[str]:
    try:
        import _hashlib

        own = [_hashlib.__file__]
    except (ImportError, AttributeError):  # no OpenSSL at all, or linked into the interpreter
        own = []
    by_name = ["libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"]
    return own + (by_name if system.NAME == "linux" else [])


def _must(result: int) -> None:
    if result != 1:
        raise ValueError("OpenSSL refused the arguments")


def _check_sizes(key: bytes, nonce: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError("the key must have 32 bytes")
    if not nonce:
        raise ValueError("the nonce must not be empty")


class Python:
    """AES-256-GCM in plain Python, for an interpreter without OpenSSL."""

    def encrypt(self, key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        """Return ciphertext and tag."""
        _check_sizes(key, nonce)
        words = _expand(key)
        first = _first_counter(words, nonce)
        text = _keystream_xor(words, first, plain)
        return text + _tag(words, first, text, associated)

    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the plain text, or raise InvalidTag."""
        _check_sizes(key, nonce)
        if len(sealed) < TAG_BYTES:
            raise InvalidTag
        text, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
        words = _expand(key)
        first = _first_counter(words, nonce)
        if not hmac.compare_digest(tag, _tag(words, first, text, associated)):
            raise InvalidTag
        return _keystream_xor(words, first, text)


def _double(byte: int) -> int:
    """Multiply by x in GF(2^8)."""
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


@cache
def _s_box() -> bytes:
    box, p, q = bytearray(256), 1, 1
    while True:  # p runs through all powers of 3, q through those of 1/3
        p ^= _double(p)
        q ^= q << 1
        q ^= q << 2
        q = (q ^ (q << 4)) & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        rotated = q ^ _rotate(q, 1) ^ _rotate(q, 2) ^ _rotate(q, 3) ^ _rotate(q, 4)
        box[p] = rotated ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return bytes(box)


def _rotate(byte: int, by: int) -> int:
    return ((byte << by) | (byte >> (8 - by))) & 0xFF


def _expand(key: bytes) -> list[bytes]:
    """Return the 15 round keys (FIPS 197 section 5.2)."""
    box, words, constant = _s_box(), [key[i : i + 4] for i in range(0, KEY_BYTES, 4)], 1
    for i in range(8, 60):
        last = words[-1]
        if i % 8 == 0:
            last = bytes(box[b] for b in last[1:] + last[:1])
            last = bytes((last[0] ^ constant,)) + last[1:]
            constant = _double(constant)
        elif i % 8 == 4:
            last = bytes(box[b] for b in last)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], last, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


_SHIFTED = [0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11]


def _block(round_keys: list[bytes], block: bytes) -> bytes:
    """Encrypt 16 bytes (FIPS 197 section 5.1)."""
    box, state = _s_box(), _xor(block, round_keys[0])
    for round_key in round_keys[1:-1]:
        state = bytes(box[state[i]] for i in _SHIFTED)
        mixed = bytearray()
        for c in range(0, 16, 4):
            a0, a1, a2, a3 = state[c : c + 4]
            every = a0 ^ a1 ^ a2 ^ a3
            for a, b in ((a0, a1), (a1, a2), (a2, a3), (a3, a0)):
                mixed.append(a ^ every ^ _double(a ^ b))
        state = _xor(bytes(mixed), round_key)
    return _xor(bytes(box[state[i]] for i in _SHIFTED), round_keys[-1])


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=False))


def _keystream_xor(round_keys: list[bytes], first: bytes, data: bytes) -> bytes:
    out, head, counter = [], first[:12], int.from_bytes(first[12:])
    for i in range(0, len(data), 16):
        counter = (counter + 1) & 0xFFFFFFFF
        out.append(_xor(data[i : i + 16], _block(round_keys, head + counter.to_bytes(4))))
    return b"".join(out)


def _first_counter(round_keys: list[bytes], nonce: bytes) -> bytes:
    if len(nonce) == NONCE_BYTES:
        return nonce + b"\0\0\0\1"
    return _ghash(round_keys, b"", nonce)


def _tag(round_keys: list[bytes], first: bytes, text: bytes, associated: bytes) -> bytes:
    return _xor(_ghash(round_keys, associated, text), _block(round_keys, first))


def _ghash(round_keys: list[bytes], associated: bytes, text: bytes) -> bytes:
    """GHASH of SP 800-38D section 6.4 over the padded parts and their lengths in bits."""
    h = int.from_bytes(_block(round_keys, bytes(16)))
    lengths = (len(associated) * 8).to_bytes(8) + (len(text) * 8).to_bytes(8)
    whole = _padded(associated) + _padded(text) + lengths
    y = 0
    for i in range(0, len(whole), 16):
        y = _multiply(y ^ int.from_bytes(whole[i : i + 16]), h)
    return y.to_bytes(16)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _multiply(x: int, y: int) -> int:
    """Multiply in GF(2^128), bits in GCM's order (SP 800-38D section 6.3)."""
    z = 0
    for bit in range(127, -1, -1):
        if (x >> bit) & 1:
            z ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return z
