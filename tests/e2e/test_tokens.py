"""Many helpers at once against a provider that ends a session when a refresh token comes back."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import canaries, random_kills
from tests.e2e.keyrings import Home, Keyring
from tests.e2e.machine import PYZ, Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.prompts import chat
from tests.logged_in import User
from thv_llm.agent_client import converse

PROCESSES = int(os.environ.get("E2E_PROCESSES", "8"))
ROUNDS = int(os.environ.get("E2E_ROUNDS", "20"))
KILLS = int(os.environ.get("E2E_KILLS", "60"))
TOOLS = 8


def rounds(
    machine: Machine,
    command: list[str],
    number: int = ROUNDS,
    *,
    between: Callable[[], object] = lambda: None,
    alone: bool = False,
) -> list[str]:
    """Start PROCESSES at once, again and again; return what went wrong.

    Args:
        alone: each has a socket of its own, so that none gets its token from another one.
    """
    wrong = []
    runtime = machine.environ["XDG_RUNTIME_DIR"]
    for turn in range(number):
        between()
        started = [
            subprocess.Popen(
                command,
                env={**machine.environ, "THV_LLM_SOCKET": f"{runtime}/{turn}-{one}"}
                if alone
                else machine.environ,
                cwd=machine.project,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for one in range(PROCESSES)
        ]
        for process in started:
            out, err = process.communicate(timeout=60)
            try:
                assert process.returncode == 0
                assert err == ""
                machine.provider.verify(out.removesuffix("\n"))
            except (AssertionError, ValueError):
                wrong.append(f"exit {process.returncode}: {out[:40]!r} {err!r}")
    return wrong


KEYRING_CRASHED = "org.freedesktop.DBus.Error.NoReply"


def logged_in(new_machine: NewMachine) -> Machine:
    machine = new_machine(keyring=True)
    machine.thv("config", "set", *machine.connection())
    machine.thv("login")
    return machine


def test_parallel_helpers_never_end_the_session(new_machine: NewMachine, provider: NpmProvider) -> None:
    provider.change(delay_ms=10)
    for _ in range(3):
        machine = logged_in(new_machine)
        before = provider.seen()
        wrong = rounds(machine, [str(machine.commands / "thv-llm"), "token"], alone=True)
        # gnome-keyring itself crashes now and then when many programs open a session at once; the
        # one that D-Bus starts in its place is locked.
        if not any(KEYRING_CRASHED in line for line in wrong):
            break

    assert wrong == []

    after = provider.seen()
    assert after["refused"] == before["refused"]
    assert after["grants_revoked"] == before["grants_revoked"]
    assert after["refreshes"] >= before["refreshes"] + PROCESSES * ROUNDS
    provider.verify(machine.token())


@contextmanager
def tools_at_work(machine: Machine) -> Iterator[list[int]]:
    """Send requests through the proxy without pause, from several threads; yields the status codes."""
    statuses: list[int] = []
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            statuses.append(chat(machine)[0])

    threads = [threading.Thread(target=work) for _ in range(TOOLS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_the_service_refreshes_once_for_all_of_them(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm", keyring=True)
    machine.setup()
    provider.change(delay_ms=100)
    before = provider.seen()
    agent = str(machine.runtime / "toolhive" / "llm.sock")

    with tools_at_work(machine) as statuses:
        wrong = rounds(machine, [str(machine.helper)], ROUNDS // 2, between=lambda: converse(agent, "forget"))

    assert wrong == []
    assert set(statuses) == {200}
    assert before["refreshes"] < provider.seen()["refreshes"] <= before["refreshes"] + ROUNDS // 2
    assert provider.seen()["refused"] == before["refused"]


def test_lost_responses_cost_no_session(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = logged_in(new_machine)
    provider.change(lose_every=20, reuse_grace_s=5)
    before = provider.seen()

    assert rounds(machine, [str(machine.commands / "thv-llm"), "token", "--force-refresh"], 10) == []

    assert provider.seen()["grants_revoked"] == before["grants_revoked"]


def test_helpers_that_are_killed_cost_no_session(provider: NpmProvider, tmp_path: Path) -> None:
    provider.change(delay_ms=100)
    home, scan = Home(tmp_path), canaries.Scan()
    with Keyring(home):
        environ = {name: value for name, value in home.environ.items() if name != "HOME"}
        user = User(tmp_path / "user", provider, program=str(PYZ), keyring=True, **environ)

        with canaries.watched(tmp_path / "user", scan):
            tally = random_kills.kill(user, KILLS, random.Random(5))
            provider.secrets()

    scan.files(tmp_path)
    assert (tally.kills, tally.lost, tally.problems) == (KILLS, 0, [])
    assert tally.rotated, "no kill hit a run that had begun to refresh"
    assert scan.hits == []


def test_a_reused_refresh_token_really_ends_a_session_here(
    new_machine: NewMachine, provider: NpmProvider
) -> None:
    """The provider is as strict as the tests above believe; and then one line says what to do."""
    machine = logged_in(new_machine)
    old = provider.refresh_tokens()[-1]
    provider.change(access_ttl_s=60)
    machine.token()
    until = time.monotonic() + 20
    while machine.services():  # a frame still holds what that call brought, for a moment
        assert time.monotonic() < until
        time.sleep(0.05)
    assert provider.spend(old) == 400

    done = machine.thv("token", fails=True)

    assert (done.code, done.out) == (4, ""), done.said
    assert "thv-llm login" in done.err


def test_tools_do_not_notice_that_tokens_expire(new_machine: NewMachine, provider: NpmProvider) -> None:
    machine = new_machine("claude", "llm", keyring=True)
    provider.change(access_ttl_s=3)
    machine.setup()
    machine.gateway.requests.clear()

    statuses = []
    until = time.monotonic() + 10
    while time.monotonic() < until:
        statuses.append(chat(machine)[0])
        provider.verify(machine.run(str(machine.helper)).out.strip())
        time.sleep(0.1)

    used = {request.header("authorization") for request in machine.gateway.requests}
    assert set(statuses) == {200}
    assert len(used) >= 3
