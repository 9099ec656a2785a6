"""The session in the Secret Service of the Linux desktop (GNOME Keyring, KWallet, KeePassXC).

Spoken over D-Bus with jeepney alone: the usual packages need compiled ones, which a single
file cannot carry. The `plain` session sends secrets unencrypted over the user's own bus, as
most clients do: a process that can listen there can call the service, too.

Entries have the attributes of the `keyring` package, so that `keyring get thv-llm KEY` and
`secret-tool lookup service thv-llm username KEY` find them.

Rule 1: one time limit for all calls together; at its end the connection is shut, so that no
        silent service can hold the program. Only a user at a terminal is asked to unlock something.
Rule 2: an existing entry is changed by `SetSecret`. `CreateItem(replace=true)` would wait for
        the user in KeePassXC. What that one makes or deletes goes through a prompt each time,
        which does it without a question unless its settings say otherwise.
Rule 3: locked is not absent, and a locked collection can hide an entry, so it is an error.

Source: Secret Service API 0.2, https://specifications.freedesktop.org/secret-service/
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from thv_llm.secret import Secret
from thv_llm.store import (
    CHOOSE_FILE,
    PROMPT_TIMEOUT_S,
    SERVICE,
    TIMEOUT_S,
    AbsentError,
    LockedError,
    StoreError,
    silent,
)

if TYPE_CHECKING:
    from jeepney.io.blocking import DBusConnection

WHO = "the Secret Service"
BUS_NAME = "org.freedesktop.secrets"
SERVICE_PATH = "/org/freedesktop/secrets"
INTERFACE = "org.freedesktop.Secret"
NOTHING = "/"
"""The object path that stands for "none" (no collection, no prompt)."""

SCHEMA = {"application": "Python keyring library", "xdg:schema": "org.freedesktop.Secret.Generic"}
ABSENT = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn",
)
"""Beginnings of the bus's errors for "no process offers this, and none can be started"."""

LOCKED = f"{INTERFACE}.Error.IsLocked"
START_OR_CHOOSE = f"start a keyring, or: {CHOOSE_FILE}"


class SecretService:
    """A store in the user's keyring.

    Args:
        environ: where the bus's address is looked up.
        interactive: a user is there for an unlock prompt.
    """

    name = "secret-service"

    def __init__(
        self, environ: Mapping[str, str], *, interactive: bool = False, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._address = bus_address(environ)
        self._interactive = interactive
        self._timeout_s = timeout_s

    def describe(self) -> str:
        """Say where the session is and what protects it."""
        return f"the keyring of your desktop (Secret Service, entry {SERVICE!r}), protected by your login"

    def probe(self) -> None:
        """Raise AbsentError unless a Secret Service with a place for new entries is there."""
        with self._calls() as calls:
            calls.collection()

    def load(self, key: str) -> Secret | None:
        """Return the secret of that key, or None when there is none."""
        with self._calls() as calls:
            item = calls.find(key)
            return calls.secret(item) if item else None

    def ready(self) -> None:
        """A service that has just served `load` takes a `save`, too."""

    def save(self, key: str, value: Secret) -> None:
        """Store durably, and read back."""
        with self._calls() as calls:
            item = calls.find(key)
            if item:
                calls.call(item, "Item", "SetSecret", "(oayays)", calls.packed(value))
            else:
                calls.create(key, value)
            item = calls.find(key)
            if not item or calls.secret(item) != value:
                raise StoreError(
                    f"{WHO} did not keep the session",
                    why="what was stored reads back differently",
                    next_step=CHOOSE_FILE,
                )
        if self._interactive:  # a login: its later readers have no user to ask
            with self._calls(interactive=False) as calls:
                calls.find(key)

    def delete(self, key: str) -> None:
        """Remove; absent is fine."""
        with self._calls() as calls:
            while item := calls.find(key):
                calls.finish(calls.call(item, "Item", "Delete")[0])

    @contextlib.contextmanager
    def _calls(self, *, interactive: bool | None = None) -> Iterator[_Calls]:
        """Connect, within one time limit for everything; turn failures into ours."""
        interactive = self._interactive if interactive is None else interactive
        if not self._address:
            raise AbsentError(
                f"{WHO} cannot be reached",
                why="there is no D-Bus session (DBUS_SESSION_BUS_ADDRESS is not set)",
                next_step=START_OR_CHOOSE,
            )
        from jeepney.io.blocking import DBusConnection, prep_socket
        from jeepney.wrappers import DBusErrorResponse

        limit_s = PROMPT_TIMEOUT_S if interactive else self._timeout_s
        try:
            sock = prep_socket(self._address, timeout=self._timeout_s)
        except TimeoutError:
            raise silent(WHO, self._timeout_s) from None
        except (OSError, RuntimeError, ValueError) as error:
            why = f"the D-Bus session does not respond ({type(error).__name__})"
            raise AbsentError(f"{WHO} cannot be reached", why=why, next_step=START_OR_CHOOSE) from None
        limit = _Limit(sock, limit_s)
        try:
            with contextlib.closing(sock), contextlib.closing(DBusConnection(sock)) as connection:
                yield _Calls(connection, interactive)
        except DBusErrorResponse as error:
            raise _refused(error.name) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise silent(WHO, limit_s) if limit.passed else _broke_off(error) from None
        finally:
            limit.cancel()


class _Limit:
    """Shuts a socket when its time is over, which wakes the thread that waits for it."""

    def __init__(self, sock: Any, timeout_s: float) -> None:
        self.passed = False
        self._sock = sock
        self._timer = threading.Timer(timeout_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.passed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(2)

    def cancel(self) -> None:
        self._timer.cancel()
        self._timer.join()


class _Calls:
    """The few calls of the Secret Service API that we need, on one connection."""

    def __init__(self, connection: DBusConnection, interactive: bool) -> None:
        self._connection = connection
        self._interactive = interactive
        self._session = self.call(SERVICE_PATH, "Service", "OpenSession", "sv", "plain", ("s", ""))[1]

    def call(self, path: str, interface: str, method: str, signature: str = "", *body: Any) -> Any:
        """Call a method and return the values of its response."""
        from jeepney import DBusAddress, new_method_call
        from jeepney.wrappers import unwrap_msg

        address = DBusAddress(path, BUS_NAME, f"{INTERFACE}.{interface}")
        message = new_method_call(address, method, signature or None, body)
        return unwrap_msg(self._connection.send_and_get_reply(message))

    def find(self, key: str) -> str | None:
        """Return the entry of that key, unlocked, or None."""
        collection = self.collection()
        if self._is_locked(collection):  # a search would find less, or wait for the user in KeePassXC
            self._unlock(collection, _locked())
        attributes = {"service": SERVICE, "username": key}
        unlocked, locked = self.call(SERVICE_PATH, "Service", "SearchItems", "a{ss}", attributes)
        if unlocked:
            return str(unlocked[0])
        if locked:
            item = str(locked[0])
            self._unlock(item, _locked() if self._is_locked(item.rpartition("/")[0]) else _guarded())
            return item
        return None

    def secret(self, item: str) -> Secret:
        """Return the secret of an entry."""
        return Secret(bytes(self.call(item, "Item", "GetSecret", "o", self._session)[0][2]).decode())

    def packed(self, value: Secret) -> tuple[str, bytes, bytes, str]:
        """Return a secret as the API wants it."""
        return self._session, b"", value.reveal().encode(), "text/plain; charset=utf8"

    def create(self, key: str, value: Secret) -> None:
        """Make a new entry."""
        properties = {
            f"{INTERFACE}.Item.Label": ("s", f"Password for '{key}' on '{SERVICE}'"),
            f"{INTERFACE}.Item.Attributes": ("a{ss}", {"service": SERVICE, "username": key, **SCHEMA}),
        }
        arguments = (properties, self.packed(value), False)
        made = self.call(self.collection(), "Collection", "CreateItem", "a{sv}(oayays)b", *arguments)
        self.finish(made[1])

    def collection(self) -> str:
        """Return the collection that new entries go to."""
        found = str(self.call(SERVICE_PATH, "Service", "ReadAlias", "s", "default")[0])
        if found == NOTHING:
            why = "it has no default collection"
            raise AbsentError(f"{WHO} cannot keep the session", why=why, next_step=START_OR_CHOOSE)
        return found

    def finish(self, prompt: str) -> None:
        """Let the service do what it wants a prompt for, and wait for its end."""
        if prompt == NOTHING:
            return
        from jeepney import MatchRule, message_bus
        from jeepney.wrappers import unwrap_msg

        completed = MatchRule(type="signal", interface=f"{INTERFACE}.Prompt", member="Completed", path=prompt)
        unwrap_msg(self._connection.send_and_get_reply(message_bus.AddMatch(completed)))
        with self._connection.filter(completed) as signals:
            self.call(prompt, "Prompt", "Prompt", "s", "")
            if self._connection.recv_until_filtered(signals).body[0]:
                raise _locked("the prompt was dismissed")

    def _unlock(self, path: str, cannot: LockedError) -> None:
        unlocked, prompt = self.call(SERVICE_PATH, "Service", "Unlock", "ao", [path])
        if path in unlocked:
            return
        if not self._interactive:
            raise cannot
        self.finish(prompt)

    def _is_locked(self, collection: str) -> bool:
        from jeepney import DBusAddress, Properties
        from jeepney.wrappers import unwrap_msg

        address = DBusAddress(collection, BUS_NAME, f"{INTERFACE}.Collection")
        response = self._connection.send_and_get_reply(Properties(address).get("Locked"))
        return bool(unwrap_msg(response)[0][1])


def bus_address(environ: Mapping[str, str]) -> str:
    """Return the socket of the session bus; "" when there is none that we can speak to."""
    from jeepney.bus import get_connectable_addresses

    named = environ.get("DBUS_SESSION_BUS_ADDRESS")
    if named:
        with contextlib.suppress(ValueError, RuntimeError, StopIteration):
            return str(next(get_connectable_addresses(named)))
        return ""
    runtime = environ.get("XDG_RUNTIME_DIR")
    usual = os.path.join(runtime, "bus") if runtime else ""
    return usual if usual and os.path.exists(usual) else ""


def _refused(name: str) -> StoreError:
    if name == LOCKED:
        return _locked()
    if name.startswith(ABSENT):
        return AbsentError(f"{WHO} cannot be reached", why="no keyring is running", next_step=START_OR_CHOOSE)
    return StoreError(f"{WHO} refused", why=f"it says {name}", next_step="thv-llm doctor")


def _broke_off(error: Exception) -> StoreError:
    why = f"the conversation broke off ({type(error).__name__})"
    return StoreError(f"{WHO} cannot be used", why=why, next_step="try again; thv-llm doctor")


def _locked(why: str = "it must be unlocked first") -> LockedError:
    return LockedError(
        "the keyring is locked", why=why, next_step="unlock it (log in to the desktop), or run: thv-llm login"
    )


def _guarded() -> LockedError:
    return LockedError(
        "the keyring is locked for thv-llm",
        why="it asks the user about each program that reads the entry",
        next_step="let programs read without asking (KeePassXC: Settings, Secret Service Integration),"
        f" or: {CHOOSE_FILE}",
    )
