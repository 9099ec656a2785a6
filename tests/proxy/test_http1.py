"""Heads and targets, from tables of RFC 9112, llhttp's and h11's cases; heads also fed one byte at a time."""

from __future__ import annotations

import pytest

from thv_llm.proxy import http1
from thv_llm.proxy.http1 import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    HeadReader,
    Rejected,
    parse_fields,
    parse_request,
    parse_response,
)

END = b"\r\n\r\n"


def read(data: bytes, step: int, *, of_response: bool = False) -> tuple[object, bytes]:
    """Feed bytes in steps; return the parsed head and what came behind it."""
    reader = HeadReader(of_response=of_response)
    for at in range(0, len(data), step):
        if reader.feed(data[at : at + step]):
            parsed = parse_response(reader.head) if of_response else parse_request(reader.head)
            return parsed, reader.rest + data[at + step :]
    raise AssertionError("the head is not whole")


@pytest.fixture(params=[1, 7, 1 << 20], ids=["byte by byte", "in sevens", "at once"])
def step(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


GOOD_REQUESTS = {
    b"GET / HTTP/1.1\r\nHost: h": (b"GET", b"/", 1, [(b"Host", b"h")]),
    b"\r\nGET / HTTP/1.1\r\nHost: h": (b"GET", b"/", 1, [(b"Host", b"h")]),
    b"GET / HTTP/1.0": (b"GET", b"/", 0, []),
    b"M-SEARCH * HTTP/1.1": (b"M-SEARCH", b"*", 1, []),
    b"GET http://h/p?q#f HTTP/1.1": (b"GET", b"http://h/p?q#f", 1, []),
    b"POST /a?b=%20 HTTP/1.1\r\nA:1\r\nA: \t2 \t\r\nB:": (
        b"POST",
        b"/a?b=%20",
        1,
        [(b"A", b"1"), (b"A", b"2"), (b"B", b"")],
    ),
    b"GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: v": (
        b"GET",
        b"/",
        1,
        [(b"!#$%&'*+-.^_`|~09azAZ", b"v")],
    ),
    b"GET / HTTP/1.1\r\nUser-Agent: caf\xc3\xa9 \xff": (
        b"GET",
        b"/",
        1,
        [(b"User-Agent", b"caf\xc3\xa9 \xff")],
    ),
    b"GET / HTTP/1.1\r\nA: b:c: d": (b"GET", b"/", 1, [(b"A", b"b:c: d")]),
    b"GET / HTTP/1.1\r\nA: b\tc": (b"GET", b"/", 1, [(b"A", b"b\tc")]),
}


@pytest.mark.parametrize("head", GOOD_REQUESTS)
def test_a_good_request_is_read(head: bytes, step: int) -> None:
    assert read(head + END + b"rest", step) == (GOOD_REQUESTS[head], b"rest")


BAD_REQUESTS = {
    b"GET /": 400,  # HTTP/0.9
    b"GET / ": 400,
    b"GET  / HTTP/1.1": 400,
    b"GET /  HTTP/1.1": 400,
    b" GET / HTTP/1.1": 400,
    b"GET / HTTP/1.1 ": 400,
    b"GET\t/ HTTP/1.1": 400,
    b"GET / a HTTP/1.1": 400,
    b"GET  HTTP/1.1": 400,
    b"G@T / HTTP/1.1": 400,
    b"G\xc3\x89T / HTTP/1.1": 400,
    b"GET /\xc3\xa9 HTTP/1.1": 400,
    b"GET /\x00 HTTP/1.1": 400,
    b"GET /\x7f HTTP/1.1": 400,
    b"GET / http/1.1": 400,
    b"GET / HTTP/1.01": 400,
    b"GET / HTTP/11": 400,
    b"GET / HTTP/1.1x": 400,
    b"GET / HTP/1.1": 400,
    b"GET / HTTP/1.2": 505,
    b"GET / HTTP/2.0": 505,
    b"PRI * HTTP/2.0": 505,
    b"GET / HTTP/0.9": 505,
    b"\r\n\r\nGET / HTTP/1.1": 400,
    b"\nGET / HTTP/1.1": 400,
    b"GET / HTTP/1.1\nHost: h": 400,
    b"GET / HTTP/1.1\rHost: h": 400,
    b"GET / HTTP/1.1\r\nHost: h\nA: b": 400,
    b"GET / HTTP/1.1\r\nHost: h\rA: b": 400,
    b"GET / HTTP/1.1\r\nHost: h\r\r\nA: b": 400,
    b"GET / HTTP/1.1\r\nHost : h": 400,
    b"GET / HTTP/1.1\r\nHost\t: h": 400,
    b"GET / HTTP/1.1\r\n Host: h": 400,
    b"GET / HTTP/1.1\r\nA: b\r\n c": 400,
    b"GET / HTTP/1.1\r\nA: b\r\n\tc: d": 400,
    b"GET / HTTP/1.1\r\nHost": 400,
    b"GET / HTTP/1.1\r\n: h": 400,
    b"GET / HTTP/1.1\r\nH\xc3\xb6st: h": 400,
    b"GET / HTTP/1.1\r\nA\x00: h": 400,
    b"GET / HTTP/1.1\r\nA(b): h": 400,
    b"GET / HTTP/1.1\r\nA: b\x00": 400,
    b"GET / HTTP/1.1\r\nA: b\x1b[0m": 400,
    b"GET / HTTP/1.1\r\nA: b\x7f": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,  # TLS
    b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1": 414,
    b"GET / HTTP/1.1" + b"\r\nA: b" * (MAX_FIELDS + 1): 431,
    b"GET / HTTP/1.1\r\nA: " + b"b" * MAX_HEAD_BYTES: 431,
}


@pytest.mark.parametrize("head", BAD_REQUESTS, ids=lambda head: repr(head[:50]))
def test_a_bad_request_is_refused(head: bytes, step: int) -> None:
    if len(head) > 10_000 and step == 1:
        step = 1000  # a quarter of a megabyte byte by byte takes seconds
    with pytest.raises(Rejected) as caught:
        read(head + END, step)

    assert caught.value.status == BAD_REQUESTS[head]


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length"])
@pytest.mark.parametrize(
    "fields", [b"\r\n%b", b"\r\nA: b\r\n%b", b"\r\n%b\r\nA: b", b"\r\nA: b\r\n%b\r\nC: d"]
)
def test_a_length_is_taken_out_of_a_head(name: bytes, fields: bytes) -> None:
    head = b"POST / HTTP/1.1" + fields % (name + b": 42")

    like, length = http1.without_length(head)

    assert length == b"42"
    assert like == head.replace(b"\r\n" + name + b": 42", b"")


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length:42",
        b"Content-Length:  42",
        b"Content-Length: 42 ",
        b"CONTENT-LENGTH: 42",
        b"Content-Length: -1",
        b"Content-Length: \xb2",
        b"Content-Length: 4 2",
        b"Content-Length: ",
        b"Content-Length: " + b"1" * 19,
        b"Content-Length: 42\nA: b",
        b"A: Content-Length: 42",
        b"Content-Length : 42",
    ],
)
def test_any_other_length_stays_in_the_head(field: bytes) -> None:
    head = b"POST / HTTP/1.1\r\n" + field + b"\r\nA: b"

    assert http1.without_length(head) == (head, None)


def test_one_of_two_lengths_stays_in_the_head() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2"

    assert http1.without_length(head) == (b"POST / HTTP/1.1\r\ncontent-length: 2", b"1")


@pytest.mark.parametrize(
    "part",
    [b"GET / HTTP/1.1\nHost: h\n\n", b"GET /\r\n", b"GET / HTTP/1.1\r\nA: b\n", b"\x16\x03\x01", b"\r\n\r\n"],
)
def test_a_request_that_cannot_become_good_is_refused_before_its_end(part: bytes, step: int) -> None:
    with pytest.raises(Rejected):
        read(part, step)


@pytest.mark.parametrize("part", [b"", b"\r", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nA: b\r\n\r"])
def test_a_part_of_a_good_head_waits_for_the_rest(part: bytes, step: int) -> None:
    reader = HeadReader()

    assert not any(reader.feed(part[at : at + step]) for at in range(0, len(part), step))
    assert reader.held == part


def test_the_largest_head_passes(step: int) -> None:
    head = b"GET / HTTP/1.1" + b"".join(b"\r\nA%d: %b" % (at, b"b" * 300) for at in range(MAX_FIELDS))
    step = max(step, 100)

    parsed, _ = read(head + END, step)

    assert parsed == parse_request(head)


def test_an_endless_head_is_refused_at_its_limit_in_linear_time() -> None:
    head = b"GET / HTTP/1.1\r\n" + (b"A: " + b"b" * 995 + b"\r\n") * 1000

    with pytest.raises(Rejected) as caught:
        read(head, 100)

    assert caught.value.status == 431


GOOD_RESPONSES = {
    b"HTTP/1.1 200 OK\r\nA: b": (200, b"OK", 1, [(b"A", b"b")]),
    b"HTTP/1.1 200 ": (200, b"", 1, []),
    b"HTTP/1.1 200": (200, b"", 1, []),
    b"HTTP/1.0 599 N\xc3\xb6t \t good": (599, b"N\xc3\xb6t \t good", 0, []),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>": (103, b"Early Hints", 1, [(b"Link", b"</a>")]),
}


@pytest.mark.parametrize("head", GOOD_RESPONSES)
def test_a_good_response_is_read(head: bytes, step: int) -> None:
    assert read(head + END + b"rest", step, of_response=True) == (GOOD_RESPONSES[head], b"rest")


@pytest.mark.parametrize(
    "head",
    [
        b"hello",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1\r\n",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\nA: b",
        b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c",
        b"HTTP/1.1 200 OK\r\nA : b",
        b"HTTP/1.1 200 OK\r\nA",
        b"HTTP/1.1 200 OK\r\nA: b\x0b",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK" + b"\r\nA: b" * (MAX_FIELDS + 1),
    ],
    ids=lambda head: repr(head[:50]),
)
def test_a_bad_response_is_a_bad_gateway(head: bytes, step: int) -> None:
    with pytest.raises(Rejected) as caught:
        read(head + END, max(step, len(head) // 500), of_response=True)

    assert caught.value.status == 502


def test_no_fields_are_no_fields() -> None:
    assert parse_fields(b"") == []


@pytest.mark.parametrize(
    "given",
    [
        b"*",
        b"",
        b"evil.example:443",
        b"http://evil.example/",
        b"https://127.0.0.1:14000/v1/models",
        b"//evil.example/",
        b"@evil.example/x",
        b".evil.example/x",
        b"9/x",
        b"?key=x",
        b"\\evil.example",
        b"/\\evil.example",
        b"/a\\..\\b",
        b"/a#b",
        b"/a?b#c",
        b"/..",
        b"/../x",
        b"/v1/..",
        b"/v1/../../x",
        b"/./x",
        b"/v1/.",
        b"/%2e%2e/x",
        b"/.%2E/x",
        b"/%2e/x",
        b"/v1/..%2fx",
        b"/v1/%2e%2e%2fx",
        b"/v1/..%5cx",
        b"/..;/x",
        b"/..;a=b/x",
        b"/%2e%2e;/x",
        b"/v1/%252e%252e/x",
        b"/v1/..%252fx",
        b"/v1/%00",
        b"/v1/%0d%0aHost:x",
        b"/v1/%7f",
        b"/v1/%250a",
        b"/v1/%",
        b"/v1/%2",
        b"/v1/%zz",
        b"/v1/%2%65",
    ],
)
def test_a_target_that_could_lead_elsewhere_is_refused(given: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        http1.parse_target(given)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    "given",
    [
        b"/",
        b"/v1/chat/completions",
        b"/v1/models/meta-llama%2FLlama-4",
        b"/v1beta/models/gemini-3:streamGenerateContent?alt=sse",
        b"/v1/files/a..b/.hidden/...",
        b"/v1//double",
        b"/v1/a;b=c",
        b"/v1/search?q=../..%2f%zz&r=%0a",
        b"/v1/a?",
        b"/v1/a?b?c=/d",
        b"/v1/%E2%82%AC",
    ],
)
def test_a_good_target_passes_unchanged(given: bytes) -> None:
    assert http1.at_gateway(b"/base", http1.parse_target(given)) == b"/base" + given


@pytest.mark.parametrize(
    ("query", "left", "keys"),
    [
        (b"key=secret", None, (b"secret",)),
        (b"a=b&key=secret&c=d", b"a=b&c=d", (b"secret",)),
        (b"key=1&key=2", None, (b"1", b"2")),
        (b"%6bey=a%2Fb", None, (b"a/b",)),
        (b"%6B%65%79=x&alt=sse", b"alt=sse", (b"x",)),
        (b"key", None, (b"",)),
        (b"apikey=x&keys=y&monkey=z", b"apikey=x&keys=y&monkey=z", ()),
    ],
)
def test_the_key_never_stays_in_the_query(query: bytes, left: bytes | None, keys: tuple[bytes, ...]) -> None:
    assert http1.parse_target(b"/p?" + query) == (b"/p", left, keys)
