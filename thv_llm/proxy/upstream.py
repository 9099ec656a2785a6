"""The gateway: its address, and a pool of TLS connections to it. The only door to the gateway.

Rule 1: host, port and base path are fixed when the proxy starts; no request can change them.
Rule 2: the connection used last is used next, so that few stay in use and the others end.
Rule 3: a pooled connection is looked at before it is used again. "Readable" does not mean dead
        (TLS 1.3 sends session tickets at any time): only an end, an error or bytes that nobody
        asked for do.
Rule 4: a proxy of the environment is asked for a tunnel by CONNECT and sees TLS from then on.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from thv_llm import __version__, env_proxy, tls
from thv_llm.dial import dial
from thv_llm.errors import ThvLlmError, shown
from thv_llm.proxy import headers, target
from thv_llm.proxy.http1 import Field, HeadReader, Refused, parse_answer
from thv_llm.proxy.link import Link, secure
from thv_llm.proxy.loop import Job, Steps, Turn
from thv_llm.proxy.wire import Late
from thv_llm.secret import Secret
from thv_llm.settings import Settings

MAX_IDLE = 128
"""Idle connections that are kept; more are closed when they become idle."""
MAX_CONNECTING = 16
"""Connections being made at a time. Of 200 requests at once, most are served sooner by one that
becomes free than by another TLS handshake."""
MAX_INTERIM = 16
"""Interim answers (103 and the like) before the final one."""


@dataclass(frozen=True)
class Limits:
    """How long each part of an exchange with the gateway may take, in seconds.

    A model may think for minutes before its first byte and between two events, and a whole stream
    may take hours: there is no limit for that.

    Attributes:
        connect: to reach the gateway, its TLS handshake included.
        head: from the request's end to the answer's head; what the tools' own SDKs wait.
        idle: without a byte in either direction, inside a body.
        keep: idle connections are closed after that, before load balancers do (60 s is usual).
    """

    connect: float = 10.0
    head: float = 600.0
    idle: float = 600.0
    keep: float = 45.0


class GatewayError(Exception):
    """The gateway could not be reached, or broke off.

    Args:
        why: in words that may be shown.
        late: it took too long (504 rather than 502).
    """

    def __init__(self, why: str, *, late: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.late = late


class Gateway:
    """The one place all requests go to.

    Args:
        url: https URL; its path, without a `/v1` at the end, goes before every request's path.
        environ: where HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are looked up.
        verify: False only when the user asked for it.

    Raises:
        ThvLlmError: the URL, the CA file or the environment's proxy cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        environ: Mapping[str, str],
        ca_file: str = "",
        verify: bool = True,
        limits: Limits = Limits(),
    ) -> None:
        self.host, self.port, base = _parts(url)
        self.limits = limits
        bare = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = (bare if self.port == 443 else f"{bare}:{self.port}").encode()
        self.base = target.base_path(base)
        self.url = f"https://{self.authority.decode()}{self.base.decode()}"
        self._context = tls.client_context(ca_file, environ=environ, verify=verify, alpn=["http/1.1"])
        self._proxy = env_proxy.for_https(self.host, self.port, environ)
        self._idle: deque[Link] = deque()
        self._connecting = 0
        self._waiting: deque[Turn] = deque()

    @classmethod
    def configured(cls, wanted: Settings, environ: Mapping[str, str]) -> Gateway:
        """Return the gateway that the settings name."""
        return cls(
            wanted.gateway_url, environ=environ, ca_file=wanted.ca_file, verify=not wanted.tls_skip_verify
        )

    def link(self) -> Steps[Link]:
        """Return a connection: the one used last, or a new one, or of a crowd the first that is free.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        deadline = time.monotonic() + self.limits.connect
        while (link := self.pooled()) is None and self._connecting >= MAX_CONNECTING:
            turn = Turn(deadline)
            self._waiting.append(turn)
            try:
                yield turn
            except Late:
                raise GatewayError("no connection within the time limit", late=True) from None
            finally:
                turn.over = True
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
        return link or (yield from self.new_link())

    def new_link(self) -> Steps[Link]:
        """Return a new connection.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        self._connecting += 1
        try:
            link: Link = yield Job(self.connect, Link.close)
        finally:
            self._connecting -= 1
            self._wake_one()
        return link

    def _wake_one(self) -> None:
        if self._waiting:
            self._waiting.popleft().wake()

    def pooled(self) -> Link | None:
        """Return the connection that was used last and is alive; None when there is none."""
        while self._idle:
            link = self._idle.pop()
            if time.monotonic() - link.idle_since < self.limits.keep and link.is_alive():
                link.reused = True
                return link
            link.close()
        return None

    def give_back(self, link: Link) -> None:
        """Take a connection whose exchange ended cleanly, for another one."""
        now = link.idle_since = time.monotonic()
        link.task, link.pool = None, self._idle
        self._idle.append(link)
        self._wake_one()
        # Whoever brings one looks at the oldest, so no timer is needed to end those left over.
        while len(self._idle) > MAX_IDLE or now - self._idle[0].idle_since > self.limits.keep:
            self._idle.popleft().close()
            if not self._idle:
                return

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def connect(self) -> Link:
        """Make a new connection. Blocks, so it is a job for a thread.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        deadline = time.monotonic() + self.limits.connect
        try:
            sock = self._dial(deadline)
        except TimeoutError:
            raise GatewayError("no connection within the time limit", late=True) from None
        except OSError as error:
            raise GatewayError(why(error)) from None
        try:
            return secure(sock, self._context, self.host, deadline)
        except TimeoutError:
            sock.close()
            raise GatewayError("no TLS handshake within the time limit", late=True) from None
        except OSError as error:
            sock.close()
            raise GatewayError(why(error)) from None

    def _dial(self, deadline: float) -> socket.socket:
        proxy = self._proxy
        host, port = (proxy.host, proxy.port) if proxy else (self.host, self.port)
        sock = dial(host, port, self.limits.connect)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy:
                self._tunnel(sock, proxy.authorization, deadline)
        except BaseException:
            sock.close()
            raise
        return sock

    def _tunnel(self, sock: socket.socket, authorization: Secret | None, deadline: float) -> None:
        """Ask the environment's proxy for a tunnel."""
        bare = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{bare}:{self.port}".encode()
        fields: list[Field] = [(b"Host", place), (b"User-Agent", b"thv-llm/" + __version__.encode())]
        if authorization is not None:
            fields.append((b"Proxy-Authorization", authorization.reveal().encode()))
        sock.sendall(headers.write(b"CONNECT %b HTTP/1.1" % place, fields))
        reader = HeadReader(of_answer=True)
        try:
            while True:
                sock.settimeout(max(0.01, deadline - time.monotonic()))
                # One byte at a time: what follows the head is TLS, and not ours to read here.
                data = sock.recv(1)
                if not data:
                    raise GatewayError("the proxy of the environment closed the connection")
                if reader.feed(data):
                    break
            status = parse_answer(reader.head).status
        except Refused as refused:
            raise GatewayError(f"the proxy of the environment: {refused.reason}") from None
        if status // 100 != 2:
            raise GatewayError(f"the proxy of the environment refused the tunnel with status {status}")


def _parts(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    plain = url.isascii() and url.isprintable() and " " not in url and _is_plain_path(parts.path)
    if (
        parts.scheme != "https"
        or not host
        or not plain
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ThvLlmError(
            "cannot use gateway_url",
            why=f"{shown(url)} is not an https URL of a host and perhaps a path",
            next_step="thv-llm config set --gateway-url https://HOST",
        )
    return host, port, parts.path


def _is_plain_path(path: str) -> bool:
    try:
        return target.parse((path or "/").encode("ascii", "replace")).query is None
    except Refused:
        return False


def why(error: OSError) -> str:
    """Return a cause that may be shown: what failed, without addresses or bytes."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(error.reason or 'closed').lower().replace('_', ' ')})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    return (error.strerror or type(error).__name__).lower()
