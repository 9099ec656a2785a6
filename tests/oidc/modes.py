"""The words in which a provider's misbehaviors are written down (`modes_*`).

`takes` means that the login (or refresh) works all the same, `refuses` that it fails with a
text that names what was wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse

Install = Callable[[FakeProvider], None]
Json = dict[str, Any]


@dataclass(frozen=True)
class Mode:
    """One misbehavior.

    Attributes:
        says: a piece of the error's text; "" when the provider is taken as it is.
    """

    name: str
    install: Install
    says: str = ""


def takes(name: str, install: Install) -> Mode:
    return Mode(name, install)


def refuses(name: str, install: Install, says: str) -> Mode:
    return Mode(name, install, says)


def nothing(provider: FakeProvider) -> None:
    """Behave."""


def returns(endpoint: str, *args: Any, **options: Any) -> Install:
    """Give this response instead of the right one."""

    def install(provider: FakeProvider) -> None:
        provider.alter[endpoint] = lambda _: ServerResponse(*args, **options)

    return install


def member(endpoint: str, name: str, value: Any = None) -> Install:
    """Change one member of an endpoint's JSON; None takes it out. `{}` stands for the issuer."""

    def install(provider: FakeProvider) -> None:
        def alter(response: ServerResponse) -> ServerResponse:
            response.body.pop(name, None)
            if value is not None:
                response.body[name] = (
                    value.replace("{}", provider.issuer) if isinstance(value, str) else value
                )
            return response

        provider.alter[endpoint] = alter

    return install


def rewritten(endpoint: str, change: Callable[[bytes], bytes]) -> Install:
    """Change the bytes of an endpoint's JSON."""

    def install(provider: FakeProvider) -> None:
        def alter(response: ServerResponse) -> ServerResponse:
            response.body = change(json.dumps(response.body).encode())
            return response

        provider.alter[endpoint] = alter

    return install


def dripping(endpoint: str) -> Install:
    """Send the right response, a byte now and then."""

    def install(provider: FakeProvider) -> None:
        def alter(response: ServerResponse) -> ServerResponse:
            response.drip_s = 0.05
            return response

        provider.alter[endpoint] = alter

    return install


def cut(endpoint: str) -> Install:
    """Break off in the middle of the response."""

    def install(provider: FakeProvider) -> None:
        def alter(response: ServerResponse) -> ServerResponse:
            body = json.dumps(response.body).encode()
            response.raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-20]
            return response

        provider.alter[endpoint] = alter

    return install


HTML = "<!doctype html><title>Welcome to the airport</title>"
DEEP = b"[" * 100_000
HUGE = b'{"x": "' + b"a" * (2 << 20) + b'"}'
TWICE = b', "issuer": "https://evil.example", "access_token": "evil"}'


def twice(data: bytes) -> bytes:
    return data[:-1] + TWICE
