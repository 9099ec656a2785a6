"""Each client of the manual's table: it works through `thv-llm run`, or fails as the table says."""

from __future__ import annotations

import os

import pytest

from tests.e2e.install import E2E
from tests.e2e.machine import Machine, NewMachine
from tests.e2e.prompts import ANSWER, leaks
from tests.e2e.scripts import ALL, Client
from tests.fakes.connect_proxy import ConnectProxy

LIGHT = {"sh": (), "llm": ("llm",), "sgpt": ("sgpt",), "aider": ("aider",)}
"""First word of those that run with what the other tests need, too, and their programs."""

CHOSEN = ALL if "THV_LLM_E2E_CLIENTS" in os.environ else [one for one in ALL if one.words[0] in LIGHT]
VENDORS = ("openai.com", "anthropic.com", "googleapis.com")


@pytest.mark.parametrize("one", CHOSEN, ids=[one.id for one in CHOSEN])
def test_a_client_works_through_run_or_fails_as_the_manual_says(new_machine: NewMachine, one: Client) -> None:
    machine = new_machine(*LIGHT.get(one.words[0], ()), keyring=True)
    (machine.project / "node_modules").symlink_to(E2E / "npm-clients" / "node_modules")
    machine.thv("config", "set", *machine.connection())
    machine.thv("login")

    with ConnectProxy(status=403) as internet:
        works = asks(machine, one.words, internet)
        vendors = {head.split()[1] for head in internet.heads if head.split(":")[0].endswith(VENDORS)}

        assert works == (not one.why)
        assert one.why or not vendors
        assert not one.instead or asks(machine, one.instead, internet)
    assert not leaks(machine, machine.local_key())


def asks(machine: Machine, words: tuple[str, ...], internet: ConnectProxy) -> bool:
    """Return whether a client got the response, to a token that the gateway checked."""
    before = len(machine.gateway.requests)
    away = (f"HTTPS_PROXY={internet.url}", f"HTTP_PROXY={internet.url}", "NODE_USE_ENV_PROXY=1")
    done = machine.run("thv-llm", "run", "--", "env", *away, "NO_PROXY=127.0.0.1", *words)
    print(done.said, internet.heads)  # shown when the test fails
    sent = machine.gateway.requests[before:]
    return ANSWER in " ".join(done.out.split()) and any(request.admitted for request in sent)
