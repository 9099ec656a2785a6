"""What goes over loopback, read off the wire: which addresses were tried, and each byte of plain HTTP.

It sees what programs say to each other without standing between them. Meant for an `island`, where
no other process sends. Linux, root.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

EVERY_PROTOCOL = 0x0003  # ETH_P_ALL
SO_RCVBUFFORCE = 33  # beyond the limit that holds for everybody
LARGEST_PACKET = 1 << 17
BUFFER_BYTES = 64 << 20
"""So that no packet is dropped while this process has no time to look."""
QUIET_S = 0.3
"""After so much silence everything has been read."""
FIN, SYN, RST, ACK = 1, 2, 4, 16
REQUEST = re.compile(rb"^(?:GET|HEAD|POST) (\S+) HTTP/1\.1\r\n", re.MULTILINE)


@dataclass(frozen=True)
class Packet:
    """One packet of IPv4 or IPv6; ports and what follows are 0 where it is neither TCP nor UDP."""

    at: float
    protocol: int
    source: tuple[str, int]
    target: tuple[str, int]
    flags: int = 0
    sequence: int = 0
    payload: bytes = b""


@dataclass(frozen=True)
class SeenResponse:
    """One response as a client got it.

    Attributes:
        path: of its request.
        is_whole: it ended as HTTP says; else the connection broke in the middle of it.
    """

    path: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_whole: bool
    arrivals: tuple[tuple[float, bytes], ...]

    def when(self, word: bytes) -> float:
        """Return when the packet came in which a word stands first."""
        return next(at for at, piece in self.arrivals if word in piece)


class Wire:
    """Every packet on loopback while the context lasts; to be read after it."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, name="wire")

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.settimeout(QUIET_S)
        self._socket.bind(("lo", EVERY_PROTOCOL))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                data, address = self._socket.recvfrom(LARGEST_PACKET)
            except TimeoutError:
                if self._ending.is_set():
                    return
                continue
            # Loopback shows each packet twice: as it goes out, and as it comes in.
            if address[2] != socket.PACKET_OUTGOING:
                self.packets.append(_packet(data, time.monotonic()))

    def addresses(self) -> set[str]:
        """Return every address that something was sent to."""
        return {packet.target[0] for packet in self.packets}

    def responses(self, port: int) -> list[SeenResponse]:
        """Return the responses of an HTTP server on 127.0.0.1, connection by connection."""
        server = ("127.0.0.1", port)
        asked: dict[tuple[str, int], list[Packet]] = defaultdict(list)
        told: dict[tuple[str, int], list[Packet]] = defaultdict(list)
        for packet in self.packets:
            if packet.target == server:
                asked[packet.source].append(packet)
            elif packet.source == server:
                told[packet.target].append(packet)
        return [
            response
            for client in told
            for response in _responses(_stream(asked[client]), _stream(told[client]))
        ]


def _packet(data: bytes, at: float) -> Packet:
    if data[0] >> 4 == 4:
        protocol, size, whole = data[9], (data[0] & 15) * 4, struct.unpack("!H", data[2:4])[0]
        source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        data = data[size:whole]
    else:
        protocol = data[6]
        source = socket.inet_ntop(socket.AF_INET6, data[8:24])
        target = socket.inet_ntop(socket.AF_INET6, data[24:40])
        data = data[40:]
    if protocol not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return Packet(at, protocol, (source, 0), (target, 0))
    ports = struct.unpack("!HH", data[:4])
    ends = (source, ports[0]), (target, ports[1])
    if protocol == socket.IPPROTO_UDP:
        return Packet(at, protocol, *ends, payload=data[8:])
    sequence, offset, flags = struct.unpack("!I4xBB", data[4:14])
    return Packet(at, protocol, *ends, flags, sequence, data[(offset >> 4) * 4 :])


def _stream(packets: list[Packet]) -> list[tuple[float, bytes]]:
    """Return what one side of a connection sent, in order and each byte once."""
    found, expected = [], None
    for packet in packets:
        if packet.flags & SYN:
            expected = packet.sequence + 1 & 0xFFFFFFFF
        elif packet.payload and expected is not None:
            ahead = packet.sequence - expected & 0xFFFFFFFF
            assert ahead == 0 or ahead > 1 << 31, "a packet was missed"
            if ahead == 0:
                found.append((packet.at, packet.payload))
                expected = expected + len(packet.payload) & 0xFFFFFFFF
    return found


class _Told(io.BytesIO):
    """What a server sent, in the place of its socket."""

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None:
        """Stay open: more responses can follow."""


def _responses(asked: list[tuple[float, bytes]], told: list[tuple[float, bytes]]) -> Iterator[SeenResponse]:
    data = _Told(b"".join(piece for _, piece in told))
    for path in REQUEST.findall(b"".join(piece for _, piece in asked)):
        begin = data.tell()
        response = http.client.HTTPResponse(data)  # type: ignore[arg-type]  # it wants no more than makefile
        try:
            response.begin()
        except (http.client.BadStatusLine, ConnectionResetError):
            return  # none came
        try:
            body, is_whole = response.read(), True
        except http.client.IncompleteRead as cut:
            body, is_whole = cut.partial, False
        arrivals = tuple(_between(told, begin, data.tell()))
        yield SeenResponse(path.decode(), response.status, response.headers, body, is_whole, arrivals)


def _between(pieces: list[tuple[float, bytes]], begin: int, end: int) -> Iterator[tuple[float, bytes]]:
    position = 0
    for at, piece in pieces:
        if position < end and position + len(piece) > begin:
            yield at, piece[max(0, begin - position) : end - position]
        position += len(piece)
