"""Who can use the proxy."""

from __future__ import annotations

import pytest

from thv_llm.proxy.access import Keys, Rules
from thv_llm.proxy.http1 import Field, Fields, Rejected, RequestHead, Target

RULES = Rules(14000, Keys(lambda: {b"local-key": "aider"}))
HOST = (b"Host", b"127.0.0.1:14000")
KEY = (b"Authorization", b"Bearer local-key")


def refusal(*fields: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/v1/models") -> int:
    """Return the status of the refusal, 0 for none."""
    try:
        RULES.check(RequestHead(method, target, 1, Fields(fields)))
    except Rejected as refused:
        return refused.status
    return 0


@pytest.mark.parametrize("host", [b"127.0.0.1:14000", b"localhost:14000", b"LocalHost:14000", b"[::1]:14000"])
def test_our_own_names_are_taken(host: bytes) -> None:
    assert refusal((b"Host", host), KEY) == 0


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:14001",
        b"127.0.0.1:",
        b"127.0.0.1:014000",
        b"127.0.0.1:14000.evil.example",
        b"127.0.0.1.evil.example:14000",
        b"evil.example:14000",
        b"localhost.:14000",
        b"user@127.0.0.1:14000",
        b"127.0.0.1:14000@evil.example",
        b"127.0.0.1:14000, evil.example",
        b"2130706433:14000",
        b"0x7f.0.0.1:14000",
        b"127.1:14000",
        b"0.0.0.0:14000",
        b"[::]:14000",
        b"[::ffff:127.0.0.1]:14000",
        b"::1:14000",
        b"[",
        b"http://127.0.0.1:14000",
    ],
)
@pytest.mark.parametrize("target", [b"/v1/models", b"/healthz"])
def test_any_other_host_is_refused_even_with_the_key(host: bytes, target: bytes) -> None:
    assert refusal((b"Host", host), KEY, target=target) == 403


@pytest.mark.parametrize("hosts", [[], [b""], [b"127.0.0.1:14000"] * 2])
def test_a_request_needs_exactly_one_host(hosts: list[bytes]) -> None:
    assert refusal(*[(b"Host", host) for host in hosts], KEY) == 400


@pytest.mark.parametrize(
    "field",
    [
        (b"Origin", b"https://evil.example"),
        (b"Origin", b"null"),
        (b"origin", b"http://127.0.0.1:14000"),
        (b"Origin", b""),
        (b"Sec-Fetch-Site", b"cross-site"),
        (b"Sec-Fetch-Site", b"same-site"),
        (b"Sec-Fetch-Site", b""),
    ],
)
@pytest.mark.parametrize("target", [b"/v1/models", b"/healthz"])
def test_a_page_in_a_browser_is_refused_even_with_the_key(field: tuple[bytes, bytes], target: bytes) -> None:
    assert refusal(HOST, KEY, field, target=target) == 403
    assert refusal(HOST, KEY, field, method=b"OPTIONS", target=target) == 403


@pytest.mark.parametrize("value", [b"none", b"same-origin"])
def test_a_typed_address_is_not_a_page(value: bytes) -> None:
    assert refusal(HOST, KEY, (b"Sec-Fetch-Site", value)) == 0


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Authorization", b"Bearer local-key")],
        [(b"authorization", b"bearer  local-key")],
        [(b"X-Api-Key", b"local-key")],
        [(b"api-key", b"local-key")],
        [(b"x-goog-api-key", b"local-key")],
        [(b"Authorization", b"Bearer other"), (b"x-api-key", b"local-key")],
    ],
)
def test_the_key_is_taken_wherever_clients_put_it(fields: list[Field]) -> None:
    assert refusal(HOST, *fields) == 0


def test_the_key_is_taken_from_the_query() -> None:
    assert refusal(HOST, target=b"/v1beta/models?key=local-key") == 0
    assert refusal(HOST, target=b"/v1beta/models?key=other") == 401


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"Authorization", b"")],
        [(b"Authorization", b"Bearer")],
        [(b"Authorization", b"Bearer local-ke")],
        [(b"Authorization", b"Bearer local-keyy")],
        [(b"Authorization", b"Bearer LOCAL-KEY")],
        [(b"Authorization", b"Basic local-key")],
        [(b"Authorization", b"local-key")],
        [(b"Authorization", b"Bearer \xc3\xa9")],
        [(b"X-Key", b"local-key")],
        [(b"Cookie", b"key=local-key")],
    ],
)
def test_nothing_else_is_a_key(fields: list[Field]) -> None:
    assert refusal(HOST, *fields) == 401


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"get", b"PROPFIND", b"X"])
def test_other_methods_are_refused(method: bytes) -> None:
    assert refusal(HOST, KEY, method=method) == 405


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
def test_the_usual_methods_pass(method: bytes) -> None:
    assert refusal(HOST, KEY, method=method) == 0


def test_health_needs_no_key() -> None:
    assert refusal(HOST, target=b"/healthz") == 0
    assert refusal(HOST, target=b"/healthz/x") == 401


def test_an_unknown_expectation_is_refused() -> None:
    assert refusal(HOST, KEY, (b"Expect", b"100-Continue")) == 0
    assert refusal(HOST, KEY, (b"Expect", b"200-ok")) == 417


def test_without_a_key_to_ask_for_everything_else_still_holds() -> None:
    rules = Rules(14000, Keys(dict), require_key=False)

    rules.check(RequestHead(b"GET", b"/v1/models", 1, Fields([HOST])))
    with pytest.raises(Rejected):
        rules.check(RequestHead(b"GET", b"/v1/models", 1, Fields([HOST, (b"Origin", b"null")])))


def test_a_key_tells_whose_request_it_is() -> None:
    head = RequestHead(b"GET", b"/v1/models", 1, Fields([HOST, (b"x-api-key", b"wrong"), KEY]))

    assert RULES.check(head) == (Target(b"/v1/models", None, ()), "aider")


def test_an_unknown_key_is_looked_for_once_more() -> None:
    known = {b"first": "aider"}
    rules = Rules(14000, Keys(lambda: dict(known)))
    head = RequestHead(b"GET", b"/v1/models?key=second", 1, Fields([HOST]))
    with pytest.raises(Rejected):
        rules.check(head)

    known[b"second"] = "cline"

    assert rules.check(head)[1] == "cline"
