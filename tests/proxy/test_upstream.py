"""The door to the gateway: its URL, its certificate, the environment's proxy, single questions."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.hostile_gateway import HostileGateway, responding
from tests.proxy.running import OK, PATIENCE_S, Running, running, until
from thv_llm.proxy.server import ClientConnection
from thv_llm.proxy.transport import UpstreamConnection
from thv_llm.proxy.upstream import MAX_CONNECTING, Gateway, GatewayError, Limits, after
from thv_llm.settings import Settings


@pytest.mark.parametrize(
    ("url", "authority", "shown"),
    [
        ("https://gateway.example", b"gateway.example", "https://gateway.example"),
        ("https://gateway.example:443/", b"gateway.example", "https://gateway.example"),
        (
            "https://gateway.example:8443/team/v1/",
            b"gateway.example:8443",
            "https://gateway.example:8443/team",
        ),
        ("https://[::1]:8443", b"[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_the_gateway_is_where_its_url_says(url: str, authority: bytes, shown: str) -> None:
    gateway = Gateway(url, environ={})

    assert (gateway.authority, gateway.url) == (authority, shown)


def test_a_gateway_without_a_trusted_certificate_gets_no_byte() -> None:
    with HostileGateway(responding(OK)) as server:
        gateway = Gateway(server.url, environ={})

        with pytest.raises(GatewayError, match="does not trust"):
            gateway.connect()

        assert server.heads == []


def test_verification_can_be_turned_off_by_the_user() -> None:
    with HostileGateway(responding(OK)) as server:
        Gateway(server.url, environ={}, verify=False).connect().close()


def test_a_gateway_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        gateway = Gateway(url, environ={}, limits=Limits(connect=0.2))

        with pytest.raises(GatewayError) as caught:
            gateway.connect()

        assert caught.value.late


def test_connections_that_were_idle_for_too_long_are_not_used() -> None:
    with running(responding(OK), limits=Limits(keep=0.0)) as run:
        run.get()
        run.get()

        assert run.gateway.connections == 2


def test_a_gateway_that_closes_idle_connections_soon_is_believed() -> None:
    soon = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi"
    later = soon.replace(b"timeout=1", b"timeout=30, max=100")

    for response, connections in ((soon, 2), (later, 1)):
        with running(responding(response)) as run:
            run.get()
            run.get()
            assert run.gateway.connections == connections


@pytest.mark.posix
def test_both_sides_notice_a_network_that_drops_packets() -> None:
    with running(responding(OK)) as run, run.connect() as client:
        client.send(run.head())
        client.until(b"hi")
        until(lambda: bool(run.proxy._shared.gateway._idle))
        of_client = next(
            task for task in run.proxy._loop.tasks if isinstance(task, ClientConnection)
        ).client.sock
        of_gateway = run.proxy._shared.gateway._idle[0].sock

        for sock in (of_client, of_gateway):
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            found = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
            idle_s, every_s, count = found
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert (idle_s, idle_s + every_s * count <= 120) == (30, True)


@pytest.mark.parametrize(
    ("silent_s", "total_s", "text"),
    [
        (60.1, 300.0, "after 60 s exactly, as load balancers do"),
        (3.0, 120.2, "after 120 s exactly, as load balancers do"),
        (0.1, 10.0, "after 10.0 s"),
        (57.0, 75.31, "after 75.3 s"),
    ],
)
def test_a_cut_tells_whose_time_limit_it_probably_was(silent_s: float, total_s: float, text: str) -> None:
    assert after(silent_s, total_s) == text


def test_the_time_limit_of_the_settings_is_that_of_silence() -> None:
    wanted = Settings(gateway_url="https://llm.example", gateway_timeout_s=75)

    limits = Gateway.configured(wanted, {}).limits
    assert (limits.head, limits.idle) == (75, 75)


def crowd(run: Running, size: int) -> list[bytes]:
    """Ask with that many connections at the same moment."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(run.connect()) for _ in range(size)]
        for client in clients:
            client.send(run.head("/v1/models", "Connection: close"))
        return [client.everything() for client in clients]


def test_a_crowd_connects_a_few_at_a_time_and_takes_what_becomes_free() -> None:
    go_on = threading.Event()
    one_at_once = threading.Semaphore()
    asked = []

    with running(responding(OK)) as run, contextlib.ExitStack() as stack:
        stack.callback(go_on.set)
        connect = run.proxy._shared.gateway.connect

        def slowly() -> UpstreamConnection:
            asked.append(1)
            assert one_at_once.acquire(blocking=False) or go_on.wait(PATIENCE_S)
            return connect()

        run.proxy._shared.gateway.connect = slowly  # type: ignore[method-assign]
        clients = [stack.enter_context(run.connect()) for _ in range(2 * MAX_CONNECTING)]
        for client in clients:
            client.send(run.head("/v1/models", "Connection: close"))

        until(lambda: len(run.entries) == MAX_CONNECTING)
        assert (len(asked), run.gateway.connections) == (1 + MAX_CONNECTING, 1)
        go_on.set()
        assert all(client.everything().startswith(b"HTTP/1.1 200 ") for client in clients)


def test_a_crowd_before_a_silent_gateway_is_told_in_time() -> None:
    with (
        running(responding(OK), limits=Limits(connect=0.2)) as run,
        socket.create_server(("127.0.0.1", 0)) as dead,
    ):
        run.proxy._shared.gateway.port = dead.getsockname()[1]
        responses = crowd(run, 2 * MAX_CONNECTING)

        assert all(response.startswith(b"HTTP/1.1 504 ") for response in responses)


class EnvironmentProxy:
    """A CONNECT proxy that remembers what it saw."""

    def __init__(self, response: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self.passed = b""
        self._respond = response
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(4096)
                if not data:
                    return
                head += data
            self.heads.append(head)
            client.sendall(self._respond)
            if b" 200 " not in self._respond:
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as gateway:
                down = threading.Thread(target=self._copy, args=(gateway, client))
                down.start()
                self._copy(client, gateway, remember=True)
                down.join()

    def _copy(self, source: socket.socket, sink: socket.socket, *, remember: bool = False) -> None:
        try:
            while data := source.recv(65536):
                if remember:
                    self.passed += data
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    @contextmanager
    def serving(self) -> Iterator[EnvironmentProxy]:
        self._thread.start()
        try:
            yield self
        finally:
            with socket.socket() as waker:
                waker.connect(("127.0.0.1", self.port))
            self._thread.join()
            self._listener.close()


def test_a_proxy_of_the_environment_opens_a_tunnel_and_sees_tls_only() -> None:
    with EnvironmentProxy().serving() as between:
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{between.port}"}
        with running(responding(OK), environ=environ) as run:
            assert run.get().startswith(b"HTTP/1.1 200 ")
            assert run.get().startswith(b"HTTP/1.1 200 ")

            head = between.heads[0]
            assert head.startswith(f"CONNECT 127.0.0.1:{run.gateway.port} HTTP/1.1\r\n".encode())
            assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:s3cret") in head
            assert len(between.heads) == 1
            assert "s3cret" not in repr(run.entries)
        assert b"canary" not in head + between.passed
        assert b"s3cret" not in b"".join(run.gateway.heads)


@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 407 No\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 302 Go\r\nLocation: x\r\n\r\n"]
)
def test_a_tunnel_that_is_refused_is_a_bad_gateway(response: bytes) -> None:
    with EnvironmentProxy(response).serving() as between:
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{between.port}"}
        with running(responding(OK), environ=environ) as run:
            found = run.get()

            assert found.startswith(b"HTTP/1.1 502 ")
            assert b"s3cret" not in found
            assert run.gateway.connections == 0


def test_no_proxy_is_honored() -> None:
    environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    with running(responding(OK), environ=environ) as run:
        assert run.get().startswith(b"HTTP/1.1 200 ")
