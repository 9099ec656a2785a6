"""The gateway: its address, and a pool of TLS connections to it. The only door to the gateway.

Rule 1: host, port and base path are fixed when the proxy starts; no request can change them.
Rule 2: the connection used last is used next, so that few stay in use and the others end.
Rule 3: a pooled connection is looked at before it is used again. "Readable" does not mean dead
        (TLS 1.3 sends session tickets at any time): only an end, an error or bytes that no request
        asked for do.
Rule 4: a proxy of the environment is asked for a tunnel by CONNECT and sees TLS from then on.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from thv_llm.net import failures, tls
from thv_llm.net.dial import dial, env_proxy
from thv_llm.proxy.event_loop import Job, Steps, Wakeup
from thv_llm.proxy.transport import DeadlineExceeded, UpstreamConnection, secure, tune
from thv_llm.settings import Settings
from thv_llm.validation import gateway_root

MAX_IDLE = 128
"""Idle connections that are kept; more are closed when they become idle."""
MAX_CONNECTING = 16
"""Connections being made at a time. Of 200 requests at once, most are served sooner by one that
becomes free than by another TLS handshake."""
KEEP_MARGIN_S = 1.0
"""Before the gateway closes an idle connection: a request can be on its way to it for so long."""
LIMIT_BLUR_S = 0.5
"""Between a load balancer's time limit and the moment in which we hear of it."""


@dataclass(frozen=True)
class Limits:
    """How long each part of an exchange with the gateway can take, in seconds.

    A model can think for minutes before its first byte and between two events, and a whole stream
    can take hours: there is no limit for that.

    Attributes:
        connect: to reach the gateway, its TLS handshake included.
        head: from the request's end to the response's head; what the clients' own SDKs wait.
        idle: without a byte in either direction, inside a body.
        keep: idle connections are closed after that, before load balancers do (60 s is usual).
    """

    connect: float = 10.0
    head: float = 600.0
    idle: float = 600.0
    keep: float = 45.0


def within(limit_s: float) -> str:
    """Say that a time limit of ours is over, and which setting it is."""
    return f"within {limit_s:g} s (gateway.idle_timeout)"


def after(silent_s: float, total_s: float) -> str:
    """Say after how much time something ended, and whose time limit that probably was.

    Args:
        silent_s: since a byte moved last.
        total_s: since the request began.
    """
    for seconds in (silent_s, total_s):
        limit_s = round(seconds, -1)
        if limit_s >= 20 and abs(seconds - limit_s) < LIMIT_BLUR_S:
            return f"after {limit_s:.0f} s exactly, as load balancers do"
    return f"after {total_s:.1f} s"


class GatewayError(Exception):
    """The gateway could not be reached, broke off, or is not what responds there.

    Args:
        why: in words that can be shown.
        late: it took too long (504 rather than 502).
        next_step: where that is not doctor's to say.
    """

    def __init__(self, why: str, *, late: bool = False, next_step: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.late = late
        self.next_step = next_step


class Gateway:
    """The one place all requests go to.

    Args:
        url: as `validation.gateway_url` returns it; its path, without a `/v1` at the end, goes before
            the path of each request.
        environ: where HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR are looked up.
        verify: False only when the user asked for it.

    Raises:
        ThvLlmError: the CA file or the environment's proxy cannot be used.
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
        parts = urlsplit(gateway_root(url))
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.limits = limits
        bare = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = (bare if self.port == 443 else f"{bare}:{self.port}").encode()
        self.base = parts.path.encode()
        self.url = f"https://{self.authority.decode()}{parts.path}"
        self._context = tls.client_context(ca_file, environ=environ, verify=verify, alpn=["http/1.1"])
        self._environ = environ
        env_proxy(self.host, self.port, environ)  # raises here what would fail later
        self._idle: deque[UpstreamConnection] = deque()
        self._connecting = 0
        self._waiting: deque[Wakeup] = deque()

    @classmethod
    def configured(cls, wanted: Settings, environ: Mapping[str, str]) -> Gateway:
        """Return the gateway that the settings name."""
        return cls(
            wanted.gateway_url,
            environ=environ,
            ca_file=wanted.ca_file,
            verify=not wanted.tls_skip_verify,
            limits=Limits(head=wanted.gateway_timeout_s, idle=wanted.gateway_timeout_s),
        )

    def connection(self) -> Steps[UpstreamConnection]:
        """Return a connection: the one used last, or a new one, or of a crowd the first that is free.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        deadline = time.monotonic() + self.limits.connect
        while (upstream := self.pooled()) is None and self._connecting >= MAX_CONNECTING:
            wakeup = Wakeup(deadline)
            self._waiting.append(wakeup)
            try:
                yield wakeup
            except DeadlineExceeded:
                raise GatewayError("no connection within the time limit", late=True) from None
            finally:
                wakeup.over = True
                with contextlib.suppress(ValueError):
                    self._waiting.remove(wakeup)
        return upstream or (yield from self.new_connection())

    def new_connection(self) -> Steps[UpstreamConnection]:
        """Return a new connection.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        self._connecting += 1
        try:
            upstream: UpstreamConnection = yield Job(self.connect, UpstreamConnection.close)
        finally:
            self._connecting -= 1
            if self._waiting:
                self._waiting.popleft().wake()
        return upstream

    def pooled(self) -> UpstreamConnection | None:
        """Return the connection that was used last and is alive; None when there is none."""
        while self._idle:
            upstream = self._idle.pop()
            keep_s = min(self.limits.keep, upstream.keep_s - KEEP_MARGIN_S)
            if time.monotonic() - upstream.idle_since < keep_s and upstream.is_alive():
                upstream.reused = True
                return upstream
            upstream.close()
        return None

    def give_back(self, upstream: UpstreamConnection) -> None:
        """Take a connection whose exchange ended cleanly, for another one."""
        now = upstream.idle_since = time.monotonic()
        upstream.task, upstream.pool = None, self._idle
        self._idle.append(upstream)
        if self._waiting:
            self._waiting.popleft().wake()
        # A task that returns one looks at the oldest, so no timer is needed to end those left over.
        while len(self._idle) > MAX_IDLE or now - self._idle[0].idle_since > self.limits.keep:
            self._idle.popleft().close()
            if not self._idle:
                return

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def connect(self) -> UpstreamConnection:
        """Make a new connection. Blocks, so it is a job for a thread.

        Raises:
            GatewayError: the gateway cannot be reached.
        """
        deadline = time.monotonic() + self.limits.connect
        proxy = env_proxy(self.host, self.port, self._environ)
        try:
            sock = dial(self.host, self.port, self.limits.connect, proxy=proxy)
            try:
                tune(sock)
                return secure(sock, self._context, self.host, deadline)
            except OSError:
                sock.close()
                raise
        except TimeoutError:
            raise GatewayError("no connection within the time limit", late=True) from None
        except OSError as error:
            why, _ = failures.explain(
                error, self.host, proxy=proxy.address if proxy else "", timeout_s=self.limits.connect
            )
            raise GatewayError(why) from None
