"""One HTTP request on one connection, under one deadline for everything.

A time limit per read is not enough: a server that sends a byte a second would hold us for
ever, and name resolution takes no limit at all. So the talking is done by a thread of its own,
and when time is up the connection is cut under it.

No redirects, no pooling, no cookies; TLS as the given context says; a proxy by CONNECT.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from ssl import SSLContext
from typing import NamedTuple
from urllib.parse import SplitResult

from thv_llm.dial import dial
from thv_llm.env_proxy import EnvProxy

MAX_BODY_BYTES = 1 << 20  # ToolHive's limit as well; real documents have some 10 kB
CUT_GRACE_S = 1.0  # a cut connection ends its thread at once, unless that sits in name resolution


class TooLargeError(Exception):
    """The body is larger than MAX_BODY_BYTES."""


class Answer(NamedTuple):
    """What came back. Header names are lower-case; of repeated headers the last one is kept."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Tell no more than the status: a token may be in the rest."""
        return f"Answer(status={self.status})"


class Request(NamedTuple):
    """What to send, and where."""

    method: str
    url: SplitResult
    headers: dict[str, str]
    body: bytes | None = None

    def __repr__(self) -> str:
        """Tell no more than where it goes: a token may be in the rest."""
        return f"Request(method={self.method!r}, host={self.host!r})"

    @property
    def host(self) -> str:
        """The server's name, without brackets."""
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        """The server's port, by default the scheme's."""
        return self.url.port or (443 if self.url.scheme == "https" else 80)

    @property
    def target(self) -> str:
        """Path and query, as they go into the request line."""
        path = self.url.path or "/"
        return f"{path}?{self.url.query}" if self.url.query else path


class Exchange:
    """Send one request and read its answer.

    Attributes:
        maybe_sent: after a failure: whether the server may have seen the request.
    """

    def __init__(self, request: Request, *, context: SSLContext | None, proxy: EnvProxy | None) -> None:
        self.maybe_sent = False
        self._request = request
        self._context = context
        self._proxy = proxy
        self._connection: _Connection | None = None
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def run(self, timeout_s: float) -> Answer:
        """Talk, for at most `timeout_s` seconds.

        Raises:
            TimeoutError: time is up.
            OSError: (ssl.SSLError among them), http.client.HTTPException, TooLargeError.
        """
        thread = threading.Thread(target=self._work, args=(timeout_s,), name="oidc-exchange", daemon=True)
        thread.start()
        try:
            thread.join(timeout_s)
            is_late = thread.is_alive()
        finally:
            if self._connection is not None:
                self._connection.cut()
            thread.join(CUT_GRACE_S)
        if is_late:
            raise TimeoutError
        if self._answer is None:
            assert self._error is not None
            raise self._error
        return self._answer

    def _work(self, timeout_s: float) -> None:
        try:
            self._answer = self._talk(timeout_s)
        except BaseException as error:
            self._error = error

    def _talk(self, timeout_s: float) -> Answer:
        request = self._request
        self._connection = _Connection(request, timeout_s, context=self._context, proxy=self._proxy)
        with contextlib.closing(self._connection):
            self._connection.connect()
            self.maybe_sent = True
            self._connection.request(request.method, request.target, request.body, request.headers)
            with self._connection.getresponse() as response:
                headers = {name.lower(): value for name, value in response.getheaders()}
                return Answer(response.status, headers, _read(response))


def _read(response: http.client.HTTPResponse) -> bytes:
    body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError
    # read(n) takes a connection that ends too early for an end; `length` is what is missing.
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # An end inside the head is taken for the head's end; a cut 401 must not pass for a bare one.
    has_frame = response.chunked or response.getheader("content-length") is not None
    if not body and not has_frame and response.status // 100 not in (1, 3) and response.status != 204:
        raise http.client.IncompleteRead(b"")
    return body


class _Connection(http.client.HTTPConnection):
    """A connection that another thread can cut as soon as TCP has made it, also during a handshake."""

    def __init__(
        self, request: Request, timeout_s: float, *, context: SSLContext | None, proxy: EnvProxy | None
    ) -> None:
        near = (proxy.host, proxy.port) if proxy else (request.host, request.port)
        super().__init__(*near, timeout=timeout_s)
        self._create_connection = _open  # of http.client; where it goes unused, only time is lost
        self._name = request.host
        self._tls = context
        self._wire: socket.socket | None = None
        if proxy:
            headers = {
                "Host": f"{request.host}:{request.port}",
                "User-Agent": request.headers.get("User-Agent", ""),
            }
            if proxy.authorization:
                headers["Proxy-Authorization"] = proxy.authorization.reveal()
            self.set_tunnel(request.host, request.port, headers)

    def connect(self) -> None:
        super().connect()  # TCP, then CONNECT if there is a proxy
        assert isinstance(self.sock, socket.socket)
        if self._tls is None:
            self._wire = self.sock
            return
        name = self._name.encode("ascii")
        # The handshake is a step of its own, so that `cut` finds the socket during it.
        tls = self._tls.wrap_socket(self.sock, server_hostname=name, do_handshake_on_connect=False)
        self.sock = self._wire = tls
        tls.do_handshake()

    def cut(self) -> None:
        """End whatever the other thread is waiting for."""
        wire = self._wire or self.sock
        if isinstance(wire, socket.socket):
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would drop the TLS layer under the other thread's read.
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


def _open(address: tuple[str, int], timeout_s: float, _near: object) -> socket.socket:
    """Connect to a host whose name is ASCII, as `oidc.endpoint` and `env_proxy` see to.

    As bytes, here and for TLS, it does not load the tables of IDNA: milliseconds of a cold `token`.
    """
    host, port = address
    return dial(host.encode("ascii"), port, timeout_s)
