"""One request under one deadline. What is said of failures: `test_http`; of certificates: `test_bad_tls`."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.web import CA_FILE, Answer, WebServer
from thv_llm.oidc import exchange
from thv_llm.oidc.exchange import MAX_BODY_BYTES, Exchange, Request, TooLargeError

TOP = str(Path(__file__).resolve().parent.parent.parent)


def fetch(web: WebServer, timeout_s: float = 5.0) -> exchange.Answer:
    return Exchange(Request("GET", urlsplit(web.url), {}), context=None, proxy=None).run(timeout_s)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://idp.example", "idp.example", 443, "/"),
        ("http://[::1]:80/a?b=c", "::1", 80, "/a?b=c"),
        ("https://idp.example:8443?x=%20", "idp.example", 8443, "/?x=%20"),
        ("http://localhost/", "localhost", 80, "/"),
    ],
)
def test_a_request_knows_where_it_goes(url: str, host: str, port: int, target: str) -> None:
    request = Request("GET", urlsplit(url), {})

    assert (request.host, request.port, request.target) == (host, port, target)


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    with WebServer(lambda _: Answer(body=b"x" * MAX_BODY_BYTES), tls=False) as web:
        assert len(fetch(web).body) == MAX_BODY_BYTES
    with WebServer(lambda _: Answer(body=b"x" * (MAX_BODY_BYTES + 1)), tls=False) as web:
        with pytest.raises(TooLargeError):
            fetch(web)


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 << 20)
    with WebServer(lambda _: Answer(raw=raw), tls=False) as web, pytest.raises(TooLargeError):
        fetch(web)


def test_a_body_without_length_ends_with_the_connection() -> None:
    with WebServer(lambda _: Answer(raw=b"HTTP/1.0 200 OK\r\n\r\nall of it"), tls=False) as web:
        assert fetch(web).body == b"all of it"


def test_a_chunked_body_is_put_together() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with WebServer(lambda _: Answer(raw=raw), tls=False) as web:
        assert fetch(web).body == b"abcde"


def test_a_plain_host_name_loads_no_tables_of_idna() -> None:
    with WebServer(lambda _: Answer(body=b"{}")) as web:
        program = (
            f"import sys; sys.path.insert(0, {TOP!r})\n"
            "from urllib.parse import urlsplit\nfrom thv_llm import tls\n"
            "from thv_llm.oidc.exchange import Exchange, Request\n"
            f"context = tls.client_context({CA_FILE!r}, environ={{}})\n"
            f"request = Request('GET', urlsplit({web.url!r}), {{}})\n"
            "answer = Exchange(request, context=context, proxy=None).run(20.0)\n"
            "print(answer.status, 'encodings.idna' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
        )

    assert done.stdout == "200 False\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ],
)
def test_a_body_that_was_cut_is_not_taken_for_whole(raw: bytes) -> None:
    with WebServer(lambda _: Answer(raw=raw), tls=False) as web:
        with pytest.raises((http.client.HTTPException, OSError)):
            fetch(web)


def test_header_names_are_lower_case_and_shown_nowhere() -> None:
    with WebServer(lambda _: Answer(headers={"Retry-AFTER": "5"}), tls=False) as web:
        answer = fetch(web)

    assert answer.headers["retry-after"] == "5"
    assert repr(answer) == "Answer(status=200)"


def test_an_interrupted_wait_cuts_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the main thread, which only waits: the talking thread must not go on."""
    before = threading.active_count()
    with WebServer(lambda _: Answer(body=b"x" * 100, drip_s=1.0), tls=False) as web:
        request = Request("GET", urlsplit(web.url), {})
        talk = Exchange(request, context=None, proxy=None)
        join = threading.Thread.join

        def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
            join(thread, min(timeout or 0.0, 0.1))
            if timeout == 5.0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "join", interrupted)
            with pytest.raises(KeyboardInterrupt):
                talk.run(5.0)

    deadline = time.monotonic() + 5  # less than what the server has left to say
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
