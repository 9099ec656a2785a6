"""WebSocket: relayed both ways when the gateway agrees, 426 when it does not."""

from __future__ import annotations

import threading
import time

import pytest

from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import OK, running, until
from thv_llm.proxy import relay
from thv_llm.proxy.http1 import Fields, RequestHead
from thv_llm.proxy.relay import wanted_protocol

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: x\r\nSet-Cookie: a=b\r\n\r\n"
)
ASK = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k")


def test_bytes_pass_both_ways_after_a_101() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH + b"welcome")
        while data := conversation.exactly(5):
            conversation.send(data.upper())

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK) + b"early")
        head = client.until(b"EARLY")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n")
        assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome" in head
        assert b"Set-Cookie" not in head
        for _ in range(100):
            client.send(b"hello")
            assert client.until(b"HELLO") == b"HELLO"
        sent = run.gateway.heads[0]
        assert b"Connection: Upgrade\r\nUpgrade: websocket" in sent
        assert b"Sec-WebSocket-Key: k" in sent
        assert b"Bearer canary-token-1" in sent
        client.sock.close()
        assert run.entry().status == 101


def test_large_messages_pass_both_ways_at_once() -> None:
    size, piece = 8 << 20, 1 << 18

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        # In wakeup, not in two threads: a TLS connection must be used by one thread at a time.
        for _ in range(size // piece):
            conversation.send(b"d" * piece)
            received.append(len(conversation.exactly(piece)))

    received: list[int] = []
    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK))
        client.until(b"\r\n\r\n")
        sender = threading.Thread(target=client.send, args=(b"u" * size,))
        sender.start()
        got = 0
        while got < size and (data := client.receive()):
            got += len(data)
        sender.join()
        until(lambda: sum(received) == size)

        assert got >= size - 65536


@pytest.mark.parametrize("end", ["client", "gateway"])
def test_one_end_that_leaves_ends_the_other(end: str) -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        if end == "gateway":
            conversation.close()
        elif conversation.wait_gone():
            gone.set()

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK))
        client.until(b"\r\n\r\n")
        if end == "gateway":
            assert client.receive() == b""
        else:
            client.sock.close()
            assert gone.wait(1)


@pytest.mark.parametrize(
    "response", [OK, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 302 No\r\n\r\n"]
)
def test_anything_else_than_a_101_is_a_426(response: bytes) -> None:
    with running(responding(response)) as run:
        found = run.send(run.head("/v1/responses", *ASK))

        assert found.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b"\r\nUpgrade: websocket\r\n" in found


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_response_that_the_client_has_to_see_passes(status: int) -> None:
    response = b"HTTP/1.1 %d No\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwait" % status
    with running(responding(response)) as run, run.connect() as client:
        for _ in range(2):
            client.send(run.head("/v1/responses", *ASK))
            assert client.until(b"wait") == response


@pytest.mark.posix
def test_a_client_that_leaves_while_the_gateway_takes_nothing_is_noticed() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        stalled.wait(10)
        if conversation.wait_gone():
            gone.set()

    stalled = threading.Event()
    with running(script) as run:
        with run.connect() as client:
            client.send(run.head("/v1/realtime", *ASK))
            client.until(b"\r\n\r\n")
            client.sock.settimeout(0.5)
            client.send(b"x" * (64 << 20))  # until nothing goes any more
        until(lambda: run.proxy.stats().connections == 0, 8)
        stalled.set()
        assert gone.wait(5)


def test_a_switch_to_something_else_is_a_bad_gateway() -> None:
    with running(responding(SWITCH.replace(b"websocket", b"h2c"))) as run:
        assert run.send(run.head("/v1/realtime", *ASK)).startswith(b"HTTP/1.1 502 ")


def test_a_refused_token_is_renewed_for_an_upgrade_too() -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            if b"canary-token-2" in head:
                conversation.send(SWITCH)
                return
            conversation.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK))
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


def test_a_web_page_opens_no_websocket() -> None:
    with running(responding(SWITCH)) as run:
        found = run.send(run.head("/v1/realtime", *ASK, "Origin: https://evil.example"))

        assert found.startswith(b"HTTP/1.1 403 ")
        assert run.gateway.connections == 0


def test_an_offer_of_http_2_is_taken_no_notice_of() -> None:
    with running(responding(OK)) as run:
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        with run.connect() as client:
            client.send(run.head("/v1/models", *offer))
            assert client.until(b"hi").startswith(b"HTTP/1.1 200 ")
        assert b"pgrade" not in run.gateway.heads[0]
        assert b"HTTP2-Settings" not in run.gateway.heads[0]


def test_stopping_ends_what_was_upgraded_and_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "QUIET_S", 0.1)

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        conversation.wait_gone()

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK))
        client.until(b"\r\n\r\n")
        began = time.monotonic()
        run.proxy.stop(8)
        assert client.receive() == b""
        assert time.monotonic() - began < 4


def test_what_is_in_the_middle_of_being_said_has_time_to_end() -> None:
    said = 10

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(SWITCH)
        for _ in range(said):
            time.sleep(0.2)
            conversation.send(b".")

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/realtime", *ASK))
        client.until(b"\r\n\r\n")
        run.proxy.stop(8)
        assert client.receive() == b"." * said


@pytest.mark.parametrize(
    ("method", "minor", "connection", "upgrade"),
    [
        (b"POST", 1, b"upgrade", b"websocket"),
        (b"GET", 0, b"upgrade", b"websocket"),
        (b"GET", 1, b"close", b"websocket"),
        (b"GET", 1, b"upgrade", b"h2c"),
        (b"GET", 1, b"upgrade", b"websocket, h2c"),
        (b"GET", 1, b"upgrade", b""),
    ],
)
def test_only_a_plain_offer_of_websocket_is_passed_on(
    method: bytes, minor: int, connection: bytes, upgrade: bytes
) -> None:
    fields = Fields([(b"Connection", connection), (b"Upgrade", upgrade)])

    assert wanted_protocol(RequestHead(method, b"/", minor, fields)) == b""
