"""A company's HTTP proxy: CONNECT only, with a password when it is told so.

It remembers what it could see, which for an honest client is host names and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

IDLE_S = 20.0


class ConnectProxy:
    """Serve while the context lasts.

    Args:
        user, password: what to ask for; no user asks for nothing.
        status: respond to each CONNECT with this status instead of doing it.
        scheme: how a 407 asks for credentials.

    Attributes:
        url: value for `HTTPS_PROXY`, with user and password in it.
        bare_url: the same without them.
        heads: the head of each request.
        targets: HOST:PORT of each tunnel that was opened.
    """

    def __init__(self, user: str = "", password: str = "", *, status: int = 0, scheme: str = "Basic") -> None:
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._needs_user = bool(user)
        self._status = status
        self._scheme = scheme
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.bare_url = f"http://127.0.0.1:{self.port}"
        self.url = f"http://{user}:{password}@127.0.0.1:{self.port}" if user else self.bare_url
        self.heads: list[str] = []
        self.targets: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="connect-proxy")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if select.select([self._listener], [], [], 0.01)[0]:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), name="connect-proxy")
                self._threads.append(thread)
                thread.start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            near.settimeout(IDLE_S)
            head = b""
            while b"\r\n\r\n" not in head:
                data = near.recv(4096)
                if not data:
                    return
                head += data
            text = head.decode("latin-1")
            self.heads.append(text)
            status = self._status or self._judge(text)
            if status != 200:
                asks = f"Proxy-Authenticate: {self._scheme}\r\n" if status == 407 else ""
                near.sendall(f"HTTP/1.1 {status} No\r\n{asks}Content-Length: 0\r\n\r\n".encode())
                return
            target = text.split(" ")[1]
            host, _, port = target.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), IDLE_S) as far:
                self.targets.append(target)
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._relay(near, far)

    def _judge(self, head: str) -> int:
        if not head.startswith("CONNECT "):
            return 405
        allowed = not self._needs_user or f"Proxy-Authorization: {self._authorization}\r\n" in head
        return 200 if allowed else 407

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        while not self._stopping.is_set():
            for ready in select.select([near, far], [], [], 0.05)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (far if ready is near else near).sendall(data)
