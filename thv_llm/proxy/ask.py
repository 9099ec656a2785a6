"""One small question of ours to the gateway (its models, whether it takes our token).

It blocks, on a connection of its own, and needs no running proxy. The traffic of the tools is
`forward`'s.
"""

from __future__ import annotations

import select
import time

from thv_llm import __version__
from thv_llm.errors import UnreachableError
from thv_llm.proxy import framing, headers, target, upstream
from thv_llm.proxy.http1 import NO_FIELDS, AnswerHead, Field, Fields, HeadReader, Refused, parse_answer
from thv_llm.proxy.link import Link
from thv_llm.proxy.upstream import MAX_INTERIM, Gateway, GatewayError
from thv_llm.proxy.wire import Late
from thv_llm.secret import Secret

MAX_BYTES = 1024 * 1024
"""Of the answer's body."""


def ask(
    gateway: Gateway, method: str, path: str, token: Secret | None, timeout_s: float
) -> tuple[int, Fields, bytes]:
    """Ask the gateway, once.

    Args:
        path: as a tool would send it, query included.
        token: sent as `Authorization: Bearer`; None sends none.
        timeout_s: for everything together.

    Returns:
        The status, the headers, and the body's first megabyte.

    Raises:
        UnreachableError: the gateway gave no usable answer.
    """
    deadline = time.monotonic() + timeout_s
    link = None
    try:
        request = _request(gateway, method, path, token)
        link = gateway.connect()
        _write(link, request, deadline)
        head, rest = _await_head(link, deadline)
        body = _read_body(link, framing.of_answer(head, method.encode()), rest, deadline)
    except (GatewayError, Refused, Late, OSError) as error:
        raise UnreachableError("the gateway gave no usable answer", why=_cause(error)) from None
    finally:
        if link is not None:
            link.close()
    return head.status, head.fields, body


def _request(gateway: Gateway, method: str, path: str, token: Secret | None) -> bytes:
    place = target.at_gateway(gateway.base, target.parse(path.encode("ascii")))
    fields: list[Field] = [(b"Host", gateway.authority), (b"User-Agent", b"thv-llm/" + __version__.encode())]
    if token is not None:
        fields += headers.to_gateway(NO_FIELDS, token.reveal().encode())
    fields += [(b"Accept", b"application/json"), (b"Connection", b"close")]
    return headers.write(b"%b %b HTTP/1.1" % (method.encode(), place), fields)


def _cause(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return error.why
    if isinstance(error, Refused):
        return error.reason
    return upstream.why(error) if isinstance(error, OSError) else "no answer within the time limit"


def _await_head(link: Link, deadline: float) -> tuple[AnswerHead, bytes]:
    data = b""
    for _ in range(MAX_INTERIM):
        reader = HeadReader(of_answer=True)
        while not reader.feed(data or _read(link, deadline)):
            data = b""
        head, data = parse_answer(reader.head), reader.rest
        if head.status >= 200:
            return head, data
    raise Refused(502, "too many interim answers")


def _write(link: Link, data: bytes, deadline: float) -> None:
    for _ in link.write_all(data, deadline):
        link.wait(select.POLLOUT, deadline)


def _read(link: Link, deadline: float) -> bytes:
    while True:
        data = link.read()
        if data:
            return data
        if data is not None:
            raise GatewayError("it closed the connection")
        link.wait(select.POLLIN, deadline)


def _read_body(link: Link, decoder: framing.Decoder, data: bytes, deadline: float) -> bytes:
    body = decoder.feed(data) if data else b""
    while not decoder.done and len(body) < MAX_BYTES:
        link.wait(select.POLLIN, deadline)
        read = link.read()
        if read:
            body += decoder.feed(read)
        elif read is not None:
            decoder.end()
    return body[:MAX_BYTES]
