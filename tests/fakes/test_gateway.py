"""The fake gateway keeps what its docstring promises: it is what the demo and the tools talk to."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.gateway import FakeGateway, Fault

GOOD = {"Authorization": "Bearer good"}


def _check(token: str) -> None:
    if token != "good":
        raise ValueError("not good")


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway(_check, text="one two three") as running:
        yield running


@pytest.fixture
def connection(gateway: FakeGateway) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=gateway.ca_file)
    connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, context=context, timeout=10)
    yield connection
    connection.close()


def _ask(
    connection: http.client.HTTPSConnection, path: str, body: dict[str, Any] | None = None, **more: Any
) -> tuple[int, str]:
    method = more.pop("method", "POST" if body is not None else "GET")
    connection.request(method, path, json.dumps(body) if body is not None else None, **more)
    response = connection.getresponse()
    return response.status, response.read().decode()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/anthropic/v1/messages",
        "/v1beta/models/m-1:generateContent",
        "/v1beta/models/m-1:streamGenerateContent?alt=sse",
    ],
)
def test_gives_its_sentence_to_a_good_token_on_every_api(
    connection: http.client.HTTPSConnection, path: str
) -> None:
    for stream in (False, True):
        status, text = _ask(connection, path, {"model": "m-1", "stream": stream}, headers=GOOD)

        assert status == 200
        assert all(word in text for word in ("one", "two", "three"))


def test_requires_a_token_on_one_kept_connection(
    gateway: FakeGateway, connection: http.client.HTTPSConnection
) -> None:
    assert _ask(connection, "/v1/models")[0] == 401
    assert _ask(connection, "/v1/models", headers={"Authorization": "Bearer bad"})[0] == 401
    assert _ask(connection, "/anthropic/v1/messages", method="HEAD")[0] == 401
    assert _ask(connection, "/elsewhere/v1/messages", method="HEAD")[0] == 404
    assert json.loads(_ask(connection, "/v1/models", headers=GOOD)[1])["data"][0]["id"] == "m-1"
    assert [one.admitted for one in gateway.requests] == [False, False, False, False, True]
    assert [one.path for one in gateway.served("/v1/models")] == ["/v1/models"]


def test_remembers_method_headers_and_a_chunked_body(
    gateway: FakeGateway, connection: http.client.HTTPSConnection
) -> None:
    connection.request(
        "POST", "/v1/responses?x=1", iter([b'{"model"', b': "m-9"}']), GOOD, encode_chunked=True
    )
    response = connection.getresponse()

    assert json.loads(response.read())["model"] == "m-9"
    assert gateway.requests[0].method == "POST"
    assert gateway.requests[0].path == "/v1/responses?x=1"
    assert gateway.requests[0].body == b'{"model": "m-9"}'
    assert gateway.requests[0].header("authorization") == "Bearer good"


def test_sends_each_event_at_once_and_waits_between_them(
    gateway: FakeGateway, connection: http.client.HTTPSConnection
) -> None:
    gateway.gap_s = 0.05
    started = time.monotonic()
    connection.request("POST", "/v1/chat/completions", b'{"stream": true}', GOOD)
    response = connection.getresponse()

    first = response.readline()
    first_s = time.monotonic() - started
    rest = response.read()

    assert first.startswith(b"data: {")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert time.monotonic() - started >= 5 * gateway.gap_s > first_s - 0.5
    assert first_s < time.monotonic() - started - 3 * gateway.gap_s


def test_does_wrong_what_it_is_told_to(gateway: FakeGateway, connection: http.client.HTTPSConnection) -> None:
    faults = [Fault(429, {"Retry-After": "3"}), Fault(events=2)]
    gateway.fault = lambda received: faults.pop(0) if faults and received.body else None
    question = "/v1/chat/completions", b'{"stream": true}', GOOD

    assert _ask(connection, "/v1/models", headers=GOOD)[0] == 200
    connection.request("POST", *question)
    refused = connection.getresponse()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "3")
    refused.read()
    connection.request("POST", *question)
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    assert cut.value.partial.count(b"data: ") == 2
    connection.close()
    connection.request("POST", *question)
    assert b"three" in connection.getresponse().read()
    assert len({received.at for received in gateway.requests}) == 4
