"""Where bodies end: lengths, chunks, trailers, and what could be read in two ways."""

from __future__ import annotations

import pytest

from thv_llm.proxy import framing
from thv_llm.proxy.framing import ChunkedBody, CloseDelimitedBody, ContentLengthBody, Decoder, chunk
from thv_llm.proxy.http1 import Field, Fields, Rejected, RequestHead, ResponseHead

MANY = 1 << 30


@pytest.fixture(params=[1, 3, 1 << 20], ids=["byte by byte", "in threes", "at once"])
def step(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


def feed(decoder: Decoder, data: bytes, step: int) -> bytes:
    """Feed until the body is whole; what is left over goes to the decoder's `rest`."""
    out = b""
    for at in range(0, len(data), step):
        out += decoder.feed(data[at : at + step])
        if decoder.done:
            decoder.rest += data[at + step :]
            break
    return out


GOOD_CHUNKS = {
    b"0\r\n\r\n": b"",
    b"5\r\nhello\r\n0\r\n\r\n": b"hello",
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n": b"hello world",
    b"00005\r\nhello\r\n000\r\n\r\n": b"hello",
    b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n": b"0123456789" * 2,
    b"5;ext\r\nhello\r\n0;last=1\r\n\r\n": b"hello",
    b'5 ; a="b;c"\r\nhello\r\n0\r\n\r\n': b"hello",
    b"2\r\n\r\n\r\n0\r\n\r\n": b"\r\n",
}


@pytest.mark.parametrize("coded", GOOD_CHUNKS)
def test_chunks_are_taken_apart(coded: bytes, step: int) -> None:
    decoder = ChunkedBody()

    assert feed(decoder, coded + b"next", step) == GOOD_CHUNKS[coded]
    assert decoder.done
    assert decoder.rest == b"next"
    decoder.end()


def test_a_chunk_that_comes_alone_is_known_as_it_will_be_written() -> None:
    for size in (1, 15, 16, 255, 5000):
        coded = chunk(b"x" * size)
        decoder = ChunkedBody(of_response=True)
        for _ in range(2):
            assert decoder.only_chunk(coded) == size
            assert decoder.feed(coded) == b"x" * size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n5\r\nhello\r\n",
        b"4\r\nhello\r\n",
        b"6\r\nhello\r\n",
        b"05\r\nhello\r\n",
        b"A\r\n0123456789\r\n",
        b"5 \r\nhello\r\n",
        b"5;x=y\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"5\nhello\r\n",
    ],
)
def test_anything_else_has_to_be_taken_apart(data: bytes) -> None:
    assert ChunkedBody(of_response=True).only_chunk(data) == 0


@pytest.mark.parametrize(
    "before", [b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r", b"1", b"0\r\n", b"0\r\nA: b"]
)
def test_a_chunk_inside_of_something_else_is_none(before: bytes) -> None:
    decoder = ChunkedBody(of_response=True)
    decoder.feed(before)

    assert decoder.only_chunk(b"5\r\nhello\r\n") == 0


def test_trailers_are_kept(step: int) -> None:
    decoder = ChunkedBody()

    feed(decoder, b"1\r\nx\r\n0\r\nA: b\r\nC:  d \r\n\r\n", step)

    assert decoder.done
    assert decoder.trailers == [(b"A", b"b"), (b"C", b"d")]


@pytest.mark.parametrize(
    "coded",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b"1_0\r\n",
        b" 1\r\nx\r\n",
        b"1 \r\nx\r\n",
        b"1\nx\n",
        b"1\rx",
        b"1;a\nb\r\nx\r\n",
        b"1;a\x00\r\nx\r\n",
        b"1;a\rb\r\nx\r\n",
        b"1\r\nxy\r\n",
        b"1\r\nx\n",
        b"1\r\nx0\r\n",
        b"1000000000000000\r\n",
        b"1" + b"0" * 5000 + b"\r\n",
        b"1;" + b"a" * 5000 + b"\r\nx",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"\xd9\xa1\r\nx\r\n",  # an Arabic 1
    ],
    ids=lambda coded: repr(coded[:30]),
)
def test_malformed_chunks_are_refused(coded: bytes, step: int) -> None:
    with pytest.raises(Rejected) as caught:
        feed(ChunkedBody(), coded, max(step, len(coded) // 200))

    assert caught.value.status == 400


@pytest.mark.parametrize(
    "coded", [b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nA: b\r\n"]
)
def test_a_cut_chunked_body_is_not_whole(coded: bytes, step: int) -> None:
    decoder = ChunkedBody()
    feed(decoder, coded, step)

    with pytest.raises(Rejected):
        decoder.end()


def test_a_counted_body_ends_at_its_length(step: int) -> None:
    decoder = ContentLengthBody(5)

    assert feed(decoder, b"hellonext", step) == b"hello"
    assert decoder.rest == b"next"
    decoder.end()


def test_a_cut_counted_body_is_not_whole() -> None:
    decoder = ContentLengthBody(5)
    decoder.feed(b"hell")

    with pytest.raises(Rejected):
        decoder.end()


def test_no_body_is_whole_at_once() -> None:
    assert ContentLengthBody(0).done


def test_a_body_until_the_end_takes_everything() -> None:
    decoder = CloseDelimitedBody()

    assert decoder.feed(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert not decoder.done
    decoder.end()
    assert decoder.done


def test_a_chunk_is_written_as_it_is_read(step: int) -> None:
    assert feed(ChunkedBody(), chunk(b"x" * 300) + chunk(b"") + framing.LAST_CHUNK, step) == b"x" * 300


def request(*fields: tuple[bytes, bytes], minor: int = 1) -> RequestHead:
    return RequestHead(b"POST", b"/", minor, Fields(fields))


def response(*fields: tuple[bytes, bytes], status: int = 200, minor: int = 1) -> ResponseHead:
    return ResponseHead(status, b"", minor, Fields(fields))


LENGTH = b"Content-Length"
CODING = b"Transfer-Encoding"
TWO_WAYS: list[list[Field]] = [
    [(LENGTH, b"5"), (CODING, b"chunked")],
    [(LENGTH, b"5"), (LENGTH, b"5")],
    [(LENGTH, b"5"), (b"content-length", b"6")],
    *[
        [(LENGTH, value)]
        for value in (b"", b"+4", b"-4", b"4_0", b"0x4", b"4,4", b"4 4", b"4.0", b"9" * 20, b"\xb2")
    ],
    *[
        [(CODING, value)]
        for value in (
            b"",
            b"gzip",
            b"gzip, chunked",
            b"chunked, chunked",
            b"xchunked",
            b"identity",
            b'"chunked"',
        )
    ],
    [(CODING, b"chunked"), (CODING, b"chunked")],
    [(CODING, b"chunked"), (CODING, b"identity")],
]


@pytest.mark.parametrize("fields", TWO_WAYS, ids=repr)
def test_what_could_be_read_in_two_ways_is_refused(fields: list[Field]) -> None:
    with pytest.raises(Rejected) as from_tool:
        framing.of_request(request(*fields), MANY)
    with pytest.raises(Rejected) as from_gateway:
        framing.of_response(response(*fields), b"GET")

    assert (from_tool.value.status, from_gateway.value.status) == (400, 502)


def test_a_coding_in_http_1_0_is_refused() -> None:
    with pytest.raises(Rejected):
        framing.of_request(request((CODING, b"chunked"), minor=0), MANY)
    with pytest.raises(Rejected):
        framing.of_response(response((CODING, b"chunked"), minor=0), b"GET")


def test_a_length_over_the_limit_is_too_large() -> None:
    with pytest.raises(Rejected) as caught:
        framing.of_request(request((LENGTH, b"10737418240")), MANY)

    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("head", "method", "kind"),
    [
        (response(), b"GET", CloseDelimitedBody),
        (response((LENGTH, b"5")), b"GET", ContentLengthBody),
        (response((CODING, b"Chunked")), b"GET", ChunkedBody),
    ],
)
def test_responses_are_delimited_as_they_say(head: ResponseHead, method: bytes, kind: type) -> None:
    assert isinstance(framing.of_response(head, method), kind)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (response((LENGTH, b"5")), b"HEAD"),
        (response((CODING, b"chunked")), b"HEAD"),
        (response((LENGTH, b"5"), status=204), b"GET"),
        (response((LENGTH, b"5"), status=304), b"GET"),
    ],
)
def test_some_responses_have_no_body_whatever_they_say(head: ResponseHead, method: bytes) -> None:
    assert framing.of_response(head, method).done


def test_requests_without_a_length_have_no_body() -> None:
    assert framing.of_request(request(), MANY).done
