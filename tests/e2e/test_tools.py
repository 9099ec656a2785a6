"""Every tool that can be had: one prompt through what setup wrote, and the tool as it was after teardown."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.machine import TIMEOUT_S, Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import ANSWER, PROMPTS, SILENT, SLOW, Prompt, ask
from tests.fakes.gateway import FakeGateway

MARKS = (b"thv-", b"/toolhive/")
"""Of what setup writes, a local key and a path of ours."""


def ours(machine: Machine, names: set[str]) -> list[str]:
    """Return which of these files have something of ours in them."""
    paths = [machine.home / name for name in names]
    return [
        str(path) for path in paths if path.is_file() and any(mark in path.read_bytes() for mark in MARKS)
    ]


IS_RELEASE = "THV_LLM_E2E_TOOLS" in os.environ
ALL = (*PROMPTS, *SLOW) if IS_RELEASE else PROMPTS
GIVES_UP_S = 100.0
"""For a tool without a gateway; some try for longer without a word."""


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_a_real_tool_works_through_setup_and_is_as_before_after_teardown(
    new_machine: NewMachine, one: Prompt
) -> None:
    machine = new_machine(one.program, keyring=True)
    started = machine.run(*one.starts, env=one.env)
    before = machine.snapshot()

    machine.setup("--client", one.tool)
    wired = machine.snapshot()
    ask(machine, one)
    used = machine.snapshot()
    machine.thv("teardown")
    after = machine.snapshot()

    changed = {name for name in wired if wired[name] != before.get(name)}
    rewritten = {name for name in changed if used.get(name) != wired[name]}  # by the tool itself
    assert changed
    assert {name: after.get(name) for name in changed - rewritten} == {
        name: before.get(name) for name in changed - rewritten
    }
    assert not ours(machine, rewritten)
    again = machine.run(*one.starts, env=one.env)
    assert again.code == started.code == 0, started.said + again.said


TOKEN_S, COMMAND, CALLS = (60, "sleep 9", 15) if IS_RELEASE else (6, "sleep 3", 4)
"""How long an access token lives, and what a tool has to do meanwhile."""
AT_ONCE = 4
LOOPS = [one for one in ALL if one.works is not None]


@pytest.mark.parametrize("one", LOOPS, ids=[one.name for one in LOOPS])
def test_four_at_once_work_on_while_their_tokens_expire(
    new_machine: NewMachine, provider: NpmProvider, gateway: FakeGateway, one: Prompt
) -> None:
    machine = new_machine(one.program, keyring=True)
    machine.run(*one.starts, env=one.env)
    provider.change(access_ttl_s=TOKEN_S)
    machine.setup("--client", one.tool)
    # Each a different one: some take the same call again and again for a loop, and end it.
    gateway.command = lambda results: f"{COMMAND}; echo {results}" if results < CALLS else ""
    gateway.requests.clear()

    patience_s = TIMEOUT_S + CALLS * TOKEN_S
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(
            pool.map(lambda _: words_of(machine, one, *one.works or (), timeout_s=patience_s), range(AT_ONCE))
        )

    sent = [request for request in gateway.requests if request.path.split("?")[0] == one.route]
    tokens = {request.header("authorization") for request in sent if request.admitted}
    refused = [request for request in sent if not request.admitted]
    assert all(ANSWER.rstrip(".") in said for said in done), done
    assert len(sent) - len(refused) >= AT_ONCE * (CALLS + 1)
    assert len(tokens) >= 3
    # A tool with a helper keeps its token and repeats what was refused; the proxy's tools see none of it.
    assert not one.stopped or not refused


if IS_RELEASE:  # minutes, because many try again for long

    @pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
    def test_a_real_tool_without_session_or_service_prints_what_the_manual_has(
        new_machine: NewMachine, one: Prompt
    ) -> None:
        machine = new_machine(one.program, keyring=True)
        machine.run(*one.starts, env=one.env)

        machine.setup("--client", one.tool)
        machine.thv("proxy", "stop")
        assert (one.stopped or ANSWER.rstrip(".")) in words_of(machine, one)

        machine.setup("--client", one.tool)
        machine.thv("logout")
        assert one.logged_out in words_of(machine, one)


def words_of(machine: Machine, one: Prompt, *more: str, timeout_s: float = GIVES_UP_S) -> str:
    """Return all that a tool prints to a question, in one line; SILENT at its end when it goes on trying."""
    own_ca = {one.ca_variable: machine.provider.ca_file} if one.ca_variable else {}
    try:
        done = machine.run(*one.ask, *more, env={**one.env, **own_ca}, timeout_s=timeout_s)
    except subprocess.TimeoutExpired as late:
        said = b" ".join(text for text in (late.stdout, late.stderr) if text).decode()
        return " ".join(f"{said} {SILENT}".split())
    return " ".join(f"{done.out} {done.err}".split())
