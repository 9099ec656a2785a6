"""The door to the gateway: its URL, its certificate, the environment's proxy, single questions."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.hostile_gateway import HostileGateway, answering
from tests.proxy.running import OK, PATIENCE_S, Running, running, until
from thv_llm.errors import ThvLlmError
from thv_llm.proxy.link import Link
from thv_llm.proxy.upstream import MAX_CONNECTING, Gateway, GatewayError, Limits


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example",
        "gateway.example",
        "https://",
        "https://user@gateway.example",
        "https://gateway.example/?a=b",
        "https://gateway.example/#a",
        "https://gateway.example/a b",
        "https://gateway.example/\r\nX: y",
        "https://gateway.example:99999",
        "https://gatew\u00e4y.example",
        "https://gateway.example/a/../b",
        "https://gateway.example/%2e%2e/b",
    ],
)
def test_a_url_that_could_mean_something_else_is_refused(url: str) -> None:
    with pytest.raises(ThvLlmError) as caught:
        Gateway(url, environ={})

    assert "gateway_url" in caught.value.what


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


def test_a_gateway_that_nobody_vouches_for_gets_no_byte() -> None:
    with HostileGateway(answering(OK)) as server:
        gateway = Gateway(server.url, environ={})

        with pytest.raises(GatewayError, match="not trusted"):
            gateway.connect()

        assert server.heads == []


def test_verification_can_be_turned_off_by_the_user() -> None:
    with HostileGateway(answering(OK)) as server:
        Gateway(server.url, environ={}, verify=False).connect().close()


def test_a_gateway_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        gateway = Gateway(url, environ={}, limits=Limits(connect=0.2))

        with pytest.raises(GatewayError) as caught:
            gateway.connect()

        assert caught.value.late


def test_connections_that_were_idle_for_too_long_are_not_used() -> None:
    with running(answering(OK), limits=Limits(keep=0.0)) as run:
        run.get()
        run.get()

        assert run.gateway.connections == 2


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

    with running(answering(OK)) as run, contextlib.ExitStack() as stack:
        stack.callback(go_on.set)
        connect = run.proxy._shared.gateway.connect

        def slowly() -> Link:
            asked.append(1)
            assert one_at_once.acquire(blocking=False) or go_on.wait(PATIENCE_S)
            return connect()

        run.proxy._shared.gateway.connect = slowly  # type: ignore[method-assign]
        clients = [stack.enter_context(run.connect()) for _ in range(2 * MAX_CONNECTING)]
        for client in clients:
            client.send(run.head("/v1/models", "Connection: close"))

        until(lambda: len(run.exchanges) == MAX_CONNECTING)
        assert (len(asked), run.gateway.connections) == (1 + MAX_CONNECTING, 1)
        go_on.set()
        assert all(client.everything().startswith(b"HTTP/1.1 200 ") for client in clients)


def test_a_crowd_before_a_silent_gateway_is_told_in_time() -> None:
    with (
        running(answering(OK), limits=Limits(connect=0.2)) as run,
        socket.create_server(("127.0.0.1", 0)) as dead,
    ):
        run.proxy._shared.gateway.port = dead.getsockname()[1]
        answers = crowd(run, 2 * MAX_CONNECTING)

        assert all(answer.startswith(b"HTTP/1.1 504 ") for answer in answers)


class EnvironmentProxy:
    """A CONNECT proxy that remembers what it saw."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self.passed = b""
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        tool, _ = self._listener.accept()
        with tool:
            head = b""
            while b"\r\n\r\n" not in head:
                data = tool.recv(4096)
                if not data:
                    return
                head += data
            self.heads.append(head)
            tool.sendall(self._answer)
            if b" 200 " not in self._answer:
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as gateway:
                down = threading.Thread(target=self._copy, args=(gateway, tool))
                down.start()
                self._copy(tool, gateway, remember=True)
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


def test_a_proxy_of_the_environment_is_asked_for_a_tunnel_and_sees_tls_only() -> None:
    with EnvironmentProxy().serving() as between:
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{between.port}"}
        with running(answering(OK), environ=environ) as run:
            assert run.get().startswith(b"HTTP/1.1 200 ")
            assert run.get().startswith(b"HTTP/1.1 200 ")

            head = between.heads[0]
            assert head.startswith(f"CONNECT 127.0.0.1:{run.gateway.port} HTTP/1.1\r\n".encode())
            assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:s3cret") in head
            assert len(between.heads) == 1
            assert "s3cret" not in repr(run.exchanges)
        assert b"canary" not in head + between.passed
        assert b"s3cret" not in b"".join(run.gateway.heads)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 No\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 302 Go\r\nLocation: x\r\n\r\n"]
)
def test_a_tunnel_that_is_refused_is_a_bad_gateway(answer: bytes) -> None:
    with EnvironmentProxy(answer).serving() as between:
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{between.port}"}
        with running(answering(OK), environ=environ) as run:
            found = run.get()

            assert found.startswith(b"HTTP/1.1 502 ")
            assert b"s3cret" not in found
            assert run.gateway.connections == 0


def test_no_proxy_is_honoured() -> None:
    environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    with running(answering(OK), environ=environ) as run:
        assert run.get().startswith(b"HTTP/1.1 200 ")
