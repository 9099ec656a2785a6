"""A gateway that is its own authorization server, as Claude apps gateways are.

    with apps_gateway() as (gateway, server):
        # gateway.url alone is enough for setup; server remembers the requests of its logins

Plain OAuth (RFC 8414, RFC 8628): a login by code, no ID token, opaque access tokens, a refresh token that
rotates. A dead session is `401 invalid_grant`, not the 400 of RFC 6749. It serves Anthropic's API alone, at
the root.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fakes import completions
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.fakes.web import Request, ServerResponse

METADATA_PATH = "/.well-known/oauth-authorization-server"
ENDPOINTS = {
    "device_authorization_endpoint": ("/oauth/device_authorization", "/device_authorization"),
    "token_endpoint": ("/oauth/token", "/token"),
    "authorization_endpoint": ("/oauth/authorize", "/authorize"),
}
"""By member of the metadata, the path at the gateway, and that of the fake that does the work."""


@contextlib.contextmanager
def apps_gateway(*, has_browser_login: bool = False) -> Iterator[tuple[FakeGateway, FakeProvider]]:
    """Run one while the context lasts.

    Args:
        has_browser_login: it also has an authorization endpoint.
    """
    with FakeProvider(opaque=True) as server, FakeGateway(server.verify_access_token) as gateway:
        server.issuer = gateway.url
        gateway.anthropic_paths = ("",)
        gateway.openai_paths = gateway.gemini_paths = ()
        gateway.published["/v1/models"] = _models(gateway)
        metadata: dict[str, object] = {"issuer": gateway.url}
        for member, (path, inner) in ENDPOINTS.items():
            if member != "authorization_endpoint" or has_browser_login:
                metadata[member] = gateway.url + path
                gateway.published[path] = _forwarded(server, inner)
        gateway.published["/device"] = _forwarded(server, "/device")
        gateway.published[METADATA_PATH] = ServerResponse(body=metadata)
        server.alter["refresh"] = _unauthorized
        yield gateway, server


def _forwarded(server: FakeProvider, path: str) -> Callable[[Request], ServerResponse]:
    def respond(request: Request) -> ServerResponse:
        return server.respond(replace(request, path=path))

    return respond


def _models(gateway: FakeGateway) -> Callable[[Request], ServerResponse]:
    def respond(request: Request) -> ServerResponse:
        if gateway.admits(request.headers.get("authorization", "")):
            return ServerResponse(body=completions.models(gateway.models))
        error = {"type": "authentication_error", "message": "log in again"}
        return ServerResponse(401, {"type": "error", "error": error}, {"WWW-Authenticate": "Bearer"})

    return respond


def _unauthorized(response: ServerResponse) -> ServerResponse:
    return replace(response, status=401) if response.status == 400 else response
