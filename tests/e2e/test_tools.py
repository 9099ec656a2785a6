"""Every tool that can be had: one prompt through what setup wrote, and the tool as it was after teardown."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.prompts import ANSWER, PROMPTS, SILENT, SLOW, Prompt, ask

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


def words_of(machine: Machine, one: Prompt) -> str:
    """Return all that a tool prints to a question, in one line; SILENT at its end when it goes on trying."""
    own_ca = {one.ca_variable: machine.provider.ca_file} if one.ca_variable else {}
    try:
        done = machine.run(*one.ask, env={**one.env, **own_ca}, timeout_s=GIVES_UP_S)
    except subprocess.TimeoutExpired as late:
        said = b" ".join(text for text in (late.stdout, late.stderr) if text).decode()
        return " ".join(f"{said} {SILENT}".split())
    return " ".join(f"{done.out} {done.err}".split())
