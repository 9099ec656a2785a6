"""What setup learns from the gateway, and what it does with a gateway that talks nonsense."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.web import CA_FILE, Answer, Request, WebServer
from thv_llm import gateway
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.secret import Secret
from thv_llm.settings import Settings


def settings_for(url: str) -> Settings:
    return Settings(gateway_url=url, ca_file=str(CA_FILE))


def answering(body: object, status: int = 200) -> Callable[[Request], Answer]:
    return lambda request: Answer(status, body)


def test_the_models_are_the_gateways_in_its_order_and_each_once() -> None:
    listed = {"data": [{"id": "b"}, {"id": "a"}, {"id": "b"}, {"id": "bad\n"}, {"id": 7}, {"id": ""}]}
    with WebServer(answering(listed)) as server:
        found = gateway.models(settings_for(server.url), {}, Secret("t-1"))

    assert found == ("b", "a")


def test_the_token_is_sent_as_bearer() -> None:
    seen: list[str] = []

    def note(request: Request) -> Answer:
        seen.append(request.headers.get("authorization", ""))
        return Answer(200, {"data": [{"id": "m"}]})

    with WebServer(note) as server:
        gateway.models(settings_for(server.url + "/team"), {}, Secret("t-1"))

    assert seen == ["Bearer t-1"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"error": "x"}, 403, "403"),
        ("<html>", 200, "no list of models"),
        ([], 200, "no list of models"),
        ({"data": "m"}, 200, "no list of models"),
        ({"data": []}, 200, "empty"),
        ({"data": [{"id": "x" * 500}]}, 200, "empty"),
    ],
)
def test_an_answer_that_is_no_list_says_so_and_names_the_flag(body: object, status: int, said: str) -> None:
    with WebServer(answering(body, status)) as server, pytest.raises(ThvLlmError, match=said) as caught:
        gateway.models(settings_for(server.url), {}, Secret("t-1"))

    assert "--models" in caught.value.next_step
    assert "t-1" not in str(caught.value)


def test_a_gateway_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        gateway.models(settings_for("https://127.0.0.1:9"), {}, Secret("t-1"))


@pytest.mark.parametrize(("status", "path"), [(401, "/anthropic"), (404, ""), (200, ""), (302, "")])
def test_anthropics_api_is_where_a_request_without_a_token_is_refused(status: int, path: str) -> None:
    with WebServer(answering({}, status)) as server:
        assert gateway.anthropic_path(settings_for(server.url), {}) == path


def test_a_gateway_that_is_not_there_has_no_known_path() -> None:
    assert gateway.anthropic_path(settings_for("https://127.0.0.1:9"), {}) == ""
