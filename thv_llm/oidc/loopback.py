"""The redirect listener of a login, and the pages that it shows.

Rule 1: bound before anyone learns its address, on loopback only, closed when the login ends.
Rule 2: whatever is not the authorization response that is expected gets a page that says so, and is
        forgotten: a favicon, another page, a wrong `state`, silence, TLS. Only the response, or the end
        of the time, ends the wait.
Rule 3: the response's connection is held until the login has worked or failed, so that the page says what
        is true.
Rule 4: at most MAX_THREADS connections; the oldest one makes room, because browsers open connections in
        advance and leave them silent.
Rule 5: a page holds no script, nothing from elsewhere, nothing unescaped, and is not kept by the browser.
        Its policy names the one style sheet by its hash, so that even a mistake in escaping runs nothing.

Source: RFC 8252 sections 7.3 and 8.3.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import queue
import re
import socket
import threading
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple

from thv_llm.errors import ThvLlmError
from thv_llm.system import peers

PATH = "/callback"
MAX_THREADS = 16
SILENCE_S = 15.0
SEND_S = 5.0
POLL_S = 0.1  # how soon the listener ends once it is told to
EPHEMERAL_TRIES = 5
CANNOT_LISTEN = "cannot listen for the redirect of the login"

STYLE = """\
:root{color-scheme:light dark;--ground:#f4f5f7;--card:#fff;--edge:#e1e4e8;--text:#1b1f24;--soft:#59636e;
--mark:#1a7f37;--tint:#dafbe1}
.failed{--mark:#b3261e;--tint:#ffe4e1}
.other{--mark:var(--soft);--tint:var(--ground)}
@media (prefers-color-scheme:dark){
:root{--ground:#0d1117;--card:#161b22;--edge:#2b323b;--text:#e6edf3;--soft:#9aa5b1;--mark:#4ac26b;--tint:#12331f}
.failed{--mark:#ff8b80;--tint:#431a17}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--ground);
color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:100%;max-width:29rem;padding:2.5rem 2.25rem 2rem;background:var(--card);
border:1px solid var(--edge);border-radius:16px;
box-shadow:0 1px 2px rgb(0 0 0/.05),0 12px 32px rgb(0 0 0/.07)}
.mark{display:grid;place-items:center;width:3.25rem;height:3.25rem;border-radius:50%;background:var(--tint)}
.mark svg{width:1.6rem;height:1.6rem;fill:none;stroke:var(--mark);stroke-width:2.6;stroke-linecap:round;
stroke-linejoin:round}
h1{margin:1.25rem 0 .35rem;font-size:1.4rem;line-height:1.25;letter-spacing:-.01em}
p{margin:.6rem 0 0;color:var(--soft);overflow-wrap:anywhere}
strong{color:var(--text);font-weight:600}
code{padding:.15em .45em;border-radius:6px;background:var(--ground);color:var(--text);
font:.9em ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
footer{margin-top:1.75rem;padding-top:1rem;border-top:1px solid var(--edge);
font-size:.85rem;color:var(--soft)}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Connection", "close"),
)
"""Headers of each response to the browser. Source: RFC 9700 section 4.2.4 (code leaks by Referer)."""

_TICK = "M5 12.5l4.5 4.5L19 7.5"
_CROSS = "M7 7l10 10M17 7L7 17"
_POINT = "M12 11v7M12 6v.01"

_REQUEST_LINE = re.compile(rb"GET (/[^ ?#]*)(?:\?([^ #]*))? HTTP/1\.[01]\r?\n")


class _Page(NamedTuple):
    status: HTTPStatus
    body: bytes = b""
    location: str = ""


class AuthorizationResponse:
    """What ends the wait: the browser's request, which gets one response, or a pasted URL's query.

    Attributes:
        in_browser: a browser waits for a page; without one, `show` and `go_on` do nothing.
    """

    def __init__(self, query: str, *, in_browser: bool = False) -> None:
        self.query = query
        self.in_browser = in_browser
        self.page: queue.SimpleQueue[_Page | None] = queue.SimpleQueue()
        self.sent = threading.Event()

    def __repr__(self) -> str:
        return "AuthorizationResponse(***)"  # the query holds the code

    def show(self, body: bytes) -> None:
        """Send a page; return when the browser has it, or went away."""
        self._respond(_Page(HTTPStatus.OK, body))

    def go_on(self, url: str) -> None:
        """Send the browser to another URL, for a second round of the login."""
        self._respond(_Page(HTTPStatus.SEE_OTHER, location=url))

    def _respond(self, page: _Page) -> None:
        if self.in_browser:
            self.page.put(page)
            self.sent.wait(SEND_S)


class RedirectListener:
    """Wait for authorization responses on a loopback port. Use as a context manager.

    Args:
        host: `127.0.0.1`, or `localhost` for providers that register only that.
        port: 0 takes any free one.

    Raises:
        ThvLlmError: the fixed port is taken.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.threads = threading.BoundedSemaphore(MAX_THREADS)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []  # the oldest first
        self._is_expected: Callable[[str], bool] | None = None
        self._found: queue.SimpleQueue[AuthorizationResponse] = queue.SimpleQueue()
        self._held: list[AuthorizationResponse] = []
        self._servers = _bind(host, port, self)
        self.addresses = [str(server.server_address[0]) for server in self._servers]
        self.port: int = self._servers[0].server_address[1]
        self.redirect_uri = f"http://{host}:{self.port}{PATH}"
        self._serving = [
            threading.Thread(target=server.serve_forever, args=(POLL_S,), name="redirect-listener")
            for server in self._servers
        ]
        for thread in self._serving:
            thread.start()

    def __enter__(self) -> RedirectListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port and every connection."""
        for server in self._servers:
            server.shutdown()
        for thread in self._serving:
            thread.join()
        with self._lock:
            for response in self._held:
                response.page.put(None)
            for connection in self._open:
                _cut(connection)
        for server in self._servers:
            server.server_close()  # joins the threads of its connections

    def expect(self, is_expected: Callable[[str], bool]) -> None:
        """Have `wait` return the next request whose query this accepts. Called before the URL is known."""
        with self._lock:
            self._is_expected = is_expected
            self._found = queue.SimpleQueue()  # without one of an earlier round that came too late

    def wait(self, timeout_s: float) -> AuthorizationResponse | None:
        """Return the expected request, None when there is none in time."""
        try:
            return self._found.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def take(self, query: str, connection: socket.socket) -> AuthorizationResponse | None:
        """Hold the connection of the expected request; None is returned to any other."""
        with self._lock:
            if self._is_expected is None or not self._is_expected(query):
                return None
            self._is_expected = None
            response = AuthorizationResponse(query, in_browser=True)
            self._held.append(response)
            self._open.remove(connection)  # so it never makes room for others
            self._found.put(response)
        return response

    def opened(self, connection: socket.socket) -> bool:
        """Count a connection in, if need be in place of the oldest one; False: there is no room."""
        has_room = self.threads.acquire(blocking=False)
        if not has_room:
            with self._lock:
                if self._open:
                    _cut(self._open[0])
            has_room = self.threads.acquire(timeout=1.0)
        if has_room:
            with self._lock:
                self._open.append(connection)
        return has_room

    def ended(self, connection: socket.socket) -> None:
        """Count a connection out."""
        with self._lock, contextlib.suppress(ValueError):
            self._open.remove(connection)
        self.threads.release()


def _cut(connection: socket.socket) -> None:
    """End whatever a thread is waiting for on this connection."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    """The listener on one address."""

    daemon_threads = False
    request_queue_size = 128
    allow_reuse_address = allow_reuse_port = False

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], owner: RedirectListener
    ) -> None:
        self.address_family = family
        self.owner = owner
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        peers.reserve(self.socket)
        TCPServer.server_bind(self)  # HTTPServer's looks the address up in the DNS

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.owner.opened(request):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.owner.ended(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke."""


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: _Server
    raw_requestline: bytes
    timeout = SILENCE_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        line = _REQUEST_LINE.fullmatch(self.raw_requestline)
        if line is None or line[1] != PATH.encode():
            self._send(_Page(HTTPStatus.NOT_FOUND if line else HTTPStatus.BAD_REQUEST, stray_page()))
            return
        response = self.server.owner.take((line[2] or b"").decode("latin-1"), self.connection)
        if response is None:
            self._send(_Page(HTTPStatus.BAD_REQUEST, stray_page()))
            return
        try:
            if page := response.page.get():
                self._send(page)
        finally:
            response.sent.set()

    def send_error(self, *_: Any, **__: Any) -> None:
        """Respond to what `http.server` cannot read, without showing any of it."""
        self._send(_Page(HTTPStatus.BAD_REQUEST, stray_page()))

    def _send(self, page: _Page) -> None:
        self.request_version = self.protocol_version  # without it, a bad request would get no head
        self.connection.settimeout(SEND_S)
        self.send_response_only(page.status)
        for name, value in (*HEADERS, ("Content-Length", str(len(page.body)))):
            self.send_header(name, value)
        if page.location:
            self.send_header("Location", page.location)
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep codes out of every log."""


def _bind(host: str, port: int, owner: RedirectListener) -> list[_Server]:
    for _ in range(EPHEMERAL_TRIES):
        first = _listen(socket.AF_INET, ("127.0.0.1", port), owner)
        if host != "localhost":
            return [first]
        # Browsers can take `localhost` for ::1, where another program could be listening.
        try:
            return [first, _listen(socket.AF_INET6, ("::1", first.server_address[1]), owner)]
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return [first]
            first.server_close()
        except ThvLlmError:
            first.server_close()
            if port:
                raise
    raise ThvLlmError(CANNOT_LISTEN, why="no port is free on both 127.0.0.1 and ::1")


def _listen(family: socket.AddressFamily, address: tuple[str, int], owner: RedirectListener) -> _Server:
    try:
        return _Server(family, address, owner)
    except OSError as error:
        if error.errno not in {*peers.TAKEN, errno.EACCES}:
            raise
        raise ThvLlmError(
            CANNOT_LISTEN,
            why=f"port {address[1]} on {address[0]} is used by another program",
            next_step="end that program, or choose a port that is registered, too: thv-llm setup"
            " --callback-port PORT",
        ) from None


def success_page(gateway_name: str) -> bytes:
    """Return the page for a login that has worked."""
    return _page(
        "Logged in",
        "done",
        _TICK,
        f"<p>Your AI tools can now use <strong>{escape(gateway_name)}</strong>.</p>"
        "<p>You can close this window. Go back to your terminal.</p>",
    )


def failure_page(why: str, next_step: str) -> bytes:
    """Return the page for a login that has failed.

    Args:
        why: what happened, plain text.
        next_step: the command or action that helps, plain text.
    """
    advice = f"<p>What to do: {_command_or_text(next_step)}</p>" if next_step else ""
    return _page(
        "The login failed",
        "failed",
        _CROSS,
        f"<p>{escape(_sentence(why))}</p>{advice}<p>You can close this window. Go back to your terminal.</p>",
    )


def stray_page() -> bytes:
    """Return the page for a request that is not the expected one."""
    return _page(
        "Not the expected page",
        "other",
        _POINT,
        "<p>This address takes the redirect of one login, and this was not it. A login that is under way "
        "continues: go back to your terminal, which shows its address.</p>",
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _command_or_text(text: str) -> str:
    return f"run <code>{escape(text)}</code>" if text.startswith("thv-llm ") else escape(text)


def _page(title: str, kind: str, path: str, content: str) -> bytes:
    text = (
        f'<!doctype html><html lang="en" class="{kind}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} · thv-llm</title><style>{STYLE}</style></head><body><main>"
        f'<div class="mark"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg></div>'
        f"<h1>{escape(title)}</h1>{content}<footer>thv-llm on this machine</footer></main></body></html>\n"
    )
    return text.encode()
