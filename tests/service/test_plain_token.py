"""`thv-llm token` without options and without an agent, in processes of their own."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path

import pytest

from tests.logged_in import LoggedIn, wait_for_worker

TOP = str(Path(__file__).parents[2])


def test_a_cold_call_prints_a_token_and_needs_one_request_once_discovery_is_known(user: LoggedIn) -> None:
    assert user.provider.verify_access_token(user.token().stdout.strip())
    wait_for_worker(user)
    before = len(user.provider.requests)

    assert user.provider.verify_access_token(user.token().stdout.strip())

    assert len(user.provider.requests) == before + 1


def test_an_interrupted_call_says_so_and_its_exchange_goes_on(user: LoggedIn) -> None:
    arrived, release = user.provider.hold("refresh")
    process = user.start(user.command())
    assert arrived.wait(10)

    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=10)
    release.set()
    wait_for_worker(user)

    assert (printed, error, process.returncode) == ("", "thv-llm: error: interrupted\n", 130)
    assert user.is_alive
    assert user.provider.count("refresh") == 1


@pytest.mark.parametrize(
    ("call", "number"), [("fork", errno.EAGAIN), ("pipe", errno.EMFILE), ("open", errno.EMFILE)]
)
def test_a_system_that_has_no_process_or_descriptor_left_is_told_in_its_words(
    user: LoggedIn, call: str, number: int
) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {TOP!r})\n"
        "from thv_llm import paths, settings, state\n"
        "from thv_llm.service import cold_token\n"
        f"def refuse(*_, **__): raise OSError({number}, 'no more')\n"
        f"os.{call} = refuse; cold_token.main()"
    )

    done = user.run([sys.executable, "-I", "-c", program, "token"])

    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == "thv-llm: error: the system returned an error\n  why:  no more\n"
