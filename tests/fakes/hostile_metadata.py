"""What a hostile or broken gateway publishes of how to log in: each attack, and what is said of it.

    attack.plant(gateway, issuer)     # from now on, the gateway publishes that
    # ... setup refuses, and says attack.said

Issuers are on loopback, like everything in the tests; the gateway is there, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.gateway import METADATA_PATH, FakeGateway
from tests.fakes.web import ServerResponse

Document = dict[str, Any]
CLIENT = {"com.stacklok.thv-llm.client_id": "thv-llm"}


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        plant: has the gateway publish it, given the gateway and the URL of an honest issuer.
        said: a part of the reason.
        is_about_us: the document is about this gateway, so that nothing else is tried.
    """

    name: str
    plant: Callable[[FakeGateway, str], None]
    said: str
    is_about_us: bool = True


def members(**changes: object) -> Callable[[FakeGateway, str], None]:
    """Publish an honest document with these members changed; None takes one out."""

    def plant(gateway: FakeGateway, issuer: str) -> None:
        honest: Document = {"resource": gateway.url, "authorization_servers": [issuer], **CLIENT}
        found = {**honest, **{name.replace("__", "."): value for name, value in changes.items()}}
        gateway.publish({name: value for name, value in found.items() if value is not None})

    return plant


def profile(**changes: object) -> Callable[[FakeGateway, str], None]:
    """Publish an honest document with these members of our profile."""
    return members(**{f"com__stacklok__thv-llm__{name}": value for name, value in changes.items()})


def issuers(*urls: str) -> Callable[[FakeGateway, str], None]:
    """Publish an honest document, but for the issuers."""
    return members(authorization_servers=list(urls))


def scopes(*names: str) -> Callable[[FakeGateway, str], None]:
    """Publish an honest document, but for the scopes."""
    return members(scopes_supported=list(names))


def response(make: Callable[[FakeGateway, str], ServerResponse]) -> Callable[[FakeGateway, str], None]:
    """Respond with something else than a document."""

    def plant(gateway: FakeGateway, issuer: str) -> None:
        gateway.published[METADATA_PATH] = make(gateway, issuer)

    return plant


def _text(gateway: FakeGateway, issuer: str, more: str) -> bytes:
    return f'{{"resource": "{gateway.url}", "authorization_servers": ["{issuer}"], {more}}}'.encode()


def _deep(levels: int) -> object:
    return [_deep(levels - 1)] if levels else "x"


def _challenge(url: str) -> Callable[[FakeGateway, str], None]:
    def plant(gateway: FakeGateway, _issuer: str) -> None:
        gateway.challenge = f'Bearer realm="x", resource_metadata="{url}"'

    return plant


EVIL = "https://id.evil.example"
ATTACKS = (
    Attack("an issuer over http", issuers("http://id.example.com"), "an https URL"),
    Attack("an issuer at an IP address", issuers("https://10.1.2.3"), "an IP address"),
    Attack("an issuer at a number", issuers("https://167772161"), "an IP address"),
    Attack("an issuer at an IPv6 address", issuers("https://[fd00::1]"), "an IP add"),
    Attack(
        "an issuer with user info",
        issuers("https://id.example.com@evil.example"),
        "without user info",
    ),
    Attack("an issuer for a shell", issuers("https://e.example/$(id)"), "characters"),
    Attack("one bad issuer among good ones", issuers(EVIL, "http://e.example"), "http"),
    Attack("no issuer", members(authorization_servers=None), "no authorization_servers"),
    Attack("an issuer that is no list", members(authorization_servers=EVIL), "not a list of strings"),
    Attack("Graph's scope", scopes("openid", "User.Read"), "'User.Read'"),
    Attack("Graph's scope as a URL", scopes("https://graph.microsoft.com/.default"), "graph"),
    Attack(
        "Graph by its number",
        scopes("00000003-0000-0000-c000-000000000000/.default"),
        "valid elsewhere",
    ),
    Attack("Okta's own API", scopes("okta.users.manage"), "'okta.users.manage'"),
    Attack("a scope for administrators", scopes("openid", "realm:admin"), "'realm:admin'"),
    Attack("another API's audience", profile(audience="https://api.bank.example"), "api.bank.example"),
    Attack("another API's audience, bare", profile(audience="graph.microsoft.com"), "graph.microsoft.com"),
    Attack("another API's resource", profile(resource="https://api.bank.example/v1"), "api.bank.example"),
    Attack("tokens of another kind", profile(token="refresh_token"), "com.stacklok.thv-llm.token"),
    Attack("a privileged port", profile(callback_port=80), "a port from 1024"),
    Attack("another host for the redirect", profile(redirect_host="evil.example"), "redirect_host"),
    Attack("a path that leaves the gateway", profile(paths={"openai": "/../x"}), "paths.openai"),
    Attack("control bytes in a name", profile(client_id="a\x1b[2Jb"), "printable ASCII"),
    Attack("letters that only look right", profile(client_id="thv-llm\u0430"), "printable ASCII"),
    Attack("a long name", profile(client_id="a" * 1025), "printable ASCII"),
    Attack("many scopes", members(scopes_supported=[f"s{n}" for n in range(101)]), "more than 100"),
    Attack("tokens that we do not have", members(dpop_bound_access_tokens_required=True), "DPoP"),
    Attack(
        "tokens of a certificate",
        members(tls_client_certificate_bound_access_tokens=True),
        "a client's certificate",
    ),
    Attack("tokens in the body", members(bearer_methods_supported=["body"]), "in the header Authorization"),
    Attack(
        "another gateway's document", members(resource="https://llm.other.example"), "other.example", False
    ),
    Attack("no resource", members(resource=""), "it names no resource", False),
    Attack(
        "a resource that only begins like ours",
        response(lambda gateway, issuer: ServerResponse(body={"resource": gateway.url + ".evil.example"})),
        "evil.example",
        False,
    ),
    Attack(
        "a redirect",
        response(lambda gateway, _: ServerResponse(302, headers={"Location": f"{EVIL}/metadata"})),
        "redirects to 'id.evil.example'",
        False,
    ),
    Attack(
        "a member twice",
        response(lambda gateway, issuer: ServerResponse(body=_text(gateway, issuer, '"resource": "x"'))),
        "names the member 'resource' twice",
        False,
    ),
    Attack(
        "a huge document",
        response(
            lambda gateway, issuer: ServerResponse(body=_text(gateway, issuer, f'"x": "{"a" * (64 << 10)}"'))
        ),
        "larger than 64 KiB",
        False,
    ),
    Attack(
        "a deep document",
        response(
            lambda gateway, issuer: ServerResponse(
                body=_text(gateway, issuer, f'"x": {json.dumps(_deep(9))}')
            )
        ),
        "nested too deeply",
        False,
    ),
    Attack(
        "a document of many members",
        members(**{f"member-{number}": number for number in range(300)}),
        "too many members",
        False,
    ),
    Attack(
        "a web page",
        response(lambda gateway, _: ServerResponse(body="<h1>Welcome</h1>")),
        "'text/html'",
        False,
    ),
    Attack("a challenge to another host", _challenge(f"{EVIL}/metadata"), "elsewhere: 'https://id.", False),
    Attack("a challenge to http", _challenge("http://127.0.0.1/metadata"), "is elsewhere", False),
)
"""Every row of the threat table that one document can be."""
