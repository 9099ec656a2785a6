"""Requests on their way to the gateway: pooled connections that die, early responses, time limits, bodies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fakes.hostile_gateway import Conversation, HostileGateway, responding
from tests.proxy.running import OK, Running, running, until
from thv_llm.proxy import exchange
from thv_llm.proxy.exchange import MAX_KEPT_BYTES, RequestBody
from thv_llm.proxy.framing import ChunkedBody, ContentLengthBody
from thv_llm.proxy.http1 import Rejected
from thv_llm.proxy.server import Timing
from thv_llm.proxy.transport import Transport
from thv_llm.proxy.upstream import Limits
from thv_llm.system import peers

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"


def status(response: bytes) -> int:
    return int(response[9:12])


def silent(conversation: Conversation) -> None:
    """Be a gateway that takes a request, and says nothing."""
    conversation.request()
    conversation.wait_gone()


def test_a_pooled_connection_is_used_again_by_another_client() -> None:
    with running(responding(OK)) as run:
        for _ in range(5):
            assert status(run.get()) == 200

        assert run.gateway.connections == 1


def test_a_pooled_connection_that_the_gateway_closed_is_not_used() -> None:
    with running(responding(OK, times=1)) as run:
        for method in ("GET", "POST", "POST"):
            assert status(run.get(method=method, body=b"x")) == 200
            time.sleep(0.05)  # for the gateway's close to arrive

        assert run.gateway.bodies == [b"x"] * 3


@pytest.mark.parametrize(
    ("method", "expected"), [("GET", 200), ("HEAD", 200), ("POST", 502), ("DELETE", 502)]
)
def test_a_request_that_may_have_been_read_is_repeated_only_when_it_is_safe(
    method: str, expected: int
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if conversation.index == 0:
            conversation.request()
            conversation.cut()
        else:
            conversation.request()

    with running(script) as run:
        assert status(run.get()) == 200
        assert status(run.get(method=method)) == expected
        assert run.gateway.connections == (2 if expected == 200 else 1)


def test_a_new_connection_that_dies_is_not_tried_again() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.cut()

    with running(script) as run:
        response = run.get()

        assert status(response) == 502
        assert b"closed the connection without a response" in response
        assert run.gateway.connections == 1


def test_an_early_response_ends_an_upload() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(TOO_LARGE)
        conversation.wait_gone()

    with running(script, timing=Timing(linger=2)) as run, run.connect() as client:
        head = run.head("/v1/files", "Content-Length: 52428800", method="POST")
        sender = threading.Thread(target=client.send, args=(head + b"x" * 52428800,))
        sender.start()
        response = client.until(b"big")
        client.everything()
        sender.join()

        assert status(response) == 413
        assert b"Connection: close" in response
        assert run.entry().bytes_in < 52428800


def test_an_early_response_of_a_gateway_that_closes_at_once_arrives_as_well() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(TOO_LARGE)
        conversation.close()

    with running(script) as run:
        assert status(run.get(method="POST", body=b"x" * 2_000_000)) == 413


def test_an_early_good_response_lets_the_upload_go_on() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        conversation.exactly(1_000_000)
        conversation.send(b"done")

    with running(script) as run:
        assert run.get(method="POST", body=b"x" * 1_000_000).endswith(b"done")


def test_a_gateway_that_says_nothing_is_given_up_with_504() -> None:
    with running(silent, limits=Limits(head=0.2)) as run:
        response = run.get()
        assert status(response) == 504
        assert b"nothing came within 0.2 s (gateway.idle_timeout)" in response
        assert status(run.get("/v1/messages", method="POST", body=b"x")) == 504


def test_a_network_that_loses_the_request_is_given_up_with_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "UNHEARD_S", 0.2)
    monkeypatch.setattr(exchange, "LOOK_S", 0.1)
    looks = iter([0.0, 0.0, 0.2])
    monkeypatch.setattr(peers, "unacknowledged_s", lambda sock: next(looks))

    with running(silent) as run:
        response = run.get()
        assert status(response) == 504
        assert b"what was sent has not arrived for 0.2 s" in response
        assert next(looks, None) is None


def test_a_gateway_that_reads_late_is_no_lost_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "UNHEARD_S", 0.2)
    monkeypatch.setattr(exchange, "LOOK_S", 0.1)

    def script(conversation: Conversation) -> None:
        conversation.head()
        time.sleep(1.5)
        conversation.exactly(20_000_000)
        time.sleep(0.5)
        conversation.send(OK)

    with running(script) as run:
        assert run.get(method="POST", body=b"x" * 20_000_000).endswith(b"hi")


def test_a_gateway_that_takes_no_upload_is_given_up_with_504() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        time.sleep(0.6)

    with running(script, limits=Limits(idle=0.2)) as run:
        assert status(run.get(method="POST", body=b"x" * 30_000_000)) == 504


def test_a_client_that_stops_in_its_body_is_given_up_with_408() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.wait_gone()

    with running(script, limits=Limits(idle=0.2)) as run, run.connect() as client:
        client.send(run.head("/v1/messages", "Content-Length: 10", method="POST") + b"hello")

        assert status(client.everything()) == 408


def test_a_gateway_that_is_not_there_is_a_502_and_its_return_is_noticed() -> None:
    with running(responding(OK)) as run:
        port = run.gateway.port
        assert status(run.get()) == 200
        run.gateway.stop()
        assert status(run.get()) == 502
        with HostileGateway(responding(OK), port=port):
            assert status(run.get()) == 200


def test_an_error_names_neither_the_gateways_address_nor_the_token() -> None:
    with running(responding(OK)) as run:
        run.gateway.stop()
        response = run.get()

        assert str(run.gateway.port).encode() not in response
        assert b"canary" not in response
        assert b"Traceback" not in response


def test_uploads_arrive_whole_even_when_the_gateway_reads_slowly() -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        time.sleep(0.2)
        total = 0
        while total < 20_000_000:
            total += len(conversation.exactly(1_000_000))
        conversation.send(OK)

    with running(script) as run:
        body = bytes(range(256)) * (20_000_000 // 256)
        body += b"x" * (20_000_000 - len(body))
        assert status(run.get(method="POST", body=body)) == 200
        assert run.entry().bytes_in == 20_000_000


def test_many_clients_at_once_are_all_served() -> None:
    with running(responding(OK)) as run:
        assert _statuses(run, 200) == [200] * 200
        until(lambda: run.proxy.stats().requests == 200)


def _statuses(run: Running, count: int) -> list[int]:
    found: list[int] = []
    clients = [threading.Thread(target=lambda: found.append(status(run.get()))) for _ in range(count)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return found


MANY = 1 << 30


@pytest.fixture
def ends() -> Iterator[tuple[Transport, socket.socket]]:
    ours, theirs = socket.socketpair()
    transport = Transport(ours)
    yield transport, theirs
    transport.close()
    theirs.close()


def test_no_body_is_done_and_says_nothing(ends: tuple[Transport, socket.socket]) -> None:
    body = RequestBody(ends[0], ContentLengthBody(0), MANY)

    assert (body.done, body.framing, body.from_start()) == (True, None, b"")


def test_what_came_with_the_head_is_taken_and_what_follows_it_left(
    ends: tuple[Transport, socket.socket],
) -> None:
    client, _ = ends
    client.ahead = b"helloNEXT"
    body = RequestBody(client, ContentLengthBody(5), MANY)

    assert (body.done, body.from_start(), client.ahead) == (True, b"hello", b"NEXT")
    assert body.framing == (b"Content-Length", b"5")


def test_parts_are_passed_on_and_kept_for_a_repeat(ends: tuple[Transport, socket.socket]) -> None:
    client, other = ends
    client.ahead = b"2\r\nhe\r\n"
    body = RequestBody(client, ChunkedBody(), MANY)
    other.send(b"3\r\nllo\r\n0\r\nX: 1\r\nHost: evil\r\n\r\n")

    assert body.read() == b"3\r\nllo\r\n0\r\n\r\n"
    assert body.from_start() == b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    assert (body.done, body.size, body.framing) == (True, 5, (b"Transfer-Encoding", b"chunked"))


def test_nothing_there_is_not_the_end_and_the_end_is_an_error(ends: tuple[Transport, socket.socket]) -> None:
    client, other = ends
    body = RequestBody(client, ContentLengthBody(5), MANY)

    assert body.read() is None
    other.close()
    with pytest.raises(ConnectionError):
        body.read()


def test_a_body_too_large_to_keep_cannot_be_repeated(ends: tuple[Transport, socket.socket]) -> None:
    client, _ = ends
    client.ahead = b"x" * (MAX_KEPT_BYTES + 1)

    body = RequestBody(client, ContentLengthBody(MAX_KEPT_BYTES + 1), MANY)

    assert not body.can_repeat


def test_chunks_that_add_up_to_too_much_are_refused(ends: tuple[Transport, socket.socket]) -> None:
    client, _ = ends
    client.ahead = b"5\r\nhello\r\n6\r\n world\r\n"

    with pytest.raises(Rejected) as caught:
        RequestBody(client, ChunkedBody(), 10)

    assert caught.value.status == 413
