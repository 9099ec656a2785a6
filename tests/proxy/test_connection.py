"""Clients' requests over raw sockets, good and hostile ones, against a running proxy."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import KEY, OK, TOKEN, Running, running, until
from thv_llm.proxy.server import Timing
from thv_llm.proxy.stats import Outcome

UPLOAD = (
    b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
)


def status(response: bytes) -> int:
    assert response.startswith(b"HTTP/1.1 "), response[:80]
    return int(response[9:12])


def upload(run: Running, *lines: bytes) -> bytes:
    return UPLOAD % run.port + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_the_clients_credentials_go_and_one_token_comes() -> None:
    with running(responding(OK)) as run:
        response = run.get(
            "/v1/models?key=client-secret&a=b",
            "x-api-key: client-secret",
            "Cookie: client-secret",
            "Proxy-Authorization: client-secret",
            "X-Forwarded-For: 10.0.0.1",
            "Connection: X-Hop",
            "X-Hop: 1",
            "User-Agent: tool/1",
        )

        head = run.gateway.heads[0]
        assert status(response) == 200
        assert head.split(b"\r\n") == [
            b"GET /v1/models?a=b HTTP/1.1",
            f"Host: 127.0.0.1:{run.gateway.port}".encode(),
            b"User-Agent: tool/1",
            b"Authorization: Bearer " + TOKEN.encode(),
        ]


def test_the_gateways_base_path_goes_before_every_path() -> None:
    with running(responding(OK), base="/team/v1") as run:
        run.get("/v1/models")
        run.get("/anthropic/v1/messages")
        assert status(run.get("/../../admin")) == 400
        assert status(run.get("/%2e%2e/admin")) == 400

        assert [head.split()[1] for head in run.gateway.heads] == [
            b"/team/v1/models",
            b"/team/anthropic/v1/messages",
        ]


SMUGGLED = (
    b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: +4\r\n\r\n",
        b"Content-Length: 4_0\r\n\r\n",
        b"Content-Length: -4\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5;a\nGET\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
        b"X: a\nTransfer-Encoding: chunked\r\n\r\n",
        b"X: a\r\n folded\r\n\r\n",
        b"No colon\r\n\r\n",
        b"X\xc3\xa9: a\r\n\r\n",
        b"X: a\x00b\r\n\r\n",
    ],
)
def test_a_request_that_could_be_read_in_two_ways_ends_its_connection(lines: bytes) -> None:
    with running(responding(OK)) as run:
        smuggled = SMUGGLED.replace(b"PORT", b"%d" % run.port)

        response = run.send(UPLOAD % run.port + lines + smuggled)

        assert 400 <= status(response) < 500
        assert response.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in response
        assert not any(b"smuggled" in head for head in run.gateway.heads)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /v1/models", 400),
        (b"GET /v1/models HTTP/2.0", 505),
        (b"TRACE /v1/models HTTP/1.1", 405),
        (b"CONNECT evil.example:443 HTTP/1.1", 405),
        (b"GET http://evil.example/ HTTP/1.1", 400),
        (b"GET //evil.example/ HTTP/1.1", 400),
        (b"GET @evil.example/ HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 400),
        (b"GET /a\\b HTTP/1.1", 400),
        (b"GET /a\xc3\xa9 HTTP/1.1", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", 414),
    ],
)
def test_a_request_line_that_leads_elsewhere_is_refused(line: bytes, expected: int) -> None:
    with running(responding(OK)) as run:
        fields = f"Host: 127.0.0.1:{run.port}\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()

        response = run.send(line + b"\r\n" + fields)

        assert status(response) == expected
        assert not run.gateway.heads


def test_foreign_clients_are_refused_before_their_body_is_read() -> None:
    with running(responding(OK)) as run, run.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 10000\r\n\r\n" % run.port)

        response = client.everything()

        assert status(response) == 401
        assert b"local key" in response
        assert run.gateway.connections == 0


@pytest.mark.parametrize(
    "line",
    ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Host: evil.example"],
)
@pytest.mark.parametrize("path", ["/v1/models", "/healthz"])
def test_pages_are_refused_without_a_word_of_cors(line: str, path: str) -> None:
    with running(responding(OK)) as run:
        for method in ("GET", "OPTIONS", "POST"):
            response = run.get(path, line, "Access-Control-Request-Method: POST", method=method)

            assert status(response) in (400, 403)
            assert b"access-control" not in response.lower()
        assert not run.gateway.heads


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    with running(responding(OK), timing=Timing(linger=5)) as run, run.connect() as client:
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 8000000\r\n\r\n" % run.port
        client.sock.sendall(head + b"x" * 8_000_000)  # a reset in the middle of it would raise

        assert status(client.everything()) == 401


def test_health_needs_neither_a_key_nor_the_gateway() -> None:
    with running(responding(OK)) as run:
        ask = b"GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % run.port
        with run.connect() as client:
            for _ in range(2):
                client.send(ask)
                response = client.until(b"}")
                assert status(response) == 200
                assert f'"upstream": "{run.gateway.url}"'.encode() in response
        assert run.gateway.connections == 0
        assert status(run.get("/healthz", method="POST", body=b"x")) == 405


def test_pipelined_requests_get_their_responses_in_order() -> None:
    def script(conversation: Conversation) -> None:
        while head := conversation.request():
            path = head.split()[1]
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    with running(script) as run:
        response = run.send(
            run.head("/1", method="POST", body=b"x" * 10)
            + run.head("/2")
            + run.head("/3", "Connection: close")
        )

        assert [part[-2:] for part in response.split(b"HTTP/1.1 200 OK")[1:]] == [b"/1", b"/2", b"/3"]
        assert run.gateway.connections == 1


def test_a_chunked_upload_arrives_chunked_and_whole() -> None:
    arrived: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.head()
        arrived.append(conversation.until(b"0\r\n\r\n"))
        conversation.send(OK)

    with running(script) as run, run.connect() as client:
        client.send(upload(run, b"Transfer-Encoding: chunked", b"Connection: close") + b"5\r\nhel")
        until(lambda: bool(run.gateway.heads))
        for piece in (
            b"lo\r",
            b"\n6;x=y\r\n world\r\n",
            b"0\r\nX-Sum: 1\r\nAuthor",
            b"ization: evil\r\n\r\n",
        ):
            client.send(piece)

        assert status(client.everything()) == 200
        assert arrived[0].startswith(b"3\r\nhel\r\n")
        assert arrived[0].endswith(b" world\r\n0\r\n\r\n")  # trailers end here
        assert b"transfer-encoding: chunked" in run.gateway.heads[0].lower()
        assert b"content-length" not in run.gateway.heads[0].lower()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("lines", [[], [b"Content-Length: 0"]])
def test_an_empty_body_reaches_the_gateway_with_its_length(method: str, lines: list[bytes]) -> None:
    with running(responding(OK)) as run:
        request = upload(run, *lines, b"Connection: close").replace(b"POST", method.encode(), 1)

        assert status(run.send(request)) == 200
        assert run.gateway.heads[0].lower().split(b"\r\n").count(b"content-length: 0") == 1


def test_a_get_has_no_length_unless_it_came_with_one() -> None:
    with running(responding(OK)) as run:
        run.get()
        run.get("/v1/models", "Content-Length: 0")

        assert [b"content-length: 0" in head.lower() for head in run.gateway.heads] == [False, True]


@pytest.mark.parametrize("extension", [b";", b"; ", b";;a", b";=1", b";a;", b"; ;b=1"])
def test_an_empty_chunk_extension_is_refused(extension: bytes) -> None:
    with running(responding(OK)) as run:
        chunks = b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"
        assert status(run.send(upload(run, b"Transfer-Encoding: chunked") + chunks)) == 400


@pytest.mark.parametrize("extension", [b";a", b" ;a=1", b'; a="b c";d'])
def test_a_named_chunk_extension_is_dropped(extension: bytes) -> None:
    with running(responding(OK)) as run:
        chunks = b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"
        upload_head = upload(run, b"Transfer-Encoding: chunked", b"Connection: close")
        assert status(run.send(upload_head + chunks)) == 200
        assert run.gateway.bodies == [b"5\r\nhello\r\n0\r\n\r\n"]


def test_blanks_behind_a_chunk_size_are_refused_from_clients() -> None:
    with running(responding(OK)) as run:
        chunks = b"5 \r\nhello\r\n0\r\n\r\n"
        assert status(run.send(upload(run, b"Transfer-Encoding: chunked") + chunks)) == 400


def test_expect_gets_its_100_from_the_proxy_itself() -> None:
    with running(responding(OK)) as run, run.connect() as client:
        client.send(upload(run, b"Content-Length: 5", b"Expect: 100-continue", b"Connection: close"))
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")

        assert status(client.everything()) == 200
        assert run.gateway.bodies == [b"hello"]
        assert b"expect" not in run.gateway.heads[0].lower()


def test_a_refused_expectation_gets_its_response_at_once() -> None:
    with running(responding(OK)) as run, run.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nExpect: 100-continue\r\n" % run.port)
        client.send(b"Content-Length: 5\r\n\r\n")

        assert status(client.everything()) == 401


def test_an_old_client_gets_no_chunks() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with running(responding(chunked)) as run:
        response = run.send(run.head().replace(b"HTTP/1.1", b"HTTP/1.0", 1))

        assert status(response) == 200
        assert response.endswith(b"\r\n\r\nhello")
        assert b"transfer-encoding" not in response.lower()
        assert status(run.send(b"GET / HTTP/1.0\r\n\r\n")) == 400


def test_a_head_of_60_kb_passes_and_one_of_2_mb_does_not() -> None:
    with running(responding(OK)) as run:
        assert status(run.get("/v1/models", *[f"X-{at}: {'a' * 600}" for at in range(100)])) == 200
        assert status(run.get("/v1/models", *[f"X-{at}: {'a' * 20_000}" for at in range(100)])) == 431
        assert len(run.gateway.heads) == 1


def test_a_claimed_length_is_never_believed() -> None:
    with running(responding(OK), timing=Timing(linger=0.2, max_body=1000)) as run:
        assert status(run.send(upload(run, b"Content-Length: 10737418240"))) == 413
        assert status(run.send(upload(run, b"Transfer-Encoding: chunked") + b"7d0\r\n" + b"x" * 2000)) == 413
        assert not run.gateway.bodies


def test_a_cut_upload_never_reaches_the_gateway_as_a_whole_one() -> None:
    seen: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.head()
        seen.append(conversation.until(b"never"))

    for lines, part in (
        ([b"Content-Length: 10"], b"hello"),
        ([b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n"),
    ):
        with running(script) as run:
            with run.connect() as client:
                client.send(upload(run, *lines) + part)
                until(lambda: bool(run.gateway.heads))
            until(lambda: bool(seen))
            assert seen.pop() == part
            assert run.entry().status == 0


def test_heads_have_one_deadline_for_all_their_bytes() -> None:
    with running(responding(OK), timing=Timing(head=0.4, linger=0.1)) as run, run.connect() as client:
        began = time.monotonic()
        client.sock.settimeout(0.05)
        response = b""
        for byte in run.head():
            client.send(bytes([byte]))
            try:
                response = client.sock.recv(4096)
                break
            except TimeoutError:
                continue

        assert status(response) == 408
        assert time.monotonic() - began < 2


def test_300_dripping_clients_neither_keep_others_waiting_nor_stay() -> None:
    with running(responding(OK), timing=Timing(head=1.5, linger=0.1)) as run:
        dripping = [socket.create_connection(("127.0.0.1", run.port)) for _ in range(300)]
        try:
            for sock in dripping:
                sock.send(b"GET ")
            began = time.monotonic()
            assert status(run.get()) == 200
            assert time.monotonic() - began < 1
            until(lambda: run.proxy.stats().connections == 0)
        finally:
            for sock in dripping:
                sock.close()


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with running(responding(OK), timing=Timing(keep=0.2, head=0.2)) as run, run.connect() as client:
        client.send(run.head())
        assert client.until(b"hi").endswith(b"hi")

        assert client.receive() == b""
        with run.connect() as silent:
            assert silent.receive() == b""


def test_every_exchange_is_reported_without_its_secrets() -> None:
    with running(responding(OK)) as run:
        run.get("/v1/\x1b[31mx?key=s3cret", "User-Agent: tool/1.0 (s3cret)")
        run.get("/v1/models?key=s3cret", "User-Agent: tool/1.0 (s3cret)", method="POST", body=b"s3cret")
        reported = run.entry(2)

        assert (reported.method, reported.path, reported.status) == ("POST", "/v1/models", 200)
        assert (reported.bytes_in, reported.bytes_out, reported.agent) == (6, 2, "tool/1.0")
        assert reported.first_byte_ms is not None
        assert 0 < reported.first_byte_ms <= reported.total_ms
        assert run.entries[0].status == 400
        assert "s3cret" not in repr(run.entries)
        assert "\x1b" not in repr(run.entries)
        assert KEY not in repr(run.entries)
        assert "canary" not in repr(run.entries)


def test_a_client_that_leaves_before_the_first_byte_ends_its_request_within_a_second() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        asked.set()
        if conversation.wait_gone():
            gone.set()

    asked = threading.Event()
    with running(script) as run:
        with run.connect() as client:
            client.send(run.head("/v1/messages", method="POST", body=b"x" * 1000))
            assert asked.wait(5)
        assert gone.wait(1)
        assert run.entry().status == 0
        until(lambda: run.proxy.stats().connections == 0)


def test_a_client_that_leaves_behind_a_pipelined_request_is_noticed_too() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        if conversation.wait_gone():
            gone.set()

    with running(script) as run:
        with run.connect() as client:
            client.send(run.head() * 3)
            until(lambda: bool(run.gateway.heads))
        assert gone.wait(1)


@pytest.mark.posix
def test_a_client_that_leaves_behind_more_than_is_read_ahead_is_noticed_within_5_s() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        if conversation.wait_gone():
            gone.set()

    with running(script) as run:
        with run.connect() as client:
            client.send(run.head() + run.head("/v1/messages", method="POST", body=b"x" * 200_000))
            until(lambda: bool(run.gateway.heads))
        assert gone.wait(5)
        assert run.entry().outcome == Outcome.CLIENT


@pytest.mark.posix
def test_a_client_that_leaves_while_its_upload_is_stalled_is_noticed_within_5_s() -> None:
    gone, left = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.head()
        left.wait(10)
        if conversation.wait_gone():
            gone.set()

    with running(script) as run:
        with run.connect() as client:
            client.sock.settimeout(0.5)
            client.send(run.head("/v1/files", "Content-Length: 90000000", method="POST") + b"x" * 90_000_000)
        until(lambda: bool(run.entries), 5)
        assert run.entry().outcome == Outcome.CLIENT
        left.set()
        assert gone.wait(5)


def test_a_thousand_requests_on_one_connection_use_one_connection() -> None:
    with running(responding(OK)) as run, run.connect() as client:
        for _ in range(100):
            client.send(run.head("/v1/messages", method="POST", body=b"hello"))
            assert client.until(b"hi").endswith(b"hi")

        assert run.gateway.connections == 1
        assert run.gateway.bodies == [b"hello"] * 100


def test_requests_that_come_again_have_each_a_body_of_their_own() -> None:
    fields = [
        b"Content-Length: 5",
        b"content-length: 3",
        b"Content-Length: 0",
        b"Content-Length:4",
        b"CONTENT-LENGTH: 2",
        b"X: y",
        b"Transfer-Encoding: chunked",
    ]
    lengths = [5, 3, 0, 4, 2, 0]
    with running(responding(OK)) as run, run.connect() as client:
        for _ in range(3):
            for line, length in zip(fields, [*lengths, 0], strict=True):
                body = b"1\r\nx\r\n0\r\n\r\n" if b"Transfer" in line else b"x" * length
                client.send(upload(run, line) + body)
                assert client.until(b"hi").startswith(b"HTTP/1.1 200")

        assert run.gateway.bodies == [*(b"x" * length for length in lengths), b"1\r\nx\r\n0\r\n\r\n"] * 3
        for line in (b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length:5\r\ncontent-length: 5"):
            for _ in range(2):
                assert status(run.send(upload(run, line) + b"hello")) == 400
        assert len(run.gateway.heads) == 3 * len(fields)


def test_a_request_that_comes_again_is_measured_again() -> None:
    with running(responding(OK), timing=Timing(linger=0.2, max_body=10)) as run:
        assert status(run.get(method="POST", body=b"x" * 10)) == 200
        assert status(run.get(method="POST", body=b"x" * 11)) == 413
        assert run.entry(2).reason == "body too large"


def test_a_request_that_comes_again_gets_the_token_of_its_time() -> None:
    with running(responding(OK)) as run:
        for number in (1, 1, 2, 2):
            run.tokens.current = number
            run.get()

        assert [head[-1:] for head in run.gateway.heads] == [b"1", b"1", b"2", b"2"]


def test_a_request_that_comes_again_meets_the_keys_of_its_time() -> None:
    keys = {KEY.encode(): "codex"}
    with running(responding(OK), keys=lambda: dict(keys)) as run:
        for _ in range(2):
            assert status(run.get("/v1/models", "X-Note: thv-other-key-1", "X-Id: 1")) == 200
        assert all(b"thv-other-key-1" in head for head in run.gateway.heads)

        keys[b"thv-other-key-1"] = "claude-code"
        assert status(run.get("/v1/models", "X-Note: thv-other-key-1", "X-Id: 1")) == 200
        assert b"thv-other-key-1" not in run.gateway.heads[-1]

        del keys[KEY.encode()]
        unknown = run.head("/v1/models", "Connection: close").replace(KEY.encode(), b"thv-unknown")
        assert status(run.send(unknown)) == 401
        assert status(run.get("/v1/models", "X-Note: thv-other-key-1", "X-Id: 1")) == 401


def test_a_request_that_comes_again_is_counted_as_the_same_tools() -> None:
    with running(responding(OK), keys=lambda: {KEY.encode(): "codex"}) as run:
        for count in (1, 2):
            run.get("/v1/models?a=b", "User-Agent: codex/1.2 x")
            entry = run.entry(count)
            assert (entry.tool, entry.path, entry.agent, entry.method) == (
                "codex",
                "/v1/models",
                "codex/1.2",
                "GET",
            )
