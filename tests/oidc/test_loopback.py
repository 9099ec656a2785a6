"""The listener: only the authorization response ends the wait."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from thv_llm.errors import ThvLlmError
from thv_llm.oidc.loopback import MAX_THREADS, AuthorizationResponse, RedirectListener

RIGHT = "/callback?code=c&state=right"


def is_right(query: str) -> bool:
    return "state=right" in query


@contextmanager
def waiting(
    listener: RedirectListener, timeout_s: float = 10.0
) -> Iterator[list[AuthorizationResponse | None]]:
    """Wait in another thread; the list holds the outcome after the block."""
    found: list[AuthorizationResponse | None] = []
    listener.expect(is_right)
    thread = threading.Thread(target=lambda: found.append(listener.wait(timeout_s)))
    thread.start()
    try:
        yield found
    finally:
        thread.join()


def send(port: int, data: bytes, *, host: str = "127.0.0.1") -> bytes:
    """Send raw bytes, and return everything that comes back."""
    with socket.create_connection((host, port), 5) as connection:
        connection.sendall(data)
        response = b""
        while piece := connection.recv(65536):
            response += piece
        return response


def get(port: int, target: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def finish(listener: RedirectListener) -> None:
    """Bring the right response, without waiting for the page."""
    with socket.create_connection(("127.0.0.1", listener.port), 5) as connection:
        connection.sendall(f"GET {RIGHT} HTTP/1.1\r\n\r\n".encode())


def test_the_authorization_response_is_returned_and_its_page_is_shown() -> None:
    with RedirectListener() as listener:
        with waiting(listener) as found:
            connection = socket.create_connection(("127.0.0.1", listener.port), 5)
            connection.sendall(f"GET {RIGHT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        (response,) = found
        assert response is not None
        assert response.query == "code=c&state=right"
        with connection:
            shower = threading.Thread(target=response.show, args=(b"<p>done</p>",))
            shower.start()
            page = b""
            while piece := connection.recv(65536):
                page += piece
        shower.join()

    assert page.startswith(b"HTTP/1.1 200 OK\r\n")
    assert page.endswith(b"\r\n\r\n<p>done</p>")
    assert b"Cache-Control: no-store\r\n" in page


def test_strays_are_told_so_and_the_wait_goes_on() -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        port = listener.port
        assert get(port, "/") == 404
        assert get(port, "/favicon.ico") == 404
        assert get(port, "/callback") == 400
        assert get(port, "/callback?error=access_denied") == 400
        assert get(port, "/callback?code=c&state=wrong") == 400
        assert get(port, "/callback/?code=c&state=right") == 404
        assert get(port, "//callback?code=c&state=right") == 404
        finish(listener)

    assert found[0] is not None


@pytest.mark.parametrize(
    "data",
    [
        b"POST /callback?state=right HTTP/1.1\r\n\r\n",
        b"HEAD /callback?state=right HTTP/1.1\r\n\r\n",
        b"OPTIONS /callback?state=right HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.1/callback?state=right HTTP/1.1\r\n\r\n",
        b"GET /callback?state=right\r\n\r\n",
        b"GET /callback?state=right HTTP/2.0\r\n\r\n",
        b"GET /callback?state=right#x HTTP/1.1\r\n\r\n",
        b"GET  /callback?state=right HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xee\x01\x00\r\n\r\n",
    ],
)
def test_requests_of_another_kind_are_no_authorization_response(data: bytes) -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        assert send(listener.port, data).startswith(b"HTTP/1.1 400 ")
        finish(listener)

    assert found[0] is not None


def test_an_empty_line_and_a_tls_hello_without_an_end_do_not_end_the_wait() -> None:
    hello = b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03" + bytes(range(11, 255))
    with RedirectListener() as listener, waiting(listener) as found:
        assert send(listener.port, b"\r\n\r\n") == b""
        with socket.create_connection(("127.0.0.1", listener.port), 5) as silent:
            silent.sendall(hello.replace(b"\n", b""))
            finish(listener)

    assert found[0] is not None


def test_a_slow_crowd_has_no_more_threads_than_the_limit() -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        slow = [socket.create_connection(("127.0.0.1", listener.port), 5) for _ in range(3 * MAX_THREADS)]
        for connection in slow:
            with contextlib.suppress(OSError):  # cut already, to make room
                connection.sendall(b"GET /call")
        names = [thread.name for thread in threading.enumerate() if "process_request" in thread.name]
        assert len(names) <= MAX_THREADS
        finish(listener)
        for connection in slow:
            connection.close()

    assert found[0] is not None


def test_a_browser_that_is_back_at_once_is_not_turned_away() -> None:
    with RedirectListener() as listener:
        listener.expect(is_right)
        finish(listener)
        assert listener.wait(5.0) is not None


def test_a_response_of_an_earlier_round_is_not_taken_for_the_next() -> None:
    with RedirectListener() as listener:
        listener.expect(is_right)
        finish(listener)
        while listener._held == []:
            time.sleep(0.01)
        listener.expect(lambda query: "state=second" in query)
        assert listener.wait(0.0) is None
        assert get(listener.port, RIGHT) == 400


def test_a_head_without_end_is_dropped() -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        with socket.create_connection(("127.0.0.1", listener.port), 5) as flood:
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                flood.sendall(b"X" * (64 << 20))
        finish(listener)

    assert found[0] is not None


def test_an_authorization_response_can_come_in_pieces() -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        with socket.create_connection(("127.0.0.1", listener.port), 5) as slow:
            for byte in f"GET {RIGHT} HTTP/1.1\r\nCookie: {'c' * 9000}\r\n\r\n".encode():
                slow.send(bytes([byte]))

    assert found[0] is not None


def test_silent_connections_keep_no_other_out() -> None:
    with RedirectListener() as listener, waiting(listener) as found:
        silent = [socket.create_connection(("127.0.0.1", listener.port), 5) for _ in range(2 * MAX_THREADS)]
        assert silent[0].recv(1) == b""  # the oldest made room
        finish(listener)
        for connection in silent:
            connection.close()

    assert found[0] is not None


def test_a_thousand_random_requests_do_not_end_the_wait() -> None:
    seeded = random.Random(1)
    alphabet = "abc/?&=%.-_~codestateerror"

    def random_target() -> str:
        text = "".join(seeded.choices(alphabet, k=seeded.randrange(60)))
        return f"/{text}" if seeded.random() < 0.5 else f"/callback?{text}"

    with RedirectListener() as listener, waiting(listener, 60.0) as found:
        for _ in range(1000):
            response = send(listener.port, f"GET {random_target()} HTTP/1.1\r\n\r\n".encode())
            assert response[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")
        finish(listener)

    assert found[0] is not None


def test_the_wait_ends_when_the_time_is_up() -> None:
    with RedirectListener() as listener:
        assert listener.wait(0.0) is None


def test_it_listens_on_loopback_only_and_is_gone_afterwards() -> None:
    with RedirectListener() as listener:
        assert listener.addresses == ["127.0.0.1"]
        assert listener.redirect_uri == f"http://127.0.0.1:{listener.port}/callback"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.port), 1)


def test_localhost_is_served_on_both_of_its_addresses() -> None:
    with RedirectListener("localhost") as listener:
        assert listener.redirect_uri == f"http://localhost:{listener.port}/callback"
        addresses = set(listener.addresses)
        assert "127.0.0.1" in addresses
        assert addresses <= {"127.0.0.1", "::1"}
        for address in addresses:
            with waiting(listener) as found:
                with socket.create_connection((address, listener.port), 5) as connection:
                    connection.sendall(f"GET {RIGHT} HTTP/1.1\r\n\r\n".encode())
            assert found[0] is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_named_with_the_flag(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ThvLlmError) as caught:
            RedirectListener(host, port)

    assert f"port {port}" in str(caught.value)
    assert "--callback-port" in caught.value.next_step


def test_a_fixed_port_can_be_used_again_at_once() -> None:
    with RedirectListener() as first, waiting(first):
        get(first.port, "/")  # closed by us, so it stays behind in TIME_WAIT
        finish(first)
    with RedirectListener("127.0.0.1", first.port) as second:
        assert second.port == first.port


@pytest.mark.parametrize(
    "react", [lambda response: response.show(b"x" * 10), lambda response: response.go_on("http://x/")]
)
def test_a_browser_that_disconnects_does_no_harm(react: Callable[[AuthorizationResponse], None]) -> None:
    with RedirectListener() as listener:
        with waiting(listener) as found:
            finish(listener)
        assert found[0] is not None
        react(found[0])


def test_an_authorization_response_shows_nothing_of_its_query() -> None:
    with RedirectListener() as listener:
        with waiting(listener) as found:
            finish(listener)
        assert "right" not in repr(found)
