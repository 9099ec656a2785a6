"""The door to the provider: limits, proxies, and what is said when something is wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.provider import FakeProvider
from tests.fakes.web import CA_FILE, Request, ServerResponse, WebServer
from thv_llm import __version__
from thv_llm.errors import InvalidResponseError, NoResponseError, ThvLlmError
from thv_llm.net.http_client import Response
from thv_llm.oidc.http import Provider, describe
from thv_llm.secret import Secret

TRUST = {"SSL_CERT_FILE": CA_FILE}
CANARY = "canary-7f3a"


def server(response: ServerResponse | Callable[[Request], ServerResponse], *, tls: bool = True) -> WebServer:
    return WebServer(response if callable(response) else lambda _: response, tls=tls)


def test_a_form_arrives_with_our_name_and_without_empty_fields() -> None:
    seen: list[Request] = []

    def respond(request: Request) -> ServerResponse:
        seen.append(request)
        return ServerResponse(body={"ok": True})

    with server(respond) as web:
        form: dict[str, str | Secret] = {"grant_type": "x", "token": Secret("a b&c=d"), "audience": ""}
        response = Provider("", TRUST).post_form(f"{web.url}/token?tenant=1", form)

    assert (response.status, response.json) == (200, {"ok": True})
    (request,) = seen
    assert request.form == {"grant_type": "x", "token": "a b&c=d"}
    assert request.query == {"tenant": "1"}
    assert request.headers["user-agent"] == f"thv-llm/{__version__}"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


def test_the_ca_file_is_trusted_besides_the_system() -> None:
    with server(ServerResponse(body={})) as web:
        assert Provider(CA_FILE, {}).get_json(web.url) == {}


def test_plain_http_is_for_loopback_only() -> None:
    with server(ServerResponse(body={}), tls=False) as web:
        assert Provider("", {}).get_json(web.url) == {}
    with pytest.raises(InvalidResponseError):
        Provider("", {}).get_json("http://idp.example/")


@pytest.mark.parametrize("drip_s", [0.01, 60.0])
def test_the_time_limit_is_for_the_whole_response(drip_s: float) -> None:
    with server(ServerResponse(body={"x": "y" * 1000}, drip_s=drip_s)) as web:
        start = time.monotonic()
        with pytest.raises(NoResponseError) as caught:
            Provider("", TRUST, timeout_s=0.3).post_form(web.url, {"token": Secret(CANARY)})

    assert time.monotonic() - start < 2.0
    assert "within 0.3 s" in str(caught.value)
    assert caught.value.maybe_sent


def test_the_time_limit_is_for_the_handshake_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(NoResponseError) as caught:
            Provider("", TRUST, timeout_s=0.2).get(f"https://127.0.0.1:{silent.getsockname()[1]}/")

    assert time.monotonic() - start < 2.0
    assert not caught.value.maybe_sent


def test_no_thread_is_left_behind() -> None:
    with server(ServerResponse(body={"x": "y" * 1000}, drip_s=0.02)) as web:
        before = threading.active_count()
        with pytest.raises(NoResponseError):
            Provider("", TRUST, timeout_s=0.2).get(web.url)

        assert not [each for each in threading.enumerate() if each.name == "http-client"]
        assert threading.active_count() <= before + 1  # the server's


def test_a_closed_port_is_said_to_be_closed_and_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoResponseError) as caught:
        Provider("", TRUST).get(f"https://127.0.0.1:{port}/")

    assert "connection refused" in str(caught.value)
    assert not caught.value.maybe_sent


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(NoResponseError) as caught:
        Provider("", TRUST).get("https://idp.invalid/")

    assert "idp.invalid" in str(caught.value)
    assert not caught.value.maybe_sent


def test_a_response_that_ends_too_early_is_no_response() -> None:
    raw = b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"a": 1}'
    with server(ServerResponse(raw=raw)) as web, pytest.raises(NoResponseError) as caught:
        Provider("", TRUST).get_json(web.url)

    assert "before the response was complete" in str(caught.value)
    assert caught.value.maybe_sent


def test_a_redirect_is_not_followed_and_its_host_is_named() -> None:
    response = ServerResponse(
        302, headers={"Location": f"https://joe:{CANARY}@portal.example/login?{CANARY}"}
    )
    with server(response) as web, pytest.raises(InvalidResponseError) as caught:
        Provider("", TRUST).get_json(web.url)

    assert "portal.example" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("location", ["http://[x", "http://[::1]:port/", "//", "", "\udcff"])
def test_a_redirect_to_nowhere_is_one_to_another_page(location: str) -> None:
    response = Response("idp.example", 302, {"location": location})

    assert "idp.example redirects to '" in describe(response)[0]


def test_a_captive_portal_is_recognized() -> None:
    page = f"<html><body>{CANARY} Accept our terms</body></html>"
    with server(ServerResponse(200, page)) as web, pytest.raises(InvalidResponseError) as caught:
        Provider("", TRUST).get_json(web.url)

    assert "web page (HTTP 200) instead of JSON" in str(caught.value)
    assert "login page" in caught.value.next_step
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        f"{CANARY}\r\n\r\n".encode(),
        f"HTTP/1.1 {CANARY} OK\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nContent-Length: {CANARY}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
        b"HTTP/1.1 200 OK\r\nX: " + CANARY.encode() * 10_000,
        b"HTTP/1.1 200 OK\r\n" + f"X: {CANARY}\r\n".encode() * 200,
    ],
)
def test_what_is_not_http_never_gets_into_an_error(raw: bytes) -> None:
    with server(ServerResponse(raw=raw)) as web, pytest.raises(ThvLlmError) as caught:
        Provider("", TRUST, timeout_s=2.0).get_json(web.url)

    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_proxy_with_a_password_lets_us_through_and_sees_only_a_host() -> None:
    with FakeProvider() as provider, ConnectProxy("joe", "hunter2") as proxy:
        http = Provider("", {**TRUST, "HTTPS_PROXY": proxy.url})
        response = http.post_form(f"{provider.issuer}/revoke", {"token": Secret(CANARY)})

    assert response.status == 200
    assert proxy.targets == [provider.issuer.removeprefix("https://")]
    assert CANARY not in "".join(proxy.heads)
    assert f"User-Agent: thv-llm/{__version__}" in proxy.heads[0]


@pytest.mark.parametrize(("status", "says"), [(0, "rejected the user name"), (503, "opened no tunnel")])
def test_a_proxy_that_refuses_is_named_without_its_password(status: int, says: str) -> None:
    with ConnectProxy("joe", "right", status=status) as proxy:
        environ = {**TRUST, "https_proxy": f"http://joe:{CANARY}@127.0.0.1:{proxy.port}"}
        with pytest.raises(NoResponseError) as caught:
            Provider("", environ).get("https://idp.example/")

    assert says in str(caught.value)
    assert CANARY not in str(caught.value)
    assert not caught.value.maybe_sent


def test_no_proxy_goes_around_the_proxy() -> None:
    with server(ServerResponse(body={})) as web, ConnectProxy() as proxy:
        environ = {**TRUST, "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
        assert Provider("", environ).get_json(web.url) == {}

    assert proxy.heads == []


def test_plain_http_to_loopback_never_goes_to_a_proxy() -> None:
    with server(ServerResponse(body={}), tls=False) as web, ConnectProxy() as proxy:
        environ = {"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url, "http_proxy": proxy.url}
        assert Provider("", environ).get_json(web.url) == {}

    assert proxy.heads == []
