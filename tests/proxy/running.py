"""A running proxy in front of a hostile gateway, and a raw client for it."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.fakes.hostile_gateway import CA, HostileGateway, Script
from thv_llm.proxy.forward import GetToken, Refusal
from thv_llm.proxy.server import Proxy, Timing
from thv_llm.proxy.stats import LogEntry
from thv_llm.proxy.upstream import Gateway, Limits
from thv_llm.secret import Secret

KEY = "thv-local-key-0123456789"
TOKEN = "canary-token-1"
PATIENCE_S = 10.0
TIMING = Timing(linger=0.5)
LIMITS = Limits()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Tokens:
    """Hands out tokens as the token source does: `canary-token-1`, and another one after a refusal.

    One that has just replaced a token that got a 401 is not replaced because of another 401.
    """

    def __init__(self) -> None:
        self.current = 1
        self.refreshes = 0
        self.reported: list[tuple[str, int]] = []
        self.failure: Exception | None = None
        self.at_hand: Secret | None = None
        self._arrived_at = -math.inf
        self._replaced_refused = False
        self._lock = threading.Lock()

    def __call__(self, refusal: Refusal | None) -> Secret:
        with self._lock:
            if refusal is not None:
                self.reported.append((refusal.token.reveal(), refusal.status))
            if self.failure is not None:
                raise self.failure
            if refusal is not None and refusal.status == 401:
                if refusal.token == self._token() and not self._replaced_refused:
                    self._refresh(replaces_refused=True)
            elif refusal is not None and self._arrived_at <= refusal.since:
                self._refresh(replaces_refused=False)
            return self._token()

    def _token(self) -> Secret:
        return Secret(f"canary-token-{self.current}")

    def _refresh(self, *, replaces_refused: bool) -> None:
        self.refreshes += 1
        self.current += 1
        self._arrived_at = time.monotonic()
        self._replaced_refused = replaces_refused


@dataclass
class Running:
    """What a test gets."""

    proxy: Proxy
    gateway: HostileGateway
    tokens: Tokens
    entries: list[LogEntry] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.proxy.port

    def connect(self) -> Client:
        return Client(self.port)

    def send(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes back."""
        with self.connect() as client:
            client.send(data)
            return client.everything()

    def get(self, path: str = "/v1/models", *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
        """Ask with a good head and `Connection: close`."""
        return self.send(self.head(path, *lines, "Connection: close", method=method, body=body))

    def head(self, path: str = "/v1/models", *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
        """Return a request that the proxy takes."""
        fields = [f"Host: 127.0.0.1:{self.port}", f"Authorization: Bearer {KEY}", *lines]
        if body:
            fields.append(f"Content-Length: {len(body)}")
        return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode("latin-1") + body

    def entry(self, count: int = 1) -> LogEntry:
        """Return the last request's entry, after so many have been reported."""
        until(lambda: len(self.entries) >= count)
        return self.entries[-1]


class Client:
    """A client on a raw socket."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # refused in the middle of it: the response is what counts
            self.sock.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to a mark, and no further; less when the connection ended."""
        found = b""
        while mark not in found:
            data = self.receive()
            if not data:
                return found
            found += data
        found, _, self._left = found.partition(mark)
        return found + mark

    def receive(self) -> bytes:
        """Return what is there next; b"" at the end, also at a broken one."""
        data, self._left = self._left, b""
        if data:
            return data
        try:
            return self.sock.recv(65536)
        except ConnectionError:
            return b""

    def everything(self) -> bytes:
        """Read until the connection ends."""
        pieces = []
        while data := self.receive():
            pieces.append(data)
        return b"".join(pieces)


def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait for something that another thread is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


@contextlib.contextmanager
def running(
    script: Script,
    *,
    host: str = "127.0.0.1",
    base: str = "",
    limits: Limits = LIMITS,
    timing: Timing = TIMING,
    descriptors: int = 2048,
    require_key: bool = True,
    keys: Callable[[], Mapping[bytes, str]] | None = None,
    environ: dict[str, str] | None = None,
    get_token: GetToken | None = None,
    drain_s: float = 0.0,
    no_token: Mapping[str, int] | None = None,
) -> Iterator[Running]:
    """Run a proxy before a gateway that follows this script."""
    with HostileGateway(script, host=host) as gateway:
        tokens = Tokens()
        entries: list[LogEntry] = []
        proxy = Proxy(
            0,
            Gateway(gateway.url + base, environ=environ or {}, ca_file=CA, limits=limits),
            get_token or tokens,
            Secret(KEY),
            entries.append,
            token_at_hand=lambda: tokens.at_hand,
            require_key=require_key,
            keys=keys,
            timing=timing,
            descriptors=descriptors,
            no_token=no_token,
        )
        proxy.start()
        try:
            yield Running(proxy, gateway, tokens, entries)
        finally:
            proxy.stop(drain_s)
        assert not gateway.errors, gateway.errors
