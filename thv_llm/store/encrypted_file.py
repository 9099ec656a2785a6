"""The session in an encrypted file, where there is no OS keyring.

    magic, version | key source | scrypt log2(N), r, p | salt | nonce | ciphertext and tag

Everything before the ciphertext is authenticated as associated data. The plain text is a JSON
object from session key to secret, so that changing the settings and back finds the old session.

The key comes from a passphrase (scrypt) or from a random file beside it. The key file protects
against copies of the one file without the other (a backup, a sync folder, a bug report), not
against a program of the same user; `describe` says which of the two is in use. On Windows, without a
passphrase, the system encrypts for its user (DPAPI), in place of cipher and key file.

A file that cannot be opened is an error and stays: there can be more sessions in it. Only a new
`save` moves it aside, and only if no passphrase could open it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from thv_llm import files, system
from thv_llm.secret import Secret
from thv_llm.store import DamagedError, LockedError, StoreError, aesgcm

MAGIC = b"thv-llm session\x01"
KEY_FILE, PASSPHRASE, SYSTEM = b"K", b"P", b"S"
SALT_BYTES = 16
COST = bytes((15, 8, 1))
"""scrypt log2(N), r, p: 32 MiB and a tenth of a second for each guess."""

MAX_COST_LOG2 = 20
"""The cost is read from the file; a forged one must not eat all memory."""

HEADER_BYTES = len(MAGIC) + 1 + len(COST) + SALT_BYTES + aesgcm.NONCE_BYTES
LARGEST_BYTES = 64 << 10
"""Room for any session; what `ready` tries to write."""


def _source(data: bytes) -> bytes:
    """Return where the key of a file comes from."""
    return data[len(MAGIC) : len(MAGIC) + 1]


class EncryptedFile:
    """A store in one file.

    Args:
        key_path: where the random key is, or will be, when there is no passphrase.
        key: use this key and no key file.
        passphrase: None when none is set.
        ask: asks the user for it; None without a terminal.
    """

    name = "file"

    def __init__(
        self,
        path: str,
        key_path: str,
        *,
        key: bytes | None = None,
        passphrase: Secret | None = None,
        ask: Callable[[], Secret] | None = None,
    ) -> None:
        self._path = path
        self._key_path = key_path
        self._given_key = key
        self._passphrase = passphrase
        self._ask = ask
        self._seals = system.SEALS and key is None and passphrase is None
        self._broken_path = f"{path}.broken"
        self._derived: tuple[bytes, bytes] | None = None  # (cost and salt, key): scrypt is slow on purpose

    def describe(self) -> str:
        """Say where the session is and what protects it."""
        data = files.read(self._path)
        if _source(data) == PASSPHRASE if data else self._passphrase:
            return f"the encrypted file {self._path}, protected by your passphrase"
        if _source(data) == SYSTEM if data else self._seals:
            return (
                f"the file {self._path}, encrypted by Windows for your account, "
                "so it is safe from other users and on other machines, not from programs you run"
            )
        return (
            f"the encrypted file {self._path}; its key is in {self._key_path}, "
            "so it is safe in a backup without that file, not from programs you run"
        )

    def load(self, key: str) -> Secret | None:
        """Return the secret of that key, or None when there is none."""
        value = self._read().get(key)
        return Secret(value) if value else None

    def ready(self) -> None:
        """Raise if a file of the largest size cannot be written here."""
        files.private_directory(os.path.dirname(self._path))
        probe = f"{self._path}.probe"
        try:
            files.replace(probe, bytes(LARGEST_BYTES))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(probe)

    def save(self, key: str, value: Secret) -> None:
        """Store durably, and read back."""
        try:
            values = self._read()
        except DamagedError:
            values = {}
            os.replace(self._path, self._broken_path)
        self._write({**values, key: value.reveal()})
        if self.load(key) != value:
            raise StoreError(f"cannot keep the session in {self._path}", why="it reads back differently")

    def delete(self, key: str) -> None:
        """Remove; absent is fine."""
        values = self._read()
        if key not in values:
            return
        del values[key]
        if values:
            self._write(values)
            return
        for path in (self._path, self._broken_path, self._key_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _read(self) -> dict[str, str]:
        data = files.read(self._path)
        if data is None:
            return {}
        if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
            raise self._broken("it is not one of ours, or was cut")
        import json

        header, sealed = data[:HEADER_BYTES], data[HEADER_BYTES:]
        opened = self._unsealed if _source(header) == SYSTEM else self._decrypted
        values: dict[str, str] = json.loads(opened(sealed, header))
        return values

    def _decrypted(self, sealed: bytes, header: bytes) -> bytes:
        try:
            return aesgcm.decrypt(self._key(header), header[-aesgcm.NONCE_BYTES :], sealed, header)
        except aesgcm.InvalidTag:
            if _source(header) == PASSPHRASE:
                raise self._locked("the passphrase is wrong, or the file is damaged") from None
            raise self._broken("it was changed, or its key is another one") from None

    def _unsealed(self, sealed: bytes, header: bytes) -> bytes:
        if not system.SEALS:
            raise self._broken("it was encrypted by Windows, on another machine")
        try:
            return system.unseal(sealed, header)
        except OSError:
            raise self._broken("it was changed, or this logon cannot use the keys of your account") from None

    def _write(self, values: dict[str, str]) -> None:
        import json

        files.private_directory(os.path.dirname(self._path))
        header = self._new_header()
        plain = json.dumps(values).encode()
        if _source(header) == SYSTEM:
            files.replace(self._path, header + self._sealed(plain, header))
            return
        sealed = aesgcm.encrypt(self._key(header, create=True), header[-aesgcm.NONCE_BYTES :], plain, header)
        files.replace(self._path, header + sealed)

    def _sealed(self, plain: bytes, header: bytes) -> bytes:
        try:
            return system.seal(plain, header)
        except OSError as error:
            raise StoreError(
                f"cannot keep the session in {self._path}",
                why=f"Windows does not encrypt for this logon (error {getattr(error, 'winerror', 0)})",
                next_step="log on to Windows with your password; or set THV_LLM_PASSPHRASE",
            ) from None

    def _new_header(self) -> bytes:
        nonce = os.urandom(aesgcm.NONCE_BYTES)
        if not self._passphrase:
            source = SYSTEM if self._seals else KEY_FILE
            return MAGIC + source + bytes(len(COST) + SALT_BYTES) + nonce
        salted = self._derived[0] if self._derived else COST + os.urandom(SALT_BYTES)
        return MAGIC + PASSPHRASE + salted + nonce

    def _key(self, header: bytes, *, create: bool = False) -> bytes:
        if _source(header) == KEY_FILE:
            return self._given_key or self._key_from_file(create=create)
        if _source(header) == PASSPHRASE:
            return self._key_from_passphrase(header[len(MAGIC) + 1 : -aesgcm.NONCE_BYTES])
        raise self._broken("its key source is unknown")

    def _key_from_file(self, *, create: bool) -> bytes:
        key = files.read(self._key_path)
        if key is not None and len(key) == aesgcm.KEY_BYTES:
            return key
        if not create:
            raise self._broken(f"its key, {self._key_path}, is missing or broken")
        key = os.urandom(aesgcm.KEY_BYTES)
        files.replace(self._key_path, key)
        return key

    def _key_from_passphrase(self, salted: bytes) -> bytes:
        if self._derived and self._derived[0] == salted:
            return self._derived[1]
        log2n, r, p = salted[: len(COST)]
        if not (0 < log2n <= MAX_COST_LOG2 and 0 < r <= 32 and 0 < p <= 16):
            raise self._broken("its scrypt cost is out of range")
        import hashlib

        secret, salt = self._passphrase_or_ask(), salted[len(COST) :]
        memory = 128 * r * (1 << log2n) * 2 + (1 << 20)
        text = secret.reveal().encode("utf-8", "surrogateescape")
        key = hashlib.scrypt(text, salt=salt, n=1 << log2n, r=r, p=p, maxmem=memory, dklen=aesgcm.KEY_BYTES)
        self._derived = (salted, key)
        return key

    def _passphrase_or_ask(self) -> Secret:
        if self._passphrase is None and self._ask is not None:
            self._passphrase = self._ask()
        if not self._passphrase:
            raise self._locked("it is protected by a passphrase, and none is set")
        return self._passphrase

    def _locked(self, why: str) -> LockedError:
        unlock, removal = "set THV_LLM_PASSPHRASE, then: thv-llm proxy restart", system.removal_of(self._path)
        return LockedError(
            f"the session in {self._path} is locked",
            why=why,
            next_step=f"{unlock}; if it is lost: {removal}, then thv-llm login",
        )

    def _broken(self, why: str) -> DamagedError:
        removal = system.removal_of(self._path)
        return DamagedError(
            f"cannot open the session in {self._path}",
            why=why,
            next_step=f"thv-llm login (the file is kept beside the new one), or {removal}",
        )
