"""The door to the gateway: its URL, its certificate, the environment's proxy, single questions."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.hostile_gateway import CA, Conversation, HostileGateway, Script, answering
from tests.proxy.running import OK, running
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.proxy.upstream import Gateway, GatewayError, Limits, ask
from thv_llm.secret import Secret


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


def question(script: Script, path: str = "/v1/models", timeout_s: float = 5) -> tuple[int, object, bytes]:
    with HostileGateway(script) as server:
        gateway = Gateway(server.url + "/team", environ={}, ca_file=CA)
        try:
            return ask(gateway, "GET", path, Secret("canary-token"), timeout_s)
        finally:
            gateway.close()
            question.heads = server.heads  # type: ignore[attr-defined]


def test_a_question_is_asked_with_the_token_on_a_connection_of_its_own() -> None:
    status, fields, body = question(answering(b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\r\n\r\nhi"))

    assert (status, fields, body) == (200, [(b"X", b"1"), (b"Content-Length", b"2")], b"hi")
    head = question.heads[0]  # type: ignore[attr-defined]
    assert head.startswith(b"GET /team/v1/models HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer canary-token\r\n" in head
    assert b"\r\nUser-Agent: thv-llm/" in head


def test_a_question_without_a_token_carries_none() -> None:
    with HostileGateway(answering(OK)) as server:
        ask(Gateway(server.url, environ={}, ca_file=CA), "HEAD", "/v1/models", None, 5)

        assert b"authorization" not in server.heads[0].lower()


def test_an_answer_to_a_question_is_read_up_to_its_limit() -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    _, _, body = question(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 40))

    assert len(body) == 1024 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"",
    ],
)
def test_an_answer_that_is_no_answer_is_unreachable(answer: bytes) -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(answer or b"H")
        conversation.cut()

    with pytest.raises(UnreachableError) as caught:
        question(script)

    assert "canary" not in str(caught.value)


def test_a_question_has_one_deadline() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.wait_gone()

    with pytest.raises(UnreachableError, match="time limit"):
        question(script, timeout_s=0.2)


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
