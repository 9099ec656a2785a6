"""Beginning and ending a session: which flow, several at once, and with something around it broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import canaries
from tests.commands.homes import Run
from tests.commands.machine import Machine, machine
from tests.fakes.web import ServerResponse
from thv_llm.commands import session
from thv_llm.commands.parser import Parser
from thv_llm.errors import UsageError
from thv_llm.service.agent import Agent
from thv_llm.tokens import AccessToken

OPEN_SESAME = f"open {canaries.MARK}"


@pytest.fixture
def here(here: Machine) -> Machine:
    here.setup("--lazy", "--models", "m")
    return here


@pytest.mark.parametrize(
    ("words", "flow"), [([], "browser"), (["--skip-browser"], "manual"), (["--device-code"], "device")]
)
def test_the_flow_is_the_one_that_was_asked_for(words: list[str], flow: str) -> None:
    parser = Parser()
    session.add_flow(parser)

    assert parser.parse_args(words).flow == flow


def test_two_flows_at_once_are_refused() -> None:
    parser = Parser()
    session.add_flow(parser)

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


def test_a_passphrase_is_asked_for_once(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here.environ["THV_LLM_PASSPHRASE"] = OPEN_SESAME
    here.run("login")
    del here.environ["THV_LLM_PASSPHRASE"]
    asked: list[str] = []

    def answer(prompt: str, stream: object) -> str:
        asked.append(prompt)
        return OPEN_SESAME

    monkeypatch.setattr("getpass.getpass", answer)
    again = here.run("login", is_terminal=True)
    other = here.run("login", "--force", is_terminal=True)

    assert "Already logged in as" in again.err
    assert "Logged in as" in other.err
    assert asked == ["Passphrase of the session file: "] * 2


def test_the_end_of_input_is_no_passphrase(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here.environ["THV_LLM_PASSPHRASE"] = OPEN_SESAME
    here.run("login")
    del here.environ["THV_LLM_PASSPHRASE"]

    def end_of_input(prompt: str, stream: object) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end_of_input)
    done = here.run("login", is_terminal=True)

    assert done.code == 1
    assert f"the session in {here.paths.session_file} is locked" in done.err


def test_a_wrong_passphrase_is_said_before_a_login_and_at_logout_and_loses_nothing(here: Machine) -> None:
    here.environ["THV_LLM_PASSPHRASE"] = OPEN_SESAME
    here.run("login")
    before = Path(here.paths.session_file).read_bytes()
    here.environ["THV_LLM_PASSPHRASE"] = f"not {OPEN_SESAME}"

    for words in (["login"], ["login", "--force"], ["logout"], ["teardown", "--purge-tokens"]):
        done = here.run(*words)
        assert done.code == 1
        assert "the passphrase is wrong, or the file is damaged" in done.err

    assert Path(here.paths.session_file).read_bytes() == before
    assert here.provider.count("authorize") == 1
    assert here.provider.count("revoke") == 0


def test_a_login_puts_a_damaged_session_file_aside(here: Machine) -> None:
    here.run("config", "set", "--token-store", "file")
    here.run("login")
    Path(here.paths.session_file).write_bytes(b"garbage")

    assert here.run("login").code == 0
    assert Path(f"{here.paths.session_file}.broken").read_bytes() == b"garbage"


def test_a_broken_state_file_is_said_before_the_login(here: Machine) -> None:
    Path(here.paths.state).write_text("{broken")

    done = here.run("login")  # there is no session yet

    assert done.code == 1
    assert f"cannot understand {here.paths.state}" in done.err
    assert here.provider.count("authorize") == 0


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        made.setup("--client", "claude-code")
        yield made


def test_a_provider_that_is_down_does_not_keep_the_session_here(wired: Machine) -> None:
    Path(wired.paths.discovery_cache).unlink(missing_ok=True)
    wired.provider.alter["discovery"] = lambda response: ServerResponse(503, "down")

    done = wired.run("logout")

    assert done.code == 0
    assert "Logged out." in done.err
    assert "not revoked at the provider" in done.err
    assert wired.run("token").code == 4


def test_without_settings_there_is_nothing_to_end(tmp_path: Path) -> None:
    with machine(tmp_path) as made:
        done = made.run("logout")

    assert done.code == 0
    assert "not configured" in done.err


@pytest.mark.parametrize("is_stored", [True, False])
def test_the_service_forgets_at_a_logout_even_when_nothing_is_stored(wired: Machine, is_stored: bool) -> None:
    if not is_stored:
        Path(wired.paths.session_file).unlink()
    asked: list[str] = []

    def control(verb: str, rest: str) -> str:
        asked.append(verb)
        return ""

    def no_token(min_valid_s: float, *, newer_than: float | None = None) -> AccessToken:
        raise AssertionError("nobody asks for a token")

    agent = Agent(wired.paths.socket, no_token, control)
    agent.start()
    try:
        wired.run("logout")
    finally:
        agent.stop()

    assert asked == ["forget"]


def test_no_token_is_shown(wired: Machine) -> None:
    secret = wired.run("token").out.strip()
    done = wired.run("logout")

    assert secret
    assert secret not in done.err + done.out
