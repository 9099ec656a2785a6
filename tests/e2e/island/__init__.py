"""A machine without a network: loopback, servers at public addresses, a name server that takes note.

    with island({"id.example.com": "203.0.113.1"}) as names:
        ...
    assert names.lookups == [...]    # every name that was looked up

A process that enters is on the island with all that it starts: threads, programs, and what they leave
running. Every address leads back to it, so that `Wire` sees what was meant for any other machine.
Linux, root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
TYPE_A = 1
NO_SUCH_NAME = 3
LOOK_S = 0.05


class NameServer:
    """Answers for a few names, and says of every other one that it does not exist.

    Attributes:
        lookups: the names that were asked for, again and again.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self.lookups: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="name server")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 53))
        self._socket.settimeout(LOOK_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                query, client = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """Return the answer to one question (RFC 1035 section 4)."""
        labels, end = [], 12
        while size := query[end]:
            labels.append(query[end + 1 : end + 1 + size].decode())
            end += 1 + size
        name, question = ".".join(labels).lower(), query[12 : end + 5]
        self.lookups.append(name)
        address = self._names.get(name)
        records = b""
        if address and question[-4:-2] == struct.pack("!H", TYPE_A):
            records = b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, 1, 60, 4) + socket.inet_aton(address)
        code = 0 if address else NO_SUCH_NAME
        return query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, bool(records), 0, 0) + question + records


@contextlib.contextmanager
def island(names: Mapping[str, str]) -> Iterator[NameServer]:
    """Stay on an island whose name server knows these names."""
    with contextlib.ExitStack() as leaving:
        place = Path(leaving.enter_context(tempfile.TemporaryDirectory()))
        leaving.callback(os.chdir, os.getcwd())
        for kind in ("net", "mnt"):
            outside = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY)
            leaving.callback(os.close, outside)
            leaving.callback(_call, "setns", outside, 0)
        # A thread that shares its current directory cannot leave, and a joined one can still be ending.
        leaving.callback(_call, "unshare", CLONE_FS)
        _call("unshare", CLONE_NEWNS | CLONE_NEWNET)
        _run("mount", "--make-rprivate", "/")
        for name, text in {"resolv.conf": "nameserver 127.0.0.1\n", "hosts": ""}.items():
            (place / name).write_text(text)
            _run("mount", "--bind", str(place / name), f"/etc/{name}")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "route", "add", "local", "default", "dev", "lo")
        _run("ip", "-6", "route", "add", "local", "default", "dev", "lo")
        yield leaving.enter_context(NameServer(names))


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
