"""As much D-Bus as a Secret Service needs: calls and one signal, under one deadline.

jeepney does the same and much more; from a zipapp its import alone takes as long as everything else
that a cold `token` does, and it cannot limit the time of its first call. The tests talk to it, and
to a real bus.

Values: integers, str, bytes for `ay`, list for other arrays, dict for `a{..}`, tuple for a struct,
(signature, value) for a variant.

Source: D-Bus Specification 0.43, sections "Type System", "Message Protocol", "Authentication Protocol".
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SIGNATURE = 1, 2, 3, 4, 5, 6, 8
FIELD_TYPES = {PATH: "o", REPLY_SERIAL: "u", SIGNATURE: "g"}
SIZES = {"y": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8}
ALIGNMENTS = {**SIZES, "g": 1, "v": 1, "s": 4, "o": 4, "a": 4, "(": 8, "{": 8, "d": 8}
FIXED_HEADER_BYTES = 16
LARGEST_MESSAGE_BYTES = 1 << 22
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class DBusError(Exception):
    """The other side answered with an error; `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Connection:
    """A connection to a message bus.

    Args:
        timeout_s: for everything together; `extend` gives more.

    Raises:
        TimeoutError: the time is over; from every method.
        OSError: nobody listens, or the connection broke off.
        ValueError: what came is not D-Bus.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._serial = 0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._limit()
            self._sock.connect(address)
            self._authenticate()
            self.call(*BUS, "Hello")
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def extend(self, timeout_s: float) -> None:
        """Allow this much time from now on."""
        self._deadline = time.monotonic() + timeout_s

    def call(
        self, to: str, path: str, interface: str, method: str, signature: str = "", *body: Any
    ) -> tuple[Any, ...]:
        """Call a method and return the values of its answer, or raise DBusError."""
        self._serial += 1
        fields: list[tuple[int, Any]] = [
            (PATH, path),
            (INTERFACE, interface),
            (MEMBER, method),
            (DESTINATION, to),
        ]
        if signature:
            fields.append((SIGNATURE, signature))
        content = packed(signature, body)
        head = [ord("l"), METHOD_CALL, 0, 1, len(content), self._serial]
        head.append([(code, (FIELD_TYPES.get(code, "s"), value)) for code, value in fields])  # type: ignore[arg-type]
        header = packed("yyyyuua(yv)", head)
        self._limit()
        self._sock.sendall(header + bytes(-len(header) % 8) + content)
        while True:
            kind, known, values = self._receive()
            if known.get(REPLY_SERIAL) == self._serial and kind == METHOD_RETURN:
                return values
            if known.get(REPLY_SERIAL) == self._serial and kind == ERROR:
                raise DBusError(str(known.get(ERROR_NAME)))

    def subscribe(self, path: str, member: str) -> None:
        """Ask for a signal."""
        self.call(*BUS, "AddMatch", "s", f"type='signal',path='{path}',member='{member}'")

    def wait_for(self, path: str, member: str) -> tuple[Any, ...]:
        """Return the values of the next such signal."""
        while True:
            kind, known, values = self._receive()
            if kind == SIGNAL and (known.get(PATH), known.get(MEMBER)) == (path, member):
                return values

    def _authenticate(self) -> None:
        self._sock.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._exactly(1)
        if not line.startswith(b"OK "):
            raise ConnectionRefusedError("the bus does not take us for who we are")
        self._sock.sendall(b"BEGIN\r\n")

    def _receive(self) -> tuple[int, dict[int, Any], tuple[Any, ...]]:
        """Return the next message: its type, its header fields, its values."""
        start = self._exactly(FIXED_HEADER_BYTES)
        order = "little" if start[:1] == b"l" else "big"
        body_size, _, fields_size = (int.from_bytes(start[i : i + 4], order) for i in (4, 8, 12))  # type: ignore[arg-type]
        fields_room = fields_size + -fields_size % 8
        if fields_room + body_size > LARGEST_MESSAGE_BYTES:
            raise ValueError("message too long")
        rest = self._exactly(fields_room + body_size)
        head, _ = unpacked("a(yv)", start[12:] + rest[:fields_size], order, shift=12)
        known = {code: value for code, (_, value) in head[0]}
        values, _ = unpacked(known.get(SIGNATURE, ""), rest[fields_room:], order)
        return start[1], known, values

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._limit()
            more = self._sock.recv(size - len(data))
            if not more:
                raise ConnectionResetError("the bus hung up")
            data += more
        return data

    def _limit(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)


def types(signature: str) -> Iterator[str]:
    """Split a signature into complete types."""
    while signature:
        end = _end(signature, 0)
        yield signature[:end]
        signature = signature[end:]


def _end(signature: str, start: int) -> int:
    if signature[start] == "a":
        return _end(signature, start + 1)
    if signature[start] not in "({":
        return start + 1
    depth = 0
    for position in range(start, len(signature)):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[position], 0)
        if depth == 0:
            return position + 1
    raise ValueError("a bracket is not closed")


def packed(signature: str, values: Any) -> bytes:
    """Return values as they go over the wire, little-endian."""
    out = bytearray()
    for kind, value in zip(types(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _put(out: bytearray, kind: str, value: Any) -> None:
    out += bytes(-len(out) % ALIGNMENTS[kind[0]])
    if kind in SIZES:
        out += int(value).to_bytes(SIZES[kind], "little")
    elif kind in "sog":
        text = value.encode()
        out += len(text).to_bytes(1 if kind == "g" else 4, "little") + text + b"\0"
    elif kind == "v":
        _put(out, "g", value[0])
        _put(out, *value)
    elif kind[0] == "a":
        _put_array(out, kind[1:], value)
    else:
        for inner, part in zip(types(kind[1:-1]), value, strict=True):
            _put(out, inner, part)


def _put_array(out: bytearray, kind: str, value: Any) -> None:
    place = len(out)
    out += bytes(4)
    out += bytes(-len(out) % ALIGNMENTS[kind[0]])
    start = len(out)
    for item in value.items() if isinstance(value, Mapping) else value:
        _put(out, kind, item)
    out[place : place + 4] = (len(out) - start).to_bytes(4, "little")


def unpacked(signature: str, data: bytes, order: str, *, shift: int = 0) -> tuple[tuple[Any, ...], int]:
    """Return the values in `data`, and where they end.

    Args:
        order: "little" or "big".
        shift: where `data` lies in its message, as far as alignment goes.

    Raises:
        ValueError: the data does not fit the signature.
    """
    reader, values = _Reader(data, order, shift), []
    try:
        for kind in types(signature):
            values.append(reader.get(kind))
    except (IndexError, KeyError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a D-Bus message") from None
    return tuple(values), reader.position


class _Reader:
    def __init__(self, data: bytes, order: str, shift: int) -> None:
        self._data, self._order, self._shift = data, order, shift
        self.position = 0

    def get(self, kind: str) -> Any:
        self.position += -(self.position + self._shift) % ALIGNMENTS[kind[0]]
        if kind in SIZES:
            number = int.from_bytes(self._take(SIZES[kind]), self._order)  # type: ignore[arg-type]
            return bool(number) if kind == "b" else number
        if kind in "so":
            return self._text(self.get("u"))
        if kind == "g":
            return self._text(self.get("y"))
        if kind == "d":
            return self._take(8)  # nobody here wants to know
        if kind == "v":
            inner = self.get("g")
            return inner, self.get(inner)
        if kind[0] == "a":
            return self._array(kind[1:])
        return tuple(self.get(inner) for inner in types(kind[1:-1]))

    def _array(self, kind: str) -> Any:
        size = self.get("u")
        self.position += -(self.position + self._shift) % ALIGNMENTS[kind[0]]
        if kind == "y":
            return self._take(size)
        end, items = self.position + size, []
        while (before := self.position) < end:
            items.append(self.get(kind))
            if self.position == before:
                raise IndexError  # items of no size would go on for ever
        return dict(items) if kind[0] == "{" else items

    def _text(self, size: int) -> str:
        text = self._take(size).decode()
        self._take(1)
        return text

    def _take(self, size: int) -> bytes:
        if self.position + size > len(self._data):
            raise IndexError
        self.position += size
        return self._data[self.position - size : self.position]
