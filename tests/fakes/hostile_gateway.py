"""A gateway over TLS that does byte for byte what a test tells it to, and remembers what it was sent.

A test gives a script: a function that is called with the conversation of each connection, in a
thread of its own. `responding(b"HTTP/1.1 200 OK…")` makes the most common one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

TLS = Path(__file__).parent.parent / "data" / "tls"
CA = str(TLS / "ca.pem")
PATIENCE_S = 10.0


class Conversation:
    """One connection to the gateway, seen from it.

    Attributes:
        index: how many connections there were before it.
        gone: set when the other end closed it (`wait_gone`).
    """

    def __init__(self, sock: ssl.SSLSocket, index: int, gateway: HostileGateway) -> None:
        self.sock = sock
        self.index = index
        self._gateway = gateway
        self._buffer = b""

    def head(self) -> bytes:
        """Read a request's head; b"" when the connection ended instead."""
        while b"\r\n\r\n" not in self._buffer:
            data = self._receive()
            if not data:
                return b""
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self._gateway.heads.append(head)
        return head

    def request(self) -> bytes:
        """Read a whole request; its body, with chunks as they came, goes to `bodies`."""
        head = self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            self._gateway.bodies.append(self.until(b"0\r\n\r\n"))
        elif b"content-length: " in lower:
            length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self._gateway.bodies.append(self.exactly(length))
        elif head:
            self._gateway.bodies.append(b"")
        return head

    def exactly(self, length: int) -> bytes:
        pieces, size = [self._buffer], len(self._buffer)
        while size < length and (data := self._receive()):
            pieces.append(data)
            size += len(data)
        found = b"".join(pieces)
        self._buffer = found[length:]
        return found[:length]

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            data = self._receive()
            if not data:
                found, self._buffer = self._buffer, b""
                return found
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def send(self, *pieces: bytes) -> None:
        """Send each piece in a TLS record of its own."""
        for piece in pieces:
            self.sock.sendall(piece)

    def close(self) -> None:
        """End the connection as TLS wants it."""
        try:
            self.sock.settimeout(1)
            self.sock.unwrap()
        except (OSError, ValueError):
            pass
        self.sock.close()

    def cut(self) -> None:
        """Break off: no close_notify."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def wait_gone(self) -> bool:
        """Wait until the other end has closed; False when it has not in time."""
        try:
            while self._receive():
                pass
        except TimeoutError:
            return False
        return True

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            return b""


Script = Callable[[Conversation], None]


def responding(response: bytes, times: int = 1000) -> Script:
    """Return a script that sends this response to every request."""

    def script(conversation: Conversation) -> None:
        for _ in range(times):
            if not conversation.request():
                break
            conversation.send(response)
        conversation.close()

    return script


class HostileGateway:
    """The server. Use it as a context manager.

    Attributes:
        heads: of all requests, in the order of their arrival.
        bodies: of those that scripts read with `request`.
        connections: how many there were.
    """

    def __init__(self, script: Script, port: int = 0, host: str = "127.0.0.1") -> None:
        self.script = script
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.errors: list[BaseException] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
        self._listener = socket.create_server((host, port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://{host}:{self.port}"
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopping = False

    def __enter__(self) -> HostileGateway:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, and cut all connections."""
        if self._stopping:
            return
        self._stopping = True
        with socket.socket() as waker:  # wakes accept()
            waker.connect(self._listener.getsockname())
        self._threads[0].join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        if len(self._threads) > 1000:  # of a long test
            self._threads[1:] = [thread for thread in self._threads[1:] if thread.is_alive()]
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            if self._stopping:
                plain.close()
                return
            index, self.connections = self.connections, self.connections + 1
            self._start(self._converse, plain, index)

    def _converse(self, plain: socket.socket, index: int) -> None:
        plain.settimeout(PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock = self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
        except OSError:
            plain.close()
            return
        with self._lock:
            self._open.add(sock)
        try:
            self.script(Conversation(sock, index, self))
        except OSError:
            pass
        except BaseException as error:  # a test's own mistake: its fixture looks here
            self.errors.append(error)
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()
