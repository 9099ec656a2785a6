from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.lab import until
from thv_llm.agent_client import converse
from thv_llm.errors import LoginRequiredError, ThvLlmError, UnreachableError, UsageError
from thv_llm.secret import Secret
from thv_llm.service import agent as agent_module
from thv_llm.service.agent import Agent
from thv_llm.service.agent_protocol import call
from thv_llm.system import peers
from thv_llm.system.file_system import claim
from thv_llm.tokens import AccessToken


class Source:
    """Stands for a TokenSource."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.newer_than: float | None = None
        self.failure: Exception | None = None
        self.wait = threading.Event()
        self.wait.set()

    def get(self, min_valid_s: float, *, newer_than: float | None = None) -> AccessToken:
        self.asked.append(min_valid_s)
        self.newer_than = newer_than
        self.wait.wait(10)
        if self.failure:
            raise self.failure
        return AccessToken(Secret("at-1"), 1234.9)


def control(verb: str, rest: str) -> str:
    if verb == "nothing":
        return ""
    if verb == "broken":
        raise RuntimeError("at-canary")
    if verb != "echo":
        raise UsageError("unknown word")
    return rest.upper()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "llm.sock")


@pytest.fixture
def agent(path: str, source: Source) -> Iterator[Agent]:
    running = Agent(path, source.get, control)
    running.start()
    yield running
    running.stop()


def was_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:  # with something of ours unread
        return True


@pytest.mark.usefixtures("agent")
def test_it_returns_a_token_and_its_end(path: str, source: Source) -> None:
    assert converse(path, "token 600") == "ok 1235 at-1"
    assert call(path, "token 5", timeout_s=5) == "1235 at-1"
    assert source.asked == [600, 5]
    assert source.newer_than is None


@pytest.mark.usefixtures("agent")
def test_the_age_that_a_token_may_have_becomes_a_moment_of_the_clock(path: str, source: Source) -> None:
    before = time.monotonic()
    assert converse(path, "token 600 newer 2500") == "ok 1235 at-1"
    after = time.monotonic()

    assert source.newer_than
    assert before - 2.5 <= source.newer_than <= after - 2.5


@pytest.mark.usefixtures("agent")
def test_other_words_go_to_control(path: str) -> None:
    assert converse(path, "echo some words") == "ok SOME WORDS"
    assert converse(path, "nothing") == "ok"
    with pytest.raises(UsageError, match="unknown word"):
        call(path, "stop", timeout_s=5)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    "line",
    [
        *("token", "token x", "token -1", "token 1 2", "token 9999999999", "token ²", "token 1\x0b"),
        *("token 1 newer", "token 1 newer x", "token 1 newer -1", "token 1 newer 1 2"),
    ],
)
def test_a_token_request_must_make_sense(path: str, source: Source, line: str) -> None:
    with pytest.raises(UsageError):
        call(path, line, timeout_s=5)
    assert source.asked == []


@pytest.mark.usefixtures("agent")
def test_errors_cross_the_socket_with_their_class_and_all_their_words(path: str, source: Source) -> None:
    for error in (
        LoginRequiredError("no token", why="ended", next_step="thv-llm login"),
        UnreachableError("no token", why="away"),
        ThvLlmError("no token", next_step="try again"),
        ThvLlmError("no token"),
    ):
        source.failure = error
        with pytest.raises(ThvLlmError) as caught:
            call(path, "token 600", timeout_s=5)
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)


@pytest.mark.usefixtures("agent")
def test_of_a_bug_only_type_and_place_are_told(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    response = converse(path, "broken") or ""

    assert response.startswith("err 3 this is a bug")
    assert "RuntimeError" in response
    assert "canary" not in response + "".join(capfd.readouterr())


@pytest.mark.usefixtures("agent")
def test_the_socket_and_its_directory_are_private(path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


@pytest.mark.usefixtures("agent")
def test_another_user_gets_no_response(path: str, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "peer_uid", lambda sock: os.getuid() + 1)

    assert converse(path, "token 600") is None
    assert source.asked == []


def test_a_socket_that_was_removed_is_opened_again(path: str, agent: Agent) -> None:
    assert not agent.listen_again(path)
    shutil.rmtree(os.path.dirname(path))
    assert converse(path, "token 600") is None

    assert agent.listen_again(path)

    assert (converse(path, "token 600") or "").startswith("ok ")
    assert not agent.listen_again(path)


def test_a_socket_that_cannot_be_opened_yet_is_opened_later(path: str, agent: Agent) -> None:
    directory = Path(os.path.dirname(path))
    shutil.rmtree(directory)
    directory.touch()
    for _ in range(2):
        with pytest.raises(ThvLlmError):
            agent.listen_again(path)
    directory.unlink()

    assert agent.listen_again(path)

    assert (converse(path, "token 600") or "").startswith("ok ")


@pytest.mark.usefixtures("agent")
def test_two_hundred_at_once_all_get_a_response(path: str, source: Source) -> None:
    responses: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: responses.append(converse(path, "token 600"))) for _ in range(200)
    ]

    source.wait.clear()
    for thread in threads:
        thread.start()
    source.wait.set()
    for thread in threads:
        thread.join()

    assert responses == ["ok 1235 at-1"] * 200


@pytest.mark.usefixtures("agent")
def test_a_system_without_a_thread_left_costs_one_response_and_no_more(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert converse(path, "token 600") is None

    assert converse(path, "token 600") == "ok 1235 at-1"


def test_a_client_gets_its_response_when_it_closes_and_another_can_listen(
    path: str, agent: Agent, source: Source
) -> None:
    responses: list[str | None] = []
    source.wait.clear()
    asking = threading.Thread(target=lambda: responses.append(converse(path, "token 600")))
    asking.start()
    until(lambda: source.asked)

    agent.close()
    assert not os.path.exists(path)
    next_one = Agent(path, Source().get, control)
    next_one.start()
    source.wait.set()
    asking.join()
    agent.stop()

    assert responses == ["ok 1235 at-1"]
    assert converse(path, "token 600") == "ok 1235 at-1"  # of the next one, whose socket stayed
    next_one.stop()


@pytest.mark.usefixtures("agent")
def test_a_response_from_memory_takes_less_than_a_few_milliseconds(path: str) -> None:
    took = []
    for _ in range(50):
        start = time.perf_counter()
        converse(path, "token 600")
        took.append(time.perf_counter() - start)

    assert sorted(took)[25] < 0.005


def test_clients_that_send_nothing_too_much_or_nonsense_disturb_no_other(
    path: str, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "READ_TIMEOUT_S", 0.2)
    silent, babbling, rude = (socket.socket(socket.AF_UNIX) for _ in range(3))
    with silent, babbling, rude:
        for sock in (silent, babbling, rude):
            sock.settimeout(5)
            sock.connect(path)
        babbling.sendall(b"x" * 2 * agent_module.LONGEST_LINE_BYTES)
        rude.sendall(b"\xff\x00\xfe\n")

        assert rude.recv(100).startswith(b"err 2")
        assert converse(path, "token 600") == "ok 1235 at-1"
        assert silent.recv(100) == b""
        assert was_closed(babbling)
    assert converse(path, "token 600") == "ok 1235 at-1"


def test_stop_waits_for_the_response_that_is_under_way_and_takes_no_more(path: str, source: Source) -> None:
    agent = Agent(path, source.get, control)
    agent.start()
    source.wait.clear()
    responses: list[str | None] = []
    asking = threading.Thread(target=lambda: responses.append(converse(path, "token 600")))
    asking.start()
    while not source.asked:
        time.sleep(0.001)

    stopping = threading.Thread(target=agent.stop)
    stopping.start()
    while os.path.exists(path):
        time.sleep(0.001)
    assert converse(path, "token 600") is None
    assert stopping.is_alive()
    source.wait.set()
    stopping.join()
    asking.join()

    assert responses == ["ok 1235 at-1"]


def test_stop_does_not_wait_for_a_client_without_a_request(path: str, agent: Agent) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path)
        start = time.monotonic()
        agent.stop()
    assert time.monotonic() - start < 2


def test_a_socket_that_a_killed_one_left_behind_is_taken_over(path: str, source: Source) -> None:
    os.mkdir(os.path.dirname(path), 0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    agent = Agent(path, source.get, control)

    agent.start()

    assert converse(path, "token 600") == "ok 1235 at-1"
    agent.stop()
    assert not os.path.exists(path)


def test_what_is_no_socket_is_not_removed(path: str, source: Source) -> None:
    os.mkdir(os.path.dirname(path), 0o700)
    Path(path).write_text("mine")

    with pytest.raises(ThvLlmError, match="there is a file of that name"):
        Agent(path, source.get, control).start()

    assert Path(path).read_text() == "mine"


def test_a_second_agent_is_refused_while_the_first_one_stays(
    path: str, agent: Agent, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "TAKE_OVER_S", 0.1)

    with pytest.raises(ThvLlmError, match="another process responds"):
        Agent(path, source.get, control).start()

    assert converse(path, "token 600") == "ok 1235 at-1"


def test_one_that_is_there_for_a_moment_makes_room(path: str, source: Source) -> None:
    leave = threading.Event()
    held = claim(path)
    first = Agent(path, source.get, lambda verb, rest: leave.set() or "", claimed=True)  # type: ignore[func-returns-value]
    first.start()

    def leave_when_asked() -> None:
        leave.wait()
        first.stop()
        os.close(held)

    leaving = threading.Thread(target=leave_when_asked)
    leaving.start()
    second = Agent(path, source.get, control)
    second.start()
    leaving.join()

    assert converse(path, "echo x") == "ok X"
    second.stop()


def test_a_path_that_is_too_long_for_a_socket_is_said(tmp_path: Path, source: Source) -> None:
    with pytest.raises(ThvLlmError, match="THV_LLM_SOCKET"):
        Agent(str(tmp_path / ("x" * 100) / "llm.sock"), source.get, control).start()


def test_no_listener_is_none_or_an_oserror(tmp_path: Path) -> None:
    for path in ("missing.sock", "x" * 200):
        assert converse(str(tmp_path / path), "token 600") is None
    with pytest.raises(OSError, match="connection refused by"):
        call(str(tmp_path / "missing.sock"), "status", timeout_s=1)


def test_a_silent_listener_is_a_timeout(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(TimeoutError):
            converse(path, "token 600", 0.05)
