"""One request under one deadline, and the strict reading of JSON. Words of failures: `test_failures`."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.web import CA_FILE, ServerResponse, WebServer
from thv_llm.errors import NoResponseError
from thv_llm.net.http_client import MAX_BODY_BYTES, HttpClient, Response, json_object

TOP = str(Path(__file__).resolve().parent.parent.parent)


def fetch(web: WebServer, path: str = "", timeout_s: float = 5.0, method: str = "GET") -> Response:
    client = HttpClient(environ={"SSL_CERT_FILE": CA_FILE}, timeout_s=timeout_s)
    return client.send(method, web.url + path, what="cannot reach it")


@pytest.mark.parametrize(
    ("path", "arrives"), [("", "/"), ("/a?b=c", "/a?b=c"), ("?x=%20", "/?x=%20"), ("/%7Ea", "/%7Ea")]
)
def test_path_and_query_arrive_as_they_were_given(path: str, arrives: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(NoResponseError):
            HttpClient(environ={}).send("GET", f"http://127.0.0.1:{port}{path}", what="")
        thread.join()

    assert seen[0].startswith(f"GET {arrives} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())


def test_a_body_may_be_as_large_as_the_limit_and_no_larger() -> None:
    with WebServer(lambda _: ServerResponse(body=b"x" * MAX_BODY_BYTES), tls=False) as web:
        assert len(fetch(web).body) == MAX_BODY_BYTES
    with WebServer(lambda _: ServerResponse(body=b"x" * (MAX_BODY_BYTES + 1)), tls=False) as web:
        with pytest.raises(NoResponseError, match="larger than 1 MB"):
            fetch(web)


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (8 << 20)
    with (
        WebServer(lambda _: ServerResponse(raw=raw), tls=False) as web,
        pytest.raises(NoResponseError, match="larger than 1 MB"),
    ):
        fetch(web)


def test_a_body_without_length_ends_with_the_connection() -> None:
    with WebServer(lambda _: ServerResponse(raw=b"HTTP/1.0 200 OK\r\n\r\nall of it"), tls=False) as web:
        assert fetch(web).body == b"all of it"


def test_a_chunked_body_is_put_together() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with WebServer(lambda _: ServerResponse(raw=raw), tls=False) as web:
        assert fetch(web).body == b"abcde"


def test_a_plain_host_name_loads_no_tables_of_idna() -> None:
    with WebServer(lambda _: ServerResponse(body=b"{}")) as web:
        program = (
            f"import sys; sys.path.insert(0, {TOP!r})\n"
            "from thv_llm.net.http_client import HttpClient\n"
            f"client = HttpClient({CA_FILE!r}, environ={{}}, timeout_s=20.0)\n"
            f"response = client.send('GET', {web.url!r}, what='')\n"
            "print(response.status, 'encodings.idna' in sys.modules)"
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
    with WebServer(lambda _: ServerResponse(raw=raw), tls=False) as web:
        with pytest.raises(NoResponseError) as caught:
            fetch(web)

    assert caught.value.maybe_sent


def test_a_response_to_head_has_no_body_to_wait_for() -> None:
    with WebServer(lambda _: ServerResponse(raw=b"HTTP/1.1 401 No\r\n\r\n"), tls=False) as web:
        assert fetch(web, method="HEAD").status == 401


def test_header_names_are_lower_case_and_shown_nowhere() -> None:
    with WebServer(lambda _: ServerResponse(headers={"Retry-AFTER": "5"}), tls=False) as web:
        response = fetch(web)

    assert response.headers["retry-after"] == "5"
    assert repr(response) == "Response(host='127.0.0.1', status=200)"


def test_an_interrupted_wait_cuts_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches the main thread, which only waits: the talking thread must not go on."""
    before = threading.active_count()
    with WebServer(lambda _: ServerResponse(body=b"x" * 100, drip_s=1.0), tls=False) as web:
        join = threading.Thread.join

        def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
            join(thread, min(timeout or 0.0, 0.1))
            if timeout == 5.0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "join", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fetch(web)

    deadline = time.monotonic() + 5  # less than what the server has left to say
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, "x", null, true]} \n', {"a": [1, "x", None, True]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "ü"}'.encode(), {"a": "ü"}),
        (b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_a_json_object_is_returned(data: bytes, value: object) -> None:
    assert json_object(data) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not JSON"),
        (b"{canary}", "is not JSON"),
        (b'{"a": canary', "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": -Infinity}', "is not JSON"),
        (b'{"a": 1} {"a": 2}', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        ('{"a": "canary"}'.encode("utf-16"), "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'["canary"]', "is not a JSON object"),
        (b'"canary"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"a": 1, "a": 2}', "names the member 'a' twice"),
        (b'{"x": {"a": 1, "a": "canary"}}', "names the member 'a' twice"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_not_one_json_object_is_refused_without_its_text(data: bytes, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        json_object(data)

    assert str(caught.value) == why
