"""Answers on their way to the tool: good ones unchanged, broken ones never as complete ones."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.hostile_gateway import Conversation, answering
from tests.proxy.running import OK, Running, running, until
from thv_llm.proxy.framing import Chunked
from thv_llm.proxy.upstream import Limits

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def once(*pieces: bytes, cut: bool = False, pause: float = 0.0) -> object:
    """Return a script that answers one request in pieces, then closes, or breaks off."""

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
    answer = ask(once(b"HTTP/1.1 429 Too Much\r\n" + fields + b"Content-Length: 3\r\n\r\n\x1f\x8b\x00"))

    assert answer == (
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

    with running(script) as run, run.connect() as tool:
        tool.send(run.head("/v1/responses", "Connection: close"))
        tool.until(b"\r\n\r\n")
        for _ in range(20):
            began = time.monotonic()
            assert tool.until(b"\n\n\r\n") == b"9\r\ndata: x\n\n\r\n"
            assert time.monotonic() - began < 0.5
            heard.release()

        assert tool.everything() == b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (CHUNKED + b"5;x=y\r\nhello\r\n0\r\nX-Cost: 1\r\n\r\n", b"5\r\nhello\r\n0\r\nX-Cost: 1\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_every_kind_of_body_passes_also_in_single_bytes(answer: bytes, body: bytes) -> None:
    whole = ask(once(answer))
    assert whole.partition(b"\r\n\r\n")[2] == body

    dripped = ask(once(*[answer[at : at + 1] for at in range(len(answer))]))
    passed = dripped.partition(b"\r\n\r\n")[2]
    if body.endswith(b"0\r\n\r\n") or b"X-Cost" in body:  # chunked, in pieces as they happened to come
        of_whole, of_dripped = Chunked(), Chunked()
        assert of_dripped.feed(passed) == of_whole.feed(body)
        assert (of_dripped.done, of_dripped.trailers) == (True, of_whole.trailers)
    else:
        assert passed == body


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        (b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", "GET"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD"),
    ],
)
def test_answers_without_a_body_end_at_their_head(answer: bytes, method: str) -> None:
    with running(answering(answer)) as run, run.connect() as tool:
        for _ in range(2):
            tool.send(run.head(method=method))
            head = tool.until(b"\r\n\r\n")

            assert head.startswith(answer[:12])
            assert head.endswith(b"\r\n\r\n")
            assert b"transfer-encoding" not in head.lower()
        assert run.gateway.connections == 1


def test_interim_answers_are_not_taken_for_the_final_one() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    assert ask(once(interim + OK)).startswith(b"HTTP/1.1 200 OK\r\n")
    assert ask(once(interim * 20 + OK)).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    "answer",
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
    ids=lambda answer: repr(answer[:60]),
)
def test_a_broken_head_is_a_bad_gateway(answer: bytes) -> None:
    found = ask(once(answer))

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
@pytest.mark.parametrize(("answer", "body"), CUTS, ids=lambda value: repr(value[-20:]))
def test_a_cut_answer_is_never_a_complete_one(answer: bytes, body: bytes, cut: bool) -> None:
    head, _, rest = answer.partition(b"\r\n\r\n")

    found = ask(once(head + b"\r\n\r\n", rest, cut=cut, pause=0.01)).partition(b"\r\n\r\n")[2]

    assert found == body
    assert not found.endswith(b"0\r\n\r\n")


def test_an_answer_without_a_length_that_is_cut_is_not_complete_either() -> None:
    found = ask(once(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", cut=True, pause=0.01))

    assert b"hello" in found
    assert not found.endswith(b"0\r\n\r\n")


def test_an_old_tool_sees_a_reset_where_nothing_else_could_tell() -> None:
    with running(once(CHUNKED, b"5\r\nhello\r\n", cut=True, pause=0.05)) as run:  # type: ignore[arg-type]
        with run.connect() as tool:
            tool.send(run.head().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            with pytest.raises(ConnectionResetError):
                _read_all(tool.sock)


def _read_all(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def test_a_cut_stream_is_reported_as_such() -> None:
    with running(once(CHUNKED, b"5\r\nhello\r\n", cut=True, pause=0.01)) as run:  # type: ignore[arg-type]
        run.get()

        assert "broke off" in run.exchange().refusal


def test_bytes_after_an_answer_belong_to_nobody() -> None:
    with (
        running(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as run,
        run.connect() as tool,
    ):
        for _ in range(2):
            tool.send(run.head())
            assert tool.until(b"hi").endswith(b"\r\n\r\nhi")
        assert run.gateway.connections == 2


def test_redirects_are_handed_back() -> None:
    answer = (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n"
    )
    with running(answering(answer)) as run:
        assert b"Location: https://evil.example/\r\n" in run.get()
        assert run.gateway.connections == 1


def test_neither_cookies_nor_cors_nor_the_token_come_back() -> None:
    fields = b"Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nX-Echo: canary-token-1\r\n"
    answer = ask(once(b"HTTP/1.1 200 canary-token-1\r\n" + fields + b"Content-Length: 0\r\n\r\n"))

    assert answer == b"HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def test_a_slow_tool_slows_the_gateway_and_gets_everything() -> None:
    size = 64 << 20
    sent = 0

    def script(conversation: Conversation) -> None:
        nonlocal sent
        conversation.request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            conversation.send(b"x" * 65536)
            sent += 65536

    with running(script) as run, run.connect() as tool:
        tool.send(run.head("/v1/models", "Connection: close"))
        tool.until(b"\r\n\r\n")
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
        while data := tool.receive():
            got += len(data)
        assert size - 65536 * 4 < got <= size


def test_a_tool_that_leaves_in_mid_stream_ends_it_within_a_second() -> None:
    gone = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        if conversation.wait_gone():  # says nothing more, so only the tool's socket can tell
            gone.set()

    with running(script) as run:
        with run.connect() as tool:
            tool.send(run.head())
            tool.until(b"hello\r\n")
        assert gone.wait(1)
        assert "went away" in run.exchange().refusal


def test_a_stream_in_which_nothing_moves_is_given_up() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        conversation.wait_gone()

    with running(script, limits=Limits(idle=0.2)) as run:
        answer = run.get()

        assert not answer.endswith(b"0\r\n\r\n")
        assert "time limit" in run.exchange().refusal


def test_100_streams_at_once_all_arrive_whole() -> None:
    def script(conversation: Conversation) -> None:
        while conversation.request():
            conversation.send(CHUNKED)
            for _ in range(5):
                conversation.send(b"5\r\nhello\r\n")
                time.sleep(0.01)
            conversation.send(b"0\r\n\r\n")

    with running(script) as run:
        answers = _many(run, 100)

        body = b"5\r\nhello\r\n" * 5 + b"0\r\n\r\n"
        whole = [
            answer.partition(b"\r\n\r\n")[2].replace(b"a\r\nhellohello\r\n", b"5\r\nhello\r\n" * 2)
            for answer in answers
        ]
        assert all(answer.endswith(b"0\r\n\r\n") and answer.count(b"hello") == 5 for answer in whole), body


def _many(run: Running, count: int) -> list[bytes]:
    answers: list[bytes] = []
    tools = [threading.Thread(target=lambda: answers.append(run.get())) for _ in range(count)]
    for tool in tools:
        tool.start()
    for tool in tools:
        tool.join()
    return answers
