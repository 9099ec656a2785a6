"""What setup learns from the gateway, and what it does with a gateway that talks nonsense."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.web import CA_FILE, Request, ServerResponse, WebServer
from thv_llm import gateway
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.gateway import Presence
from thv_llm.net.http_client import Response, response_with
from thv_llm.secret import Secret
from thv_llm.settings import Settings


def settings_for(url: str) -> Settings:
    return Settings(gateway_url=url, ca_file=str(CA_FILE))


def responding(body: object, status: int = 200) -> Callable[[Request], ServerResponse]:
    return lambda request: ServerResponse(status, body)


def test_the_models_are_the_gateways_in_its_order_and_each_once() -> None:
    listed = {"data": [{"id": "b"}, {"id": "a"}, {"id": "b"}, {"id": "bad\n"}, {"id": 7}, {"id": ""}]}
    with WebServer(responding(listed)) as server:
        found = gateway.models(settings_for(server.url), {}, Secret("t-1"))

    assert found == ("b", "a")


def test_the_token_is_sent_as_bearer() -> None:
    seen: list[str] = []

    def note(request: Request) -> ServerResponse:
        seen.append(request.headers.get("authorization", ""))
        return ServerResponse(200, {"data": [{"id": "m"}]})

    with WebServer(note) as server:
        gateway.models(settings_for(server.url + "/team"), {}, Secret("t-1"))

    assert seen == ["Bearer t-1"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"error": "x"}, 403, "403"),
        ("<html>", 200, "not a list of models"),
        ([], 200, "not a list of models"),
        ({"data": "m"}, 200, "not a list of models"),
        ({"data": []}, 200, "empty"),
        ({"data": [{"id": "x" * 500}]}, 200, "empty"),
    ],
)
def test_a_response_that_is_no_list_says_so_and_names_the_flag(body: object, status: int, said: str) -> None:
    with WebServer(responding(body, status)) as server, pytest.raises(ThvLlmError, match=said) as caught:
        gateway.models(settings_for(server.url), {}, Secret("t-1"))

    assert "--models" in caught.value.next_step
    assert "t-1" not in str(caught.value)


def test_a_gateway_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        gateway.models(settings_for("https://127.0.0.1:9"), {}, Secret("t-1"))


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (response_with("g", 200, JSON, b"{}"), Presence.PRESENT),
        (response_with("g", 400, JSON, b'{"error": "x"}'), Presence.PRESENT),
        (response_with("g", 422, JSON, b"{}"), Presence.PRESENT),
        (response_with("g", 501, JSON, b"{}"), Presence.PRESENT),
        (response_with("g", 404, JSON, b"{}"), Presence.ABSENT),
        (response_with("g", 405, JSON, b""), Presence.ABSENT),
        (response_with("g", 302, {"location": "/login"}, b""), Presence.ABSENT),
        (response_with("g", 200, {"content-type": "text/html"}, b"<html>"), Presence.ABSENT),
        (response_with("g", 401, JSON, b"{}"), Presence.UNKNOWN),
        (response_with("g", 403, JSON, b"{}"), Presence.UNKNOWN),
        (response_with("g", 429, JSON, b"{}"), Presence.UNKNOWN),
        (response_with("g", 500, JSON, b"{}"), Presence.UNKNOWN),
        (response_with("g", 200, {"content-type": "text/plain"}, b"hello"), Presence.UNKNOWN),
    ],
)
def test_a_route_is_there_when_it_returns_json(response: Response, says: Presence) -> None:
    assert gateway.presence(response) is says


def serving(*paths: str) -> Callable[[Request], ServerResponse]:
    """Return a gateway that has these paths, and checks the token before it routes."""

    def respond(request: Request) -> ServerResponse:
        if request.headers.get("authorization") != "Bearer t-1":
            return ServerResponse(401, {"error": "no token"})
        return (
            ServerResponse(400, {"error": "no model"})
            if request.path in paths
            else ServerResponse(404, {"error": "x"})
        )

    return respond


ANTHROPIC, OPENAI, GEMINI = "anthropic_path_prefix", "openai_path_prefix", "gemini_path_prefix"


@pytest.mark.parametrize(
    ("base", "paths", "found"),
    [
        ("", ("/v1/messages", "/v1/chat/completions"), {ANTHROPIC: "", OPENAI: ""}),
        ("", ("/anthropic/v1/messages", "/v1/messages"), {ANTHROPIC: "/anthropic"}),
        ("/v1", ("/v1/chat/completions",), {OPENAI: ""}),
        (
            "/ai",
            ("/ai/anthropic/v1/messages", "/ai/openai/v1/chat/completions", "/ai/genai/v1beta/models"),
            {ANTHROPIC: "/anthropic", OPENAI: "/openai", GEMINI: "/genai"},
        ),
        ("/anthropic", ("/anthropic/v1/messages", "/anthropic/anthropic/v1/messages"), {ANTHROPIC: ""}),
        ("", (), {}),
    ],
)
def test_each_api_is_found_with_a_token_in_hand(base: str, paths: tuple[str, ...], found: object) -> None:
    with WebServer(serving(*paths)) as server:
        routes = gateway.find_routes(settings_for(server.url + base), {}, Secret("t-1"))
        nowhere = gateway.find_routes(settings_for(server.url), {}, Secret("wrong")).absent

    assert routes.prefixes == found
    served = {"messages": ANTHROPIC, "completions": OPENAI, "models": GEMINI}
    there = {served[path.rpartition("/")[2]] for path in paths}
    assert {protocol.field for protocol in routes.absent} == {ANTHROPIC, OPENAI, GEMINI} - there
    assert nowhere == (), "one that refuses the token tells of no path"


def test_what_is_saved_stays_unless_the_gateway_has_no_such_path() -> None:
    with WebServer(serving("/v1/messages", "/v1/chat/completions")) as server:
        kept = settings_for(server.url)._replace(openai_path_prefix="")
        gone = kept._replace(anthropic_path_prefix="/anthropic")

        assert gateway.find_routes(kept, {}, Secret("t-1")).prefixes == {ANTHROPIC: ""}
        assert gateway.find_routes(gone, {}, Secret("t-1")).prefixes == {ANTHROPIC: ""}
        assert gateway.find_routes(gone, {}, Secret("t-1"), given=(ANTHROPIC,)).prefixes == {}
        assert gateway.find_routes(gone, {}, Secret("wrong")).prefixes == {}


def test_a_gateway_that_is_not_there_tells_no_path() -> None:
    assert gateway.find_routes(settings_for("https://127.0.0.1:9"), {}, Secret("t-1")) == ({}, ())


def test_the_models_are_asked_for_where_the_settings_say() -> None:
    listed = {"data": [{"id": "m"}]}
    with WebServer(
        lambda request: (
            ServerResponse(200, listed) if request.path == "/openai/v1/models" else ServerResponse(404)
        )
    ) as web:
        below = settings_for(web.url)._replace(openai_path_prefix="/openai")
        named = settings_for(web.url)._replace(models_path="/openai/v1/models")

        assert gateway.models(below, {}, Secret("t-1")) == ("m",)
        assert gateway.models(named, {}, Secret("t-1")) == ("m",)
