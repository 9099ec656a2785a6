"""Four real tools through the proxy, while the gateway refuses, asks for patience and breaks off.

OpenCode and Gemini CLI are wired by setup. Claude Code and Codex, which setup lets ask for tokens
themselves, are sent through the proxy by what `thv-llm env` prints. What reaches them is read off
the wire; what they do then is their own, and stands here as it was seen.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.e2e.island.wire import SeenResponse, Wire
from tests.e2e.machine import Done, Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, CHAT, prompt
from tests.fakes.gateway import Fault, Received

pytestmark = pytest.mark.root
"""A network of its own."""

PATHS = {
    "claude-code": "/v1/messages",
    "codex": "/v1/responses",
    "opencode": CHAT,
    "gemini-cli": prompt("gemini-cli").route,
}
GAP_S = 0.3
RETRY_AFTER_S = 3
"""More than these tools would wait by themselves; but Gemini CLI does not look, and waits 3.5 to 6.5 s."""
PATIENCE_S = 15.0
"""How much later than told a tool can come, on a busy machine."""
MOST_TRIES_ON_401 = {"claude-code": 1, "codex": 6, "opencode": 2, "gemini-cli": 1}
"""Codex does not believe it before the sixth; OpenCode has two questions."""
EVENTS_BEFORE_THE_CUT = 3
ALL_HERE_S = 60.0
BY_VARIABLES = ("sh", "-c", 'eval "$(thv-llm env)" && exec "$@"', "sh")
"""The start of a command line whose program gets our variables, as a user types it."""


@pytest.fixture
def machine(new_machine: NewMachine) -> Machine:
    machine = new_machine("claude", "codex", "opencode", "gemini")
    machine.setup("--client", "opencode", "--client", "gemini-cli")
    machine.gateway.requests.clear()
    return machine


def prompt_all(machine: Machine) -> tuple[dict[str, Done], dict[str, list[SeenResponse]]]:
    """Prompt by all four tools at once; return how they ended, and the responses that reached each."""
    provider = f'{{name="proxy",base_url="http://127.0.0.1:{machine.port}/v1",env_key="OPENAI_API_KEY"}}'
    options = ("-c", 'model_provider="proxy"', "-c", f"model_providers.proxy={provider}")

    def ask(tool: str) -> Done:
        one = prompt(tool)
        words = (*one.ask[:2], *options, *one.ask[2:]) if tool == "codex" else one.ask
        by_variables = BY_VARIABLES if tool in ("claude-code", "codex") else ()
        return machine.run(*by_variables, *words, env=one.env)

    with Wire() as wire, ThreadPoolExecutor(len(PATHS)) as pool:
        ended = dict(zip(PATHS, pool.map(ask, PATHS), strict=True))
    responses = wire.responses(machine.port)
    told = {tool: [one for one in responses if bare(one.path) == path] for tool, path in PATHS.items()}
    return ended, told


def bare(path: str) -> str:
    return urlsplit(path).path.removeprefix("/anthropic")


def questions(machine: Machine, tool: str) -> list[list[Received]]:
    """Return what a tool asked the gateway, try by try; the longest question last.

    OpenCode has two: it requests a title beside the response, and can end before that has come.
    """
    found: dict[str, list[Received]] = {}
    for request in machine.gateway.requests:
        if bare(request.path) == PATHS[tool]:
            found.setdefault(question(request), []).append(request)
    return [found[one] for one in sorted(found, key=len)]


def question(request: Received) -> str:
    """Return what a try and the next one have in common; Codex shuffles the members."""
    return bare(request.path) + json.dumps(json.loads(request.body), sort_keys=True)


def at_first(fault: Fault) -> Callable[[Received], Fault | None]:
    """Have the first try of each question go wrong."""
    asked: set[str] = set()

    def of(received: Received) -> Fault | None:
        is_new = question(received) not in asked
        asked.add(question(received))
        return fault if is_new else None

    return of


def printed(done: Done) -> bool:
    """Whether a tool showed the whole response."""
    return ANSWER in " ".join(done.out.split())


def test_every_event_arrives_when_it_is_sent(machine: Machine) -> None:
    machine.gateway.gap_s = GAP_S

    ended, told = prompt_all(machine)

    for tool in PATHS:
        assert printed(ended[tool]), ended[tool].said
        words = ANSWER.encode().split()
        complete = [response for response in told[tool] if words[-1] in response.body]
        assert complete
        for response in complete:
            times = [response.when(word) for word in words]
            assert min(later - earlier for earlier, later in itertools.pairwise(times)) > GAP_S / 2


def test_a_refused_token_costs_one_more_request_and_no_tool_hears_of_it(
    machine: Machine, provider: NpmProvider
) -> None:
    refused = f"Bearer {machine.token()}"
    refreshes = provider.seen()["refreshes"]
    come: set[str] = set()
    all_here = threading.Event()

    def fault(received: Received) -> Fault | None:
        if received.header("authorization") != refused:
            return None
        come.add(bare(received.path))
        if come == set(PATHS.values()):
            all_here.set()
        assert all_here.wait(ALL_HERE_S), come
        return Fault(401)

    machine.gateway.fault = fault

    ended, told = prompt_all(machine)

    for tool in PATHS:
        assert printed(ended[tool]), ended[tool].said
        assert {response.status for response in told[tool]} == {200}
        again = [tries for tries in questions(machine, tool) if tries[0].header("authorization") == refused]
        assert again
        for _, second in again:
            assert second.header("authorization") != refused
    assert len({request.header("authorization") for request in machine.gateway.requests}) == 2
    assert provider.seen()["refreshes"] == refreshes + 1


def test_a_tool_that_gets_retry_after_waits_that_long_and_tries_once_more(machine: Machine) -> None:
    machine.gateway.fault = at_first(Fault(429, {"Retry-After": str(RETRY_AFTER_S)}))

    ended, told = prompt_all(machine)

    for tool in PATHS:
        assert printed(ended[tool]), ended[tool].said
        refusals = [response for response in told[tool] if response.status == 429]
        assert refusals
        assert all(response.headers.get_all("Retry-After") == [str(RETRY_AFTER_S)] for response in refusals)
        first, second = questions(machine, tool)[-1]
        assert RETRY_AFTER_S <= second.at - first.at < RETRY_AFTER_S + PATIENCE_S, tool


def test_a_stream_that_is_cut_is_no_response(machine: Machine) -> None:
    machine.gateway.fault = at_first(Fault(events=EVENTS_BEFORE_THE_CUT))

    ended, told = prompt_all(machine)

    for tool in PATHS:
        cut = [response for response in told[tool] if ANSWER.encode().split()[-1] not in response.body]
        assert cut
        assert not any(response.is_whole for response in cut)
        is_patient = tool != "gemini-cli"
        assert len(questions(machine, tool)[-1]) == (2 if is_patient else 1)
        assert printed(ended[tool]) == is_patient, ended[tool].said
        assert ended[tool].code == (0 if is_patient else 1)


def test_without_a_session_each_tool_says_what_to_run(machine: Machine) -> None:
    machine.thv("logout")

    ended, told = prompt_all(machine)

    assert machine.gateway.requests == []
    for tool in PATHS:
        assert ended[tool].code == 1
        assert "thv-llm login" in ended[tool].said
        assert {response.status for response in told[tool]} == {401}
        assert len(told[tool]) <= MOST_TRIES_ON_401[tool]
