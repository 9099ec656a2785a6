"""`thv-llm token` without options and without an agent, in processes of their own."""

from __future__ import annotations

import signal
import threading

from tests.fakes.web import Answer
from tests.logged_in import LoggedIn, wait_for_worker


def test_a_cold_call_prints_a_token_and_needs_one_request_once_discovery_is_known(user: LoggedIn) -> None:
    assert user.provider.verify_access_token(user.token().stdout.strip())
    wait_for_worker(user)
    before = len(user.provider.requests)

    assert user.provider.verify_access_token(user.token().stdout.strip())

    assert len(user.provider.requests) == before + 1


def test_an_interrupted_call_says_so_and_its_exchange_goes_on(user: LoggedIn) -> None:
    asked, answer = threading.Event(), threading.Event()

    def wait(good: Answer) -> Answer:
        asked.set()
        answer.wait(10)
        return good

    user.provider.alter["refresh"] = wait
    process = user.start(user.command())
    assert asked.wait(10)

    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=10)
    answer.set()
    wait_for_worker(user)

    assert (printed, error, process.returncode) == ("", "thv-llm: error: interrupted\n", 130)
    assert user.is_alive
    assert user.provider.count("refresh") == 1
