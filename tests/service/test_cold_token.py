from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.logged_in import LoggedIn, wait_for_worker
from tests.service.lab import until
from thv_llm import agent_client
from thv_llm.service.agent import Agent

PROCESSES = int(os.environ.get("THV_LLM_TEST_PROCESSES", "8"))
DEAR = {"argparse", "asyncio", "dataclasses", "inspect", "keyring", "logging", "pathlib", "subprocess"}
DEAR |= {"queue", "thv_llm.log", "thv_llm.oidc.login", "thv_llm.state", "thv_llm.context", "urllib.request"}
"""What costs a cold `token` milliseconds, and is no use to it."""
KILLS = int(os.environ.get("THV_LLM_TEST_KILLS", "8"))


def test_the_first_call_refreshes_and_those_right_after_it_do_not(user: LoggedIn) -> None:
    first = user.token()
    second = user.helper()
    third = user.token("--min-valid", "60")

    assert user.provider.verify_access_token(first.stdout.strip())
    assert first.stdout == second.stdout == third.stdout
    assert user.provider.count("refresh") == 1
    assert user.is_alive


def test_a_crowd_of_processes_costs_one_refresh_and_none_fails(user: LoggedIn) -> None:
    user.provider.latency_s = 0.1
    commands = [user.command() if number % 2 else [user.paths.helper] for number in range(PROCESSES)]

    started = [user.start(command) for command in commands]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]

    assert {(error, code) for _, error, code in ended} == {("", 0)}
    assert len({token for token, _, _ in ended}) == 1
    assert user.provider.count("refresh") == 1
    assert user.provider.grants.reuses == 0
    assert user.is_alive


def test_a_crowd_without_a_place_for_a_socket_refreshes_one_after_the_other(
    tmp_path: Path, user: LoggedIn
) -> None:
    user = LoggedIn(tmp_path / ("long" * 30), user.provider)

    started = [user.start(user.command()) for _ in range(4)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]

    assert {(error, code) for _, error, code in ended} == {("", 0)}
    assert user.provider.count("refresh") == 4
    assert user.is_alive


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_caller_that_is_killed_at_any_moment_does_not_lose_the_session(
    user: LoggedIn, whole_group: bool
) -> None:
    user.provider.latency_s = 0.05
    chance = random.Random(whole_group)

    for _ in range(KILLS):
        process = user.start(user.command())
        time.sleep(chance.uniform(0, 0.35))
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        wait_for_worker(user)

    assert user.provider.grants.reuses == 0
    assert user.is_alive


def test_a_caller_that_is_killed_in_the_middle_of_the_exchange_leaves_a_stored_session(
    user: LoggedIn,
) -> None:
    before = user.refresh_token

    assert user.run_until_the_exchange(user.command()) == -signal.SIGKILL
    wait_for_worker(user)

    assert user.refresh_token != before
    assert user.is_alive


def token_in_a_process(user: LoggedIn, preparation: str) -> str:
    """Return what a process gets that has run these lines before its request."""
    program = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{preparation}\n"
        "from thv_llm import paths\nfrom thv_llm.service import cold_token\n"
        "print(cold_token.response(paths.find(os.environ), os.environ, 'token 600'))"
    )
    return user.run([sys.executable, "-I", "-c", program, "token"]).stdout


def test_the_worker_ends_when_there_are_no_more_requests(user: LoggedIn) -> None:
    told = token_in_a_process(user, "from thv_llm.service import cold_token; cold_token.LINGER_S = 0.3")
    socket = Path(user.paths.socket)

    assert told.startswith("ok ")
    assert socket.exists()
    until(lambda: not socket.exists())


def test_a_service_that_starts_takes_the_workers_place(user: LoggedIn) -> None:
    user.token()
    service = Agent(user.paths.socket, user.source().get, lambda verb, rest: "service")

    service.start()
    try:
        assert agent_client.converse(user.paths.socket, "status") == "ok service"
    finally:
        service.stop()


def test_the_worker_returns_nothing_but_tokens(user: LoggedIn) -> None:
    user.token()

    for verb in ("status", "stop", "challenge 1234"):
        assert (agent_client.converse(user.paths.socket, verb) or "").startswith("err 2 ")
    assert user.provider.count("refresh") == 1


def test_the_worker_loads_nothing_dear_before_its_response(user: LoggedIn) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); loaded = []\n"
        "sys.addaudithook(lambda event, about: loaded.append(about[0]) if event == 'import' else None)\n"
        "from thv_llm import paths\nfrom thv_llm.service import cold_token\n"
        "cold_token.work(paths.find(os.environ), os.environ, 'token 600', is_claimed=False)\n"
        "print(*loaded[: loaded.index('resource')], file=sys.stderr)"  # to harden itself, after the response
    )

    done = user.run([sys.executable, "-I", "-S", "-c", program, "token"])
    loaded = set(done.stderr.split())

    assert done.stdout.startswith("ok "), done
    assert {"thv_llm.oidc.token_endpoint", "thv_llm.store.encrypted_file"} <= loaded
    assert loaded & DEAR == set()


def test_a_fork_is_done_without_where_the_system_cannot_use_it(user: LoggedIn) -> None:
    told = token_in_a_process(
        user,
        "sys.platform = 'darwin'\n"
        "from thv_llm.system import detach\n"
        "detach.first_line.__kwdefaults__['platform'] = 'darwin'",
    )

    assert told.startswith("ok ")
    assert user.token().stdout.strip() in told
    assert user.provider.count("refresh") == 1


def test_an_unconfigured_machine_stays_as_it_is(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-I", str(Path(__file__).parents[2] / "thv_llm.py"), "token"]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 5)
    assert list(tmp_path.iterdir()) == []


def test_a_forwarded_socket_without_a_listener_is_named(tmp_path: Path, user: LoggedIn) -> None:
    there = str(tmp_path / "llm.sock")

    for command in (user.command(), user.command("--format", "json")):
        done = user.run(command, HOME=str(tmp_path), THV_LLM_SOCKET=there)

        assert done.returncode == 6
        assert f"connection refused by {there}" in done.stderr
        assert "thv-llm proxy start --background" in done.stderr
    assert not list(tmp_path.glob(".config"))
