"""Signing in: which flow, and several at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.machine import Machine, machine
from tests.commands.worlds import Run
from thv_llm.commands import signing_in
from thv_llm.commands.parser import Parser
from thv_llm.errors import UsageError


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.setup("--lazy", "--models", "m")
        yield made


@pytest.mark.parametrize(
    ("words", "flow"), [([], "browser"), (["--skip-browser"], "manual"), (["--device-code"], "device")]
)
def test_the_flow_is_the_one_that_was_asked_for(words: list[str], flow: str) -> None:
    parser = Parser()
    signing_in.add_flow(parser)

    assert signing_in.flow(parser.parse_args(words)) == flow


def test_two_flows_at_once_are_refused() -> None:
    parser = Parser()
    signing_in.add_flow(parser)

    with pytest.raises(UsageError):
        parser.parse_args(["--skip-browser", "--device-code"])


def test_logins_at_the_same_time_become_one(here: Machine) -> None:
    opened = threading.Event()
    may_go_on = threading.Event()

    def slow_browser(url: str) -> bool:
        opened.set()
        thread = threading.Thread(target=lambda: may_go_on.wait(10) and here.browser.open(url))
        thread.start()
        threads.append(thread)
        return True

    threads: list[threading.Thread] = []
    done: list[Run] = []
    here.open_browser = slow_browser
    first = threading.Thread(target=lambda: done.append(here.run("login")))
    first.start()
    assert opened.wait(10)
    second = threading.Thread(target=lambda: done.append(here.run("login")))
    second.start()
    may_go_on.set()
    for thread in (first, second, *threads):
        thread.join(20)

    assert [run.code for run in done] == [0, 0]
    assert here.provider.count("authorize") == 1


def test_a_failed_login_says_why_and_keeps_the_session_that_was_there(here: Machine) -> None:
    here.run("login")
    here.provider.alter_callback = lambda pairs: [
        ("error", "access_denied"),
        *[pair for pair in pairs if pair[0] in ("state", "iss")],
    ]

    done = here.run("login", "--force")

    assert done.code == 1
    assert "access_denied" in done.err
    assert here.run("token").code == 0
