"""The session in what the `keyring` package offers: macOS Keychain, or a backend that the user names.

Named means `PYTHON_KEYRING_BACKEND` or keyring's own configuration file. Without a name, and off
macOS, keyring is not even imported (80 ms).

Rule 1: every call runs under a time limit; backends wait for people, or for ever.
Rule 2: backends that keep nothing or keep it in the clear are refused unless the user named them;
        the one that takes a value and gives nothing back is found out by reading back.
Rule 3: a backend that cuts long values gets a key instead: the value goes to an encrypted file of
        its own, the key to the keyring, and the entry says so. One entry is the authority at any time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from thv_llm import system
from thv_llm.secret import Secret
from thv_llm.store import (
    CHOOSE_FILE,
    PROMPT_TIMEOUT_S,
    SERVICE,
    TIMEOUT_S,
    AbsentError,
    StoreError,
    aesgcm,
    within,
)
from thv_llm.store.encrypted_file import EncryptedFile

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

ELSEWHERE = "thv-llm:in-encrypted-file:"
"""Begins an entry whose rest is the key of the encrypted file that holds the value."""

FITS_CHARACTERS = 1000
"""Every backend takes this much; Windows has room for 1,280."""

REFUSED_MODULES = ("keyring.backends.null", "keyring.backends.fail", "keyrings.alt")

T = TypeVar("T")


class OsKeyring:
    """A store in keyring's backend for this machine and user.

    Args:
        overflow_path: how the names of encrypted files begin, for values too long for the backend.
        interactive: a user is there for the backend's prompt.
        backend: use this one; None looks for the named or the usual one.
    """

    name = "keyring"

    def __init__(
        self,
        *,
        overflow_path: str,
        interactive: bool = False,
        timeout_s: float = TIMEOUT_S,
        backend: KeyringBackend | None = None,
    ) -> None:
        self._overflow_path = overflow_path
        self._timeout_s = PROMPT_TIMEOUT_S if interactive else timeout_s
        self._known = backend
        self._file: EncryptedFile | None = None  # where the value that was loaded last is

    def describe(self) -> str:
        """Say where the session is and what protects it."""
        kind = type(self._backend())
        return f"the keyring backend {kind.__module__}.{kind.__qualname__}, entry {SERVICE!r}"

    def load(self, key: str) -> Secret | None:
        """Return the secret of that key, or None when there is none."""
        entry = self._get(key)
        self._file = self._overflow(key, entry) if entry and entry.startswith(ELSEWHERE) else None
        if self._file:
            return self._file.load(key)
        return Secret(entry) if entry else None

    def ready(self) -> None:
        """A backend that has just served `load` takes a `save`, too; a disk can be full."""
        if self._file:
            self._file.ready()

    def save(self, key: str, value: Secret) -> None:
        """Store durably, and read back."""
        entry = self._get(key)
        if entry is not None and entry.startswith(ELSEWHERE):
            self._overflow(key, entry).save(key, value)
            return
        try:
            self._put(key, value.reveal())
        except StoreError:
            if len(value.reveal()) <= FITS_CHARACTERS:
                raise
            self._save_elsewhere(key, value)

    def _save_elsewhere(self, key: str, value: Secret) -> None:
        marker = ELSEWHERE + base64.urlsafe_b64encode(os.urandom(aesgcm.KEY_BYTES)).decode()
        self._remove_overflow(key)  # one that is there has lost its key
        self._overflow(key, marker).save(key, value)
        try:
            self._put(key, marker)
        except StoreError:
            self._remove_overflow(key)
            raise

    def delete(self, key: str) -> None:
        """Remove; absent is fine."""
        entry = self._get(key)
        if entry is None:
            return
        self._call(lambda backend: backend.delete_password(SERVICE, key))
        if entry.startswith(ELSEWHERE):
            self._remove_overflow(key)

    def _remove_overflow(self, key: str) -> None:
        path = self._path_of(key)
        for each in (path, f"{path}.broken"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each)

    def _put(self, key: str, text: str) -> None:
        self._call(lambda backend: backend.set_password(SERVICE, key, text))
        if self._get(key) != text:
            raise StoreError(
                "the keyring did not keep the session",
                why=f"what {self._kind()} stored reads back differently",
                next_step=CHOOSE_FILE,
            )

    def _get(self, key: str) -> str | None:
        return self._call(lambda backend: backend.get_password(SERVICE, key))

    def _call(self, work: Callable[[KeyringBackend], T]) -> T:
        def call() -> T:
            try:
                return work(self._backend())
            except StoreError:
                raise
            except Exception as error:  # a backend can raise anything, and its text can hold anything
                raise StoreError(
                    "the keyring cannot be used",
                    why=f"{self._kind()} raised {type(error).__name__}",
                    next_step="unlock it and try again; thv-llm doctor",
                ) from error

        return within(self._timeout_s, "the keyring", call)

    def _backend(self) -> KeyringBackend:
        if self._known is None:
            self._known = _named_backend() or _usual_backend()
        return self._known

    def _kind(self) -> str:
        kind = type(self._known)
        return f"{kind.__module__}.{kind.__qualname__}" if self._known is not None else "keyring"

    def _overflow(self, key: str, entry: str) -> EncryptedFile:
        return EncryptedFile(self._path_of(key), "", key=base64.urlsafe_b64decode(entry[len(ELSEWHERE) :]))

    def _path_of(self, key: str) -> str:
        return f"{self._overflow_path}.{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _named_backend() -> KeyringBackend | None:
    """Return the backend of PYTHON_KEYRING_BACKEND or of keyring's configuration file."""
    import configparser

    from keyring import core

    try:
        return core.load_env() or core.load_config()
    except (ImportError, AttributeError, ValueError, RuntimeError, configparser.Error) as error:
        raise StoreError(
            "the keyring backend that you named cannot be used",
            why=f"loading it raised {type(error).__name__}",
            next_step="check PYTHON_KEYRING_BACKEND and keyringrc.cfg, or: " + CHOOSE_FILE,
        ) from error


def _usual_backend() -> KeyringBackend:
    if system.NAME == "darwin":
        from keyring.backends import macOS

        return macOS.Keyring()  # type: ignore[no-untyped-call]
    import keyring

    found = keyring.get_keyring()
    if type(found).__module__.startswith(REFUSED_MODULES):
        raise AbsentError(
            "there is no keyring that keeps the session safe",
            why=f"keyring offers {type(found).__module__}",
            next_step=CHOOSE_FILE,
        )
    return found
