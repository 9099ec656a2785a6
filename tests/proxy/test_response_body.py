"""Responses on their way to the client: good ones unchanged, broken ones never as complete ones."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import OK, Client, Running, running, until
from thv_llm.proxy.framing import ChunkedBody
from thv_llm.proxy.stats import Outcome
from thv_llm.proxy.upstream import Limits

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def once(*pieces: bytes, cut: bool = False, pause: float = 0.0) -> object:
    """Return a script that responds to one request in pieces, then closes, or breaks off."""

    def script(conversation: Conversation) -> None:
        if not conversation.request():
            return
        for piece in pieces:
            conversation.send(piece)
            time.sleep(pause)
        if cut:
            conversation.cut()
        else:
            conversation.close()

    return script


def ask(script: object, path: str = "/v1/models", *lines: str, method: str = "GET") -> bytes:
    with running(script) as run:  # type: ignore[arg-type]
        return run.get(path, *lines, method=method)


def test_status_reason_headers_and_body_pass_unchanged() -> None:
    fields = b"content-type: text/x\r\nX-A: 1\r\nX-A: 2\r\nRetry-After: 3\r\nContent-Encoding: gzip\r\n"
    response = ask(once(b"HTTP/1.1 429 Too Much\r\n" + fields + b"Content-Length: 3\r\n\r\n\x1f\x8b\x00"))

    assert response == (
        b"HTTP/1.1 429 Too Much\r\n" + fields + b"Content-Length: 3\r\nConnection: close\r\n\r\n\x1f\x8b\x00"
    )


def test_each_event_arrives_before_the_next_is_sent() -> None:
    heard = threading.Semaphore(0)

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED)
        for _ in range(20):
            conversation.send(b"9\r\ndata: x\n\n\r\n")
            assert heard.acquire(timeout=5)
        conversation.send(b"0\r\n\r\n")

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/responses", "Connection: close"))
        client.until(b"\r\n\r\n")
        for _ in range(20):
            began = time.monotonic()
            assert client.until(b"\n\n\r\n") == b"9\r\ndata: x\n\n\r\n"
            assert time.monotonic() - began < 0.5
            heard.release()

        assert client.everything() == b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (CHUNKED + b"5;x=y\r\nhello\r\n0\r\nX-Cost: 1\r\n\r\n", b"5\r\nhello\r\n0\r\nX-Cost: 1\r\n\r\n"),
        (CHUNKED + b"5 \t\r\nhello\r\n0 \r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_every_kind_of_body_passes_also_in_single_bytes(response: bytes, body: bytes) -> None:
    whole = ask(once(response))
    assert whole.partition(b"\r\n\r\n")[2] == body

    dripped = ask(once(*[response[at : at + 1] for at in range(len(response))]))
    passed = dripped.partition(b"\r\n\r\n")[2]
    if body.endswith(b"0\r\n\r\n") or b"X-Cost" in body:  # chunked, in pieces as they happened to come
        of_whole, of_dripped = ChunkedBody(), ChunkedBody()
        assert of_dripped.feed(passed) == of_whole.feed(body)
        assert (of_dripped.done, of_dripped.trailers) == (True, of_whole.trailers)
    else:
        assert passed == body


@pytest.mark.parametrize(
    ("response", "method"),
    [
        (b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "GET"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD"),
    ],
)
def test_responses_without_a_body_end_at_their_head(response: bytes, method: str) -> None:
    with running(responding(response)) as run, run.connect() as client:
        for _ in range(2):
            client.send(run.head(method=method))
            head = client.until(b"\r\n\r\n")

            assert head.startswith(response[:12])
            assert head.endswith(b"\r\n\r\n")
            assert b"transfer-encoding" not in head.lower()
        assert run.gateway.connections == 1


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def test_informational_responses_pass_before_the_final_one() -> None:
    echo = HINT.replace(b"</a>", b"canary-token-1")

    found = ask(once(b"HTTP/1.1 100 Continue\r\n\r\n" + HINT + echo + OK))

    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" + HINT + b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert found.endswith(b"\r\n\r\nhi")


def test_a_flood_of_informational_responses_passes_as_ten_a_second() -> None:
    found = ask(once(HINT * 1000 + OK))

    assert found.count(b"HTTP/1.1 103 ") == 10
    assert found.endswith(b"\r\n\r\nhi")


def test_an_old_client_gets_no_informational_response() -> None:
    with running(once(HINT + OK)) as run:  # type: ignore[arg-type]
        found = run.send(run.head().replace(b"HTTP/1.1", b"HTTP/1.0", 1))

        assert found.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_gateway_may_respond_while_it_reads() -> None:
    """An echo of 30 MB: who reads only, or writes only, stops for ever."""
    size, piece = 30 << 20, 1 << 16

    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // piece):
            conversation.send(conversation.exactly(piece))

    with running(script) as run, run.connect() as client:
        head = run.head("/v1/echo", f"Content-Length: {size}", "Connection: close", method="POST")
        sender = threading.Thread(target=client.send, args=(head + b"e" * size,))
        sender.start()
        client.until(b"\r\n\r\n")
        got = len(client.everything())
        sender.join()

        assert got == size
        assert (run.entry().status, run.entry().bytes_in, run.entry().bytes_out) == (200, size, size)


def test_a_response_that_is_over_first_lets_the_upload_end_and_both_connections_stay() -> None:
    def script(conversation: Conversation) -> None:
        while conversation.head():
            conversation.send(OK)
            conversation.exactly(1_000_000)

    with running(script) as run, run.connect() as client:
        for _ in range(2):
            client.send(run.head("/v1/files", method="POST", body=b"x" * 1_000_000))
            assert client.until(b"hi").startswith(b"HTTP/1.1 200 OK")
        run.entry(2)
        assert run.gateway.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        b"garbage\r\n\r\n",
        b"garbage without an end",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
    ],
    ids=lambda response: repr(response[:60]),
)
def test_a_broken_head_is_a_bad_gateway(response: bytes) -> None:
    found = ask(once(response))

    assert found.startswith(b"HTTP/1.1 502 ")
    assert b"Set-Cookie" not in found


def test_an_endless_head_is_given_up() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            conversation.send(b"X: " + b"a" * 1000 + b"\r\n")

    assert ask(script).startswith(b"HTTP/1.1 502 ")


CUTS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"hello"),
    (CHUNKED + b"5\r\nhello\r\n", b"5\r\nhello\r\n"),
    (CHUNKED + b"a\r\nhello", b"5\r\nhello\r\n"),
    (CHUNKED + b"5\r\nhello\r\nxx\r\n", b""),
    (CHUNKED + b"5\r\nhello\r\n0\r\n", b"5\r\nhello\r\n"),
]


@pytest.mark.parametrize("cut", [True, False], ids=["without close_notify", "with close_notify"])
@pytest.mark.parametrize(("response", "body"), CUTS, ids=lambda value: repr(value[-20:]))
def test_a_cut_response_is_never_a_complete_one(response: bytes, body: bytes, cut: bool) -> None:
    head, _, rest = response.partition(b"\r\n\r\n")

    found = ask(once(head + b"\r\n\r\n", rest, cut=cut, pause=0.01)).partition(b"\r\n\r\n")[2]

    assert found == body
    assert not found.endswith(b"0\r\n\r\n")


def test_a_response_without_a_length_that_is_cut_is_not_complete_either() -> None:
    found = ask(once(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", cut=True, pause=0.01))

    assert b"hello" in found
    assert not found.endswith(b"0\r\n\r\n")


@pytest.mark.posix
def test_an_old_client_sees_a_reset_where_nothing_else_could_tell() -> None:
    with running(once(CHUNKED, b"5\r\nhello\r\n", cut=True, pause=0.05)) as run:  # type: ignore[arg-type]
        with run.connect() as client:
            client.send(run.head().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            with pytest.raises(ConnectionResetError):
                _read_all(client.sock)


def _read_all(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def test_a_cut_stream_is_reported_as_such() -> None:
    with running(once(CHUNKED, b"5\r\nhello\r\n", cut=True, pause=0.01)) as run:  # type: ignore[arg-type]
        run.get()

        assert "broke off" in run.entry().reason


def test_bytes_after_a_response_are_dropped() -> None:
    with (
        running(responding(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as run,
        run.connect() as client,
    ):
        for _ in range(2):
            client.send(run.head())
            assert client.until(b"hi").endswith(b"\r\n\r\nhi")
        assert run.gateway.connections == 2


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("method", "status", "location"),
    [
        ("GET", 307, "https://evil.example/"),
        ("GET", 302, "https://blobs.example/files/1?signature=x"),
        ("POST", 308, "https://eu.gateway.example/v1/messages"),
        ("POST", 301, "/v1/messages/"),
        ("POST", 303, "v2/messages"),
        ("GET", 302, "https://[login"),
    ],
)
def test_redirects_are_handed_back(method: str, status: int, location: str) -> None:
    with running(responding(redirect(status, location))) as run:
        assert f"Location: {location}\r\n".encode() in run.get(method=method)
        assert run.gateway.connections == 1


@pytest.mark.parametrize(
    ("method", "status", "location"),
    [
        ("POST", 302, "https://team.cloudflareaccess.com/cdn-cgi/access/login/x?kid=canary"),
        ("GET", 307, "/oauth2/start?rd=%2Fv1%2Fmodels"),
        ("POST", 302, "https://welcome.example/"),
        ("GET", 303, "https://accounts.example/signin\xff"),
    ],
)
def test_a_redirect_to_a_login_page_is_an_error_that_says_so(method: str, status: int, location: str) -> None:
    with running(responding(redirect(status, location))) as run:
        response = run.get("/v1/chat/completions", method=method)
        entry = run.entry()

    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"ocation" not in head
    message = json.loads(body)["error"]["message"]
    assert message.startswith("thv-llm: a sign-in proxy stands in front of the gateway. Next: ask the admin")
    assert (entry.status, entry.outcome) == (502, Outcome.GATEWAY)


def test_neither_cookies_nor_cors_nor_the_token_come_back() -> None:
    fields = b"Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nX-Echo: canary-token-1\r\n"
    response = ask(once(b"HTTP/1.1 200 canary-token-1\r\n" + fields + b"Content-Length: 0\r\n\r\n"))

    assert response == b"HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def test_a_slow_client_slows_the_gateway_and_gets_everything() -> None:
    size = 64 << 20
    sent = 0

    def script(conversation: Conversation) -> None:
        nonlocal sent
        conversation.request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            conversation.send(b"x" * 65536)
            sent += 65536

    with running(script) as run, run.connect() as client:
        client.send(run.head("/v1/models", "Connection: close"))
        client.until(b"\r\n\r\n")
        until(lambda: sent > 1 << 20)

        def stands_still() -> bool:
            before = sent
            time.sleep(0.3)
            return sent == before

        until(stands_still)  # it has stopped taking more
        busy_s = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - busy_s < 0.15  # and sleeps
        assert sent < 32 << 20
        got = 0
        while data := client.receive():
            got += len(data)
        assert size - 65536 * 4 < got <= size


def test_a_client_that_leaves_in_mid_stream_ends_it_within_a_second() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        if conversation.wait_gone():  # says nothing more, so only the client's socket can tell
            gone.set()

    with running(script) as run:
        with run.connect() as client:
            client.send(run.head())
            client.until(b"hello\r\n")
        assert gone.wait(1)
        assert run.entry().reason == "disconnected"


def test_a_body_is_out_of_memory_while_its_response_streams() -> None:
    streams, size = 10, 4 << 20

    def script(conversation: Conversation) -> None:
        conversation.head()
        for _ in range(size >> 16):
            conversation.exactly(1 << 16)
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        conversation.wait_gone()

    with running(script) as run, contextlib.ExitStack() as stack:
        request = run.head("/v1/messages", method="POST", body=b"p" * size)
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(streams):
            client = stack.enter_context(run.connect())
            client.send(request)
            client.until(b"hello\r\n")
        during, _ = tracemalloc.get_traced_memory()

        assert during - before < size


def half_close(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)


@pytest.mark.posix
def test_a_half_closed_client_gets_its_response() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        while conversation.request():
            asked.set()
            go_on.wait(5)
            conversation.send(CHUNKED + b"5\r\nhello\r\n")
            time.sleep(0.1)
            conversation.send(b"5\r\nworld\r\n0\r\n\r\n")

    with running(script) as run:
        for _ in range(2):
            asked.clear()
            go_on.clear()
            with run.connect() as client:
                client.send(run.head())
                half_close(client)
                assert asked.wait(5)
                time.sleep(0.05)
                go_on.set()
                assert client.everything().endswith(b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
        assert run.entry(2).outcome == Outcome.OK


@pytest.mark.posix
@pytest.mark.parametrize("first", [b"", CHUNKED + b"5\r\nhello\r\n"], ids=["before a response", "in it"])
def test_a_half_closed_client_that_leaves_ends_its_request_within_5_s(first: bytes) -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(first or b"H")
        if conversation.wait_gone():
            gone.set()

    with running(script) as run:
        with run.connect() as client:
            client.send(run.head())
            half_close(client)
            until(lambda: bool(run.gateway.heads))
            time.sleep(0.2)
            assert not gone.is_set()
        assert gone.wait(5)
        assert run.entry().outcome == Outcome.CLIENT


def test_a_stream_in_which_nothing_moves_is_given_up() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        conversation.wait_gone()

    with running(script, limits=Limits(idle=0.2)) as run:
        response = run.get()

        assert not response.endswith(b"0\r\n\r\n")
        assert run.entry().reason == "nothing moved within 0.2 s (gateway.idle_timeout)"


def test_a_stream_in_which_something_moves_goes_on() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED)
        for _ in range(8):
            time.sleep(0.1)
            conversation.send(b"5\r\nhello\r\n")
        conversation.wait_gone()

    with running(script, limits=Limits(idle=0.4)) as run:
        response = run.get()

        assert response.endswith(b"5\r\nhello\r\n" * 8)
        assert run.entry().reason == "nothing moved within 0.4 s (gateway.idle_timeout)"
        assert 1100 < run.entry().total_ms < 5000


def test_100_streams_at_once_all_arrive_whole() -> None:
    def script(conversation: Conversation) -> None:
        while conversation.request():
            conversation.send(CHUNKED)
            for _ in range(5):
                conversation.send(b"5\r\nhello\r\n")
                time.sleep(0.01)
            conversation.send(b"0\r\n\r\n")

    with running(script) as run:
        responses = _many(run, 100)

        body = b"5\r\nhello\r\n" * 5 + b"0\r\n\r\n"
        whole = [
            response.partition(b"\r\n\r\n")[2].replace(b"a\r\nhellohello\r\n", b"5\r\nhello\r\n" * 2)
            for response in responses
        ]
        assert all(response.endswith(b"0\r\n\r\n") and response.count(b"hello") == 5 for response in whole), (
            body
        )


def _many(run: Running, count: int) -> list[bytes]:
    responses: list[bytes] = []
    clients = [threading.Thread(target=lambda: responses.append(run.get())) for _ in range(count)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return responses
