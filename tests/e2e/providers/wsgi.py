"""Serve a provider that is a WSGI application, over TLS on loopback, until the standard input ends.

Runs in the virtual environment of the provider; nothing of this project is imported.
"""

from __future__ import annotations

import json
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # the other one looks the address up in the DNS
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke."""


class _Handler(WSGIRequestHandler):
    timeout = 20

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "HTTPS": "on", "wsgi.url_scheme": "https"}


def serve(make: Callable[[dict[str, Any], str], Callable[..., Any]]) -> None:
    """Read what is given, make the application, and say at which URL it is.

    Args:
        make: gets what was given, and the URL; returns the application.
    """
    given = json.loads(sys.stdin.readline())
    server = _Server(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given["cert"], given["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"https://127.0.0.1:{server.server_port}"
    server.set_app(make(given, url))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(json.dumps({"url": url}), flush=True)
    sys.stdin.read()
