"""The one HTTP client for requests of our own: one request on one connection, under one deadline.

Rule 1: a time limit for each read is not enough: a server that sends a byte a second would hold us
        forever, and name resolution takes no limit at all. So a thread of its own does the talking, and
        when time is up the connection is cut under it.
Rule 2: at most MAX_BODY_BYTES of body, and never a cut body in place of a whole one.
Rule 3: no redirects, no pooling, no cookies; TLS as the context says; an HTTP proxy by CONNECT only.
Rule 4: an error names the server's host and what happened, and nothing of what the server sent.

The proxy's traffic does not go through here.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json as json_module
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import SplitResult, urlsplit

from thv_llm import __version__
from thv_llm.errors import NoResponseError
from thv_llm.net import tls
from thv_llm.net.dial import EnvProxy, dial, env_proxy

TIMEOUT_S = 10.0
MAX_BODY_BYTES = 1 << 20  # ToolHive's limit as well; real documents have some 10 kB
CUT_GRACE_S = 1.0  # a cut connection ends its thread at once, unless that sits in name resolution

JsonObject = dict[str, Any]


class Response(NamedTuple):
    """A whole response.

    Attributes:
        host: the server's name.
        headers: names in lower case; of repeated headers the last one is kept, of WWW-Authenticate all.
        json: the object in the body, None when the body is not one JSON object.
        problem: why `json` is None, to be read after "the response".
    """

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    json: JsonObject | None = None
    problem: str = ""

    def __repr__(self) -> str:
        """Tell no more than the host and the status: a token can be in the rest."""
        return f"Response(host={self.host!r}, status={self.status})"


class HttpClient:
    """Requests to servers that the settings name.

    Args:
        ca_file: certificate authorities to trust besides the system's; "" for none.
        environ: where `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` are looked up.
        verify: False only when the user asked for it, and only for the gateway.
        timeout_s: for each request, from name resolution to the last byte.
        context: gives the TLS context, where one is in the making already (`tls.begun`).
    """

    def __init__(
        self,
        ca_file: str = "",
        *,
        environ: Mapping[str, str],
        verify: bool = True,
        timeout_s: float = TIMEOUT_S,
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._environ = environ
        self._timeout_s = timeout_s
        self._context = functools.cache(
            context or (lambda: tls.client_context(ca_file, environ=environ, verify=verify))
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send one request; any status is a response.

        Args:
            url: an http or https URL that was checked. Plain http never goes to a proxy.
            what: begins the message of an error ("cannot reach the gateway").

        Raises:
            NoResponseError: no whole response came; `maybe_sent` says whether the request can have arrived.
            ThvLlmError: the CA file or HTTPS_PROXY cannot be used.
        """
        parts = urlsplit(url)
        sent = {"User-Agent": f"thv-llm/{__version__}", "Accept": "application/json", "Connection": "close"}
        connection = _Connection(parts, self._timeout_s)
        if parts.scheme == "https":
            connection.proxy = env_proxy(connection.host, connection.port, self._environ)
            connection.context = self._context()
        request = (method, _target(parts), body, {**sent, **(headers or {})})
        exchange = _Exchange(connection, request, self._timeout_s)
        try:
            return exchange.run()
        except (OSError, http.client.HTTPException, _TooLargeError, ValueError) as error:
            raise exchange.failure(error, what) from None


def response_with(host: str, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    """Return a response with this body read as JSON."""
    try:
        return Response(host, status, headers, body, json_object(body))
    except ValueError as error:
        return Response(host, status, headers, body, None, str(error))


def json_object(data: bytes) -> JsonObject:
    """Return the one JSON object that `data` is.

    An object that names a member twice is refused: two readers could take different values from it.

    Raises:
        ValueError: why not, without any of the text, to be read after "the response".

    Source: RFC 8259 (section 4 on duplicate names, section 8.1 on UTF-8).
    """
    try:
        value = json_module.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_such_number
        )
    except _DuplicateError as error:
        raise ValueError(f"names the member {error.name[:40]!r} twice") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:  # not UTF-8, not JSON, a number of thousands of digits
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


class _DuplicateError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found: JsonObject = {}
    for name, value in pairs:
        if name in found:
            raise _DuplicateError(name)
        found[name] = value
    return found


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(name)


class _TooLargeError(Exception):
    """The body is larger than MAX_BODY_BYTES."""


class _Exchange:
    """One request and its response.

    Args:
        request: method, target, body and headers, as `HTTPConnection.request` takes them.
    """

    def __init__(
        self,
        connection: _Connection,
        request: tuple[str, str, bytes | None, dict[str, str]],
        timeout_s: float,
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._request = request
        self._maybe_sent = False
        self._response: Response | None = None
        self._error: BaseException | None = None

    def run(self) -> Response:
        thread = threading.Thread(target=self._work, name="http-client", daemon=True)
        thread.start()
        try:
            thread.join(self._timeout_s)
            is_late = thread.is_alive()
        finally:
            self._connection.cut()
            thread.join(CUT_GRACE_S)
        if is_late:
            raise TimeoutError
        if self._response is None:
            assert self._error is not None
            raise self._error
        return self._response

    def failure(self, error: Exception, what: str) -> NoResponseError:
        from thv_llm.net import failures

        host, proxy = self._connection.host, self._connection.proxy
        if isinstance(error, _TooLargeError):
            why = f"the response of {host} is larger than {MAX_BODY_BYTES >> 20} MB"
            return NoResponseError(what, why=why, next_step="check the address", maybe_sent=True)
        why, next_step = failures.explain(
            error, host, proxy=proxy.address if proxy else "", timeout_s=self._timeout_s
        )
        return NoResponseError(what, why=why, next_step=next_step, maybe_sent=self._maybe_sent)

    def _work(self) -> None:
        try:
            self._response = self._talk()
        except BaseException as error:
            self._error = error

    def _talk(self) -> Response:
        with contextlib.closing(self._connection) as connection:
            connection.connect()
            self._maybe_sent = True
            connection.request(*self._request)
            with connection.getresponse() as response:
                headers = {name.lower(): value for name, value in response.getheaders()}
                if challenges := response.headers.get_all("www-authenticate"):  # one scheme each, often
                    headers["www-authenticate"] = ", ".join(challenges)
                body = _read(response, has_body=self._request[0] != "HEAD")
        return response_with(connection.host, response.status, headers, body)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _read(response: http.client.HTTPResponse, *, has_body: bool) -> bytes:
    body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise _TooLargeError
    # read(n) takes a connection that ends too early for an end; `length` is what is missing.
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # An end inside the head is taken for the head's end; a cut 401 must not pass for a bare one.
    has_frame = response.chunked or response.getheader("content-length") is not None
    needs_body = has_body and response.status // 100 not in (1, 3) and response.status != 204
    if needs_body and not body and not has_frame:
        raise http.client.IncompleteRead(b"")
    return body


class _Connection(http.client.HTTPConnection):
    """A connection that another thread can cut as soon as TCP has made it, also during a handshake.

    Attributes:
        proxy, context: set before `connect`; None for a direct connection, and for one without TLS.
    """

    def __init__(self, parts: SplitResult, timeout_s: float) -> None:
        default = 443 if parts.scheme == "https" else 80
        super().__init__(parts.hostname or "", parts.port or default, timeout=timeout_s)
        self.default_port = default  # left out of `Host`
        self.proxy: EnvProxy | None = None
        self.context: ssl.SSLContext | None = None
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        sock = self.sock = self._socket = dial(self.host, self.port, self._timeout_s, proxy=self.proxy)
        if self.context is None:
            return
        # As bytes, the name does not load the tables of IDNA. The handshake is a step of its own, so that
        # `cut` finds the socket during it.
        tls_socket = self.context.wrap_socket(
            sock, server_hostname=self.host.encode("ascii"), do_handshake_on_connect=False
        )
        self.sock = self._socket = tls_socket
        tls_socket.do_handshake()

    def cut(self) -> None:
        """End whatever the other thread is waiting for."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would drop the TLS layer under the other thread's read.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
