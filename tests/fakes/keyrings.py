"""Backends of the `keyring` package, as good and as bad as they come."""

from __future__ import annotations

import os
import threading
from typing import ClassVar

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

from thv_llm.secret import Secret
from thv_llm.store.secret_service import SecretService


class MemoryKeyring(KeyringBackend):
    """A good one."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("no such entry")


class CuttingKeyring(MemoryKeyring):
    """Keeps the first 1,250 characters."""

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password[:1250])


class ShortKeyring(MemoryKeyring):
    """Refuses what is longer, as Windows does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password) > 1280:
            raise OSError(1783, "CredWrite", f"The stub received bad data: {password}")
        super().set_password(service, username, password)


class LastingKeyring(MemoryKeyring):
    """Has one memory for all of its instances, as if it were the machine's."""

    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.entries = self.kept


class DesktopKeyring(KeyringBackend):
    """The Secret Service, with the entries that our own way to it has, as keyring's backend for it."""

    priority = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        found = SecretService(os.environ).load(username)
        return found.reveal() if found else None

    def set_password(self, service: str, username: str, password: str) -> None:
        SecretService(os.environ).save(username, Secret(password))

    def delete_password(self, service: str, username: str) -> None:
        SecretService(os.environ).delete(username)


class ForgetfulKeyring(MemoryKeyring):
    """Takes everything and keeps nothing, as keyring's `null` backend does."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class LockedKeyring(MemoryKeyring):
    """Does not wait."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("Failed to unlock the collection!")


class SilentKeyring(MemoryKeyring):
    """Does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.let_go.wait()
        return None
