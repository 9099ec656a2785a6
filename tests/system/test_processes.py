from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from thv_llm.system import processes
from thv_llm.system.processes import Process

PS = "Mon Nov 23 20:05:48 2026 Ss   /usr/bin/python3 -I /opt/thv-llm.pyz proxy start --detach\n"
LSOF = "p4242\ncnode\nf12\n"


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_process_is_known_by_its_start_and_its_command() -> None:
    me = processes.look(os.getpid())

    assert me is not None
    assert me.start
    assert os.path.basename(sys.executable) in me.command
    assert processes.look(os.getpid()) == me


def test_nothing_lives_under_a_dead_id() -> None:
    with sleeper() as child:
        pid = child.pid

    assert processes.look(pid) is None
    assert processes.look(0) is None
    assert processes.look(-1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_zombie_counts_as_gone() -> None:
    with sleeper() as child:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert os.path.exists(f"/proc/{child.pid}/stat")
        assert processes.look(child.pid) is None


def test_a_signal_reaches_the_process_that_is_meant() -> None:
    with sleeper() as child:
        process = processes.look(child.pid)
        assert process is not None

        assert processes.send(process, signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
        assert not processes.send(process, signal.SIGTERM)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_reused_process_id_is_not_signaled(platform: str) -> None:
    with sleeper() as child:
        process = processes.look(child.pid)
        assert process is not None
        earlier = replace(process, start="some other time")

        assert not processes.send(earlier, signal.SIGKILL, platform=platform, run=lambda command: PS)
        assert child.poll() is None


def test_macos_is_asked_by_ps() -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(command)
        return PS

    found = processes.look(77, platform="darwin", run=run)

    assert asked == [["ps", "-ww", "-o", "lstart=,stat=,command=", "-p", "77"]]
    assert found == Process(
        77, "Mon Nov 23 20:05:48 2026", "/usr/bin/python3 -I /opt/thv-llm.pyz proxy start --detach"
    )


@pytest.mark.parametrize("response", ["", PS.replace("Ss", "Z+"), "garbage"])
def test_macos_says_nothing_of_a_process_that_is_gone(response: str) -> None:
    assert processes.look(77, platform="darwin", run=lambda command: response) is None


def test_the_system_tool_ps_is_understood() -> None:
    if not processes.run(["ps", "-p", "1"]):
        pytest.skip("no ps here")
    with sleeper() as child:
        found = processes.look(child.pid, platform="darwin")

        assert found is not None
        assert "input()" in found.command
        assert found == processes.look(child.pid, platform="darwin")


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_listener_on_a_port_is_named(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        server.listen()
        port = server.getsockname()[1]

        assert processes.listener(port).endswith(f"(pid {os.getpid()})")
    assert processes.listener(port) == ""


def test_a_client_connection_is_not_taken_for_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert processes.listener(client.getsockname()[1]) == ""


def test_macos_names_the_listener_by_lsof() -> None:
    assert processes.listener(14000, platform="darwin", run=lambda command: LSOF) == "node (pid 4242)"
    assert processes.listener(14000, platform="darwin", run=lambda command: "") == ""


def test_a_name_cannot_carry_control_bytes_to_the_terminal() -> None:
    found = processes.listener(1, platform="darwin", run=lambda command: "p1\nc\x1b[2Jx\n")

    assert found == "?[2Jx (pid 1)"


@pytest.mark.parametrize("command", [["/nonexistent"], ["false"]])
def test_a_system_tool_that_fails_says_nothing(command: list[str]) -> None:
    assert processes.run(command) == ""
