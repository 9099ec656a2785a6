"""A small threaded web server for fakes: TLS with the test certificate, any response, joined at the end.

A response can be well formed, raw bytes, a drip of bytes, or nothing at all; a test decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

TLS_DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "tls")
CA_FILE = os.path.join(TLS_DIRECTORY, "ca.pem")
USUAL_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Request:
    """What a client sent; of fields that came twice the last one counts."""

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]
    body: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """Query and form together."""
        return {**self.query, **self.form}


@dataclass
class ServerResponse:
    """What to send back.

    Attributes:
        body: bytes as they are, a str as HTML, anything else as JSON.
        raw: sent instead of everything else; then the connection ends ("" sends nothing).
        drip_s: send the response one byte at a time with so many seconds between them.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    drip_s: float = 0.0

    def encoded(self) -> tuple[bytes, str]:
        """Return the body's bytes and their type."""
        if isinstance(self.body, bytes):
            return self.body, "application/json"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


def server_context() -> ssl.SSLContext:
    """Return the TLS context of a server with the test certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        os.path.join(TLS_DIRECTORY, "server.pem"), os.path.join(TLS_DIRECTORY, "server.key")
    )
    return context


class WebServer:
    """Serve `respond` on a free loopback port while the context lasts.

    Args:
        respond: called in a thread for each request.
        tls: serve https.
        context: the TLS context to use instead of the usual one.
        host, port: where it listens, and is called.

    Attributes:
        errors: what went wrong in handlers (refused handshakes, clients that went away).
        stopping: set when the server ends; what waits, waits on it.
    """

    def __init__(
        self,
        respond: Callable[[Request], ServerResponse],
        *,
        tls: bool = True,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._respond = respond
        self._context = context or (server_context() if tls else None)
        self.errors: list[BaseException] = []
        self.stopping = threading.Event()
        self._server = _Server(self, (host, port))
        self.port: int = self._server.server_address[1]
        scheme = "https" if self._context else "http"
        self.url = f"{scheme}://{host}" + ("" if port == USUAL_PORTS[scheme] else f":{self.port}")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), name="fake-web")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut every connection, and join every thread."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.cut_all()
        self._server.server_close()

    def wrapped(self, connection: socket.socket) -> socket.socket:
        """Put TLS on a connection; the handshake happens at its first read, in its own thread."""
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what serves a connection."""
        return _Handler

    def respond(self, request: Request) -> ServerResponse:
        """Return the response to a request."""
        return self._respond(request)


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = False  # so that server_close joins them
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: WebServer, address: tuple[str, int]) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, owner.handler())

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        connection.settimeout(30)
        connection = self.owner.wrapped(connection)
        with self._lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            self.owner.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    """One request per connection (HTTP/1.0)."""

    server: _Server
    server_version = "fake"
    sys_version = ""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_HEAD = do_OPTIONS = do_GET

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
        response = self.server.owner.respond(
            Request(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query, keep_blank_values=True)),
                dict(parse_qsl(body, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                body,
            )
        )
        data = response.raw if response.raw is not None else self._encoded(response)
        for piece in [data] if not response.drip_s else [data[i : i + 1] for i in range(len(data))]:
            self.wfile.write(piece)
            self.wfile.flush()
            if response.drip_s and self.server.owner.stopping.wait(response.drip_s):
                return

    def _encoded(self, response: ServerResponse) -> bytes:
        body, kind = response.encoded()
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers.update(response.headers)
        lines = [
            f"HTTP/1.0 {response.status} Status",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""
