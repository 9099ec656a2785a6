"""A session bus with a Secret Service on it, in a thread; as stubborn as a test wants it.

It speaks the D-Bus wire protocol with jeepney's own parser, and serves just the calls that a
client of the Secret Service makes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return, new_signal
from jeepney.wrappers import DBusAddress

COLLECTION = "/org/freedesktop/secrets/collection/login"
ITEM = "org.freedesktop.Secret.Item"
GUID = b"OK 0123456789abcdef0123456789abcdef\r\n"
NO_SUCH_SERVICE = "org.freedesktop.DBus.Error.ServiceUnknown"


@dataclass
class FakeItem:
    """One entry."""

    attributes: dict[str, str]
    secret: bytes


@dataclass
class FakeSecretService:
    """What it holds and how it behaves; a context manager.

    Attributes:
        locked: the collection; items in it are found among the locked ones.
        hides_locked: a locked collection's items are not found at all.
        guards: each item must be unlocked for every connection; the collection is open.
        prompts: a prompt does what `CreateItem` and `Delete` are to do, as in KeePassXC.
        unlocks: what a prompt does: True unlocks, False is dismissed.
        silent_at: gets no response ("auth" or a method's name).
        error_at: method name to D-Bus error name.
        loses: SetSecret and CreateItem keep nothing.
        calls: names of the methods that were called.
        notices: title and text of each notification that was to be shown.
    """

    directory: Path
    locked: bool = False
    hides_locked: bool = False
    guards: bool = False
    prompts: bool = False
    unlocks: bool = True
    collection: str = COLLECTION
    silent_at: str = ""
    error_at: dict[str, str] = field(default_factory=dict)
    loses: bool = False
    calls: list[str] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)
    items: dict[str, FakeItem] = field(default_factory=dict)
    _waiting: Callable[[], object] | None = None
    _allowed: bool = False

    def __enter__(self) -> FakeSecretService:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / "bus"))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    @property
    def environ(self) -> dict[str, str]:
        return {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.directory / 'bus'}"}

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                if self._authenticate(sock):
                    self._respond_to_all(sock)
            except OSError:
                pass

    def _authenticate(self, sock: socket.socket) -> bool:
        if self.silent_at == "auth":
            while sock.recv(4096):
                pass
            return False
        return self._line(sock, GUID) and self._line(sock, b"")

    def _line(self, sock: socket.socket, response: bytes) -> bool:
        """Read one line, byte by byte because messages can follow, and respond."""
        last = b""
        while last != b"\n":
            last = sock.recv(1)
            if not last:
                return False
        sock.sendall(response)
        return True

    def _respond_to_all(self, sock: socket.socket) -> None:
        parser, serial = Parser(), 0
        while data := sock.recv(4096):
            parser.add_data(data)
            while message := parser.get_next_message():
                for response in self._responses(message):
                    serial += 1
                    sock.sendall(response.serialise(serial=serial))

    def _responses(self, message: Message) -> list[Message]:
        if message.header.message_type is not MessageType.method_call:
            return []
        fields = message.header.fields
        method, path = fields[HeaderFields.member], fields[HeaderFields.path]
        self.calls.append(method)
        if method == self.silent_at:
            return []
        if method in self.error_at:
            return [new_error(message, self.error_at[method])]
        signature, *body = getattr(self, f"_{method}")(path, *message.body)
        responses = [new_method_return(message, signature, tuple(body))]
        if method == "Hello":
            self._allowed = False
        if method == "Prompt":
            self.locked = self.locked and not self.unlocks
            self._allowed = self.unlocks
            if self._waiting:
                self._waiting()
                self._waiting = None
            prompt = DBusAddress(path, interface="org.freedesktop.Secret.Prompt")
            responses.append(new_signal(prompt, "Completed", "bv", (not self.unlocks, ("s", ""))))
        return responses

    def _Hello(self, path: str) -> tuple[Any, ...]:
        return "s", ":1.1"

    def _Notify(self, path: str, *shown: Any) -> tuple[Any, ...]:
        self.notices.append((shown[3], shown[4]))
        return "u", len(self.notices)

    def _AddMatch(self, path: str, rule: str) -> tuple[Any, ...]:
        return (None,)

    def _OpenSession(self, path: str, algorithm: str, argument: Any) -> tuple[Any, ...]:
        assert algorithm == "plain"
        return "vo", ("s", ""), "/session/1"

    def _ReadAlias(self, path: str, alias: str) -> tuple[Any, ...]:
        return "o", self.collection

    def _Get(self, path: str, interface: str, name: str) -> tuple[Any, ...]:
        assert name == "Locked"
        return "v", ("b", self.locked)

    def _SearchItems(self, path: str, wanted: dict[str, str]) -> tuple[Any, ...]:
        found = [
            name
            for name, item in self.items.items()
            if wanted.items() <= item.attributes.items() and not (self.locked and self.hides_locked)
        ]
        return "aoao", *(([], found) if self._keeps_shut() else (found, []))

    def _keeps_shut(self) -> bool:
        return self.locked or (self.guards and not self._allowed)

    def _Unlock(self, path: str, objects: list[str]) -> tuple[Any, ...]:
        return "aoo", *(([], "/prompt/1") if self._keeps_shut() else (objects, "/"))

    def _Prompt(self, path: str, window: str) -> tuple[Any, ...]:
        return (None,)

    def _GetSecret(self, path: str, session: str) -> tuple[Any, ...]:
        return "(oayays)", (session, b"", self.items[path].secret, "text/plain")

    def _SetSecret(self, path: str, secret: tuple[str, bytes, bytes, str]) -> tuple[Any, ...]:
        if not self.loses:
            self.items[path].secret = bytes(secret[2])
        return (None,)

    def _CreateItem(
        self, path: str, properties: dict[str, Any], secret: tuple[str, bytes, bytes, str], replace: bool
    ) -> tuple[Any, ...]:
        assert not replace, "KeePassXC asks the user for a replacement"
        name = f"{path}/{len(self.items) + 1}"

        def create() -> None:
            if not self.loses:
                self.items[name] = FakeItem(dict(properties[f"{ITEM}.Attributes"][1]), bytes(secret[2]))
            self._allowed = True

        prompt = self._do(create)
        return "oo", name if prompt == "/" else "/", prompt

    def _Delete(self, path: str) -> tuple[Any, ...]:
        return "o", self._do(lambda: self.items.pop(path))

    def _do(self, act: Callable[[], object]) -> str:
        """Do it, or return the prompt that will."""
        if not self.prompts:
            act()
            return "/"
        self._waiting = act
        return "/prompt/2"
