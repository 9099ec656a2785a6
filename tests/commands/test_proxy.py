from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import homes
from tests.commands.machine import Machine
from tests.service.lab import Lab
from thv_llm import paths, state
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.service import autostart, background


class Foreground:
    """`thv-llm proxy start` as it is typed, with what it says on stderr."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """Read lines until one has this text in it."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(self.lines)


@contextmanager
def foreground(lab: Lab, *options: str) -> Iterator[Foreground]:
    child = subprocess.Popen(
        paths.own_command("proxy", "start", *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.environ,
    )
    watchdog = threading.Timer(20, child.kill)
    watchdog.start()
    try:
        yield Foreground(child)
    finally:
        child.kill()
        child.communicate()
        watchdog.cancel()
        watchdog.join()


def test_in_the_foreground_every_request_is_a_line(lab: Lab) -> None:
    with foreground(lab) as shown:
        assert shown.until("Listening") == f"Listening on http://127.0.0.1:{lab.port} for {lab.gateway.url}"
        lab.get("/v1/models?key=canary")
        line = shown.until("/v1/models")
        shown.child.send_signal(signal.SIGINT)
        shown.until("Stopping")
        assert shown.child.wait(20) == 0

    assert re.fullmatch(r"\d\d:\d\d:\d\d  GET  /v1/models +200 +[\d.]+ m?s +[\d.]+ m?s +\d+ B aider", line)
    assert "canary" not in "".join(shown.lines)


def test_a_refused_request_says_why(lab: Lab) -> None:
    with foreground(lab) as shown:
        shown.until("Listening")
        assert lab.get("/v1/models", key="wrong")[0] == 401
        assert "(proxy: this needs the local key" in shown.until("/v1/models")


def test_where_one_runs_already_it_says_so_and_ends_well(lab: Lab) -> None:
    pid = lab.start().record.pid
    done = lab.run("proxy", "start")

    assert done.code is ExitCode.DONE
    assert f"already running (pid {pid}, proxy on http://127.0.0.1:{lab.port})" in done.err
    assert "thv-llm proxy logs --follow" in done.err


def test_a_taken_port_is_told_by_whom(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", lab.port)):
        with pytest.raises(ThvLlmError, match="is taken") as caught:
            lab.run("proxy", "start", "--background")

    assert "(pid " in caught.value.why
    assert "--proxy-port" in caught.value.next_step


def test_in_the_background_it_stays_and_is_wanted_from_then_on(lab: Lab) -> None:
    done = lab.run("proxy", "start", "--background")

    assert re.match(rf"Started the service \(pid \d+, proxy on http://127.0.0.1:{lab.port}\)\.", done.err)
    assert state.load(lab.paths.state).service.wanted
    assert "already running" in lab.run("proxy", "start", "--background").err


def test_an_agent_alone_gets_its_proxy_when_it_is_asked_for(lab: Lab) -> None:
    lab.start(proxy=False)

    assert f"proxy on http://127.0.0.1:{lab.port}" in lab.run("proxy", "start", "--background").err
    assert lab.get("/v1/models")[0] == 200


def test_a_stopped_service_stays_stopped(lab: Lab) -> None:
    pid = lab.start().record.pid

    assert lab.run("proxy", "stop").err == f"Stopped the service (pid {pid}).\n"
    assert not state.load(lab.paths.state).service.wanted  # else the next cold token would start it again
    assert lab.run("proxy", "stop").err == "The service is not running.\n"


def test_a_broken_state_file_does_not_prevent_stopping_it(lab: Lab) -> None:
    pid = lab.start().record.pid
    Path(lab.paths.state).write_text("{broken")

    done = lab.run("proxy", "stop")

    assert done.code is ExitCode.DONE
    assert f"Stopped the service (pid {pid})." in done.err
    assert f"warning: cannot understand {lab.paths.state}" in done.err
    assert lab.processes() == []
    assert Path(lab.paths.state).read_text() == "{broken"
    assert "not running" in lab.run("proxy", "status").out


def test_restart_keeps_what_it_offered(lab: Lab) -> None:
    before = lab.start(proxy=False)
    done = lab.run("proxy", "restart")
    after = background.find(lab.paths)

    assert done.err.startswith("Restarted the service")
    assert after is not None
    assert after.record.pid != before.record.pid
    assert after.record.port is None


def test_status_tells_how_it_is_doing(lab: Lab) -> None:
    lab.start()
    lab.get("/v1/models")
    lab.until_counted(1)
    done = lab.run("proxy", "status")

    assert done.code is ExitCode.DONE
    assert "requests    1 total, 1 ok" in done.out
    document = json.loads(lab.run("proxy", "status", "--format", "json").out)
    assert document["running"] is True
    assert document["requests"]["requests"] == 1


def test_status_of_none_is_an_exit_code(lab: Lab) -> None:
    done = lab.run("proxy", "status")

    assert done.code is ExitCode.FAILED
    assert done.out == "not running\n  next: thv-llm proxy start --background\n"
    assert json.loads(lab.run("proxy", "status", "--format", "json").out) == {"running": False}


def test_logs_show_what_the_service_wrote(lab: Lab) -> None:
    lab.start()
    lab.get("/v1/models")
    lab.until_counted(1)
    lab.run("proxy", "stop")
    lines = lab.run("proxy", "logs").out.splitlines()

    assert "started (pid " in lines[0]
    assert "GET  /v1/models" in lines[1]
    assert lines[-1].endswith("stopped")


class Manager:
    """Stands for systemd: starts what the unit says, as systemd would."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.children: list[subprocess.Popen[bytes]] = []

    def __call__(self, command: Sequence[str]) -> str:
        if "enable" in command or "restart" in command:
            self.children.append(
                subprocess.Popen(
                    paths.own_command("proxy", "start", "--managed"),
                    env=self.lab.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        if "disable" in command:
            background.stop(self.lab.paths)
        return "done\n"

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


@pytest.fixture
def manager(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(lab)
    real = autostart.of
    monkeypatch.setattr(autostart, "of", lambda environ, platform, run=None: real(environ, platform, manager))
    yield manager
    manager.close()


def test_install_hands_the_service_over_and_uninstall_takes_it_back(lab: Lab, manager: Manager) -> None:
    lab.start()
    done = lab.run("proxy", "install")
    found = background.find(lab.paths)

    assert found is not None
    assert found.record.pid == manager.children[0].pid
    unit = lab.home.path / ".config" / "systemd" / "user" / "thv-llm.service"
    assert f"Wrote {unit}; systemd starts the service at every login." in done.err
    assert lab.get("/v1/models")[0] == 200

    lab.run("proxy", "restart")
    found = background.find(lab.paths)
    assert found is not None
    assert found.record.pid == manager.children[1].pid

    done = lab.run("proxy", "uninstall")
    assert not unit.exists()
    assert "Started the service" in done.err  # tools still need it
    assert lab.get("/v1/models")[0] == 200


def test_the_managers_process_does_not_fail_for_ever_without_settings(lab: Lab) -> None:
    Path(lab.paths.settings).unlink()
    done = subprocess.run(
        paths.own_command("proxy", "start", "--managed"), env=lab.environ, capture_output=True, check=False
    )

    assert done.returncode == 0  # both managers start one that failed again, every ten seconds
    assert "not configured" in lab.log()


def test_a_reset_takes_the_unit_away_and_says_so(lab: Lab, manager: Manager) -> None:
    lab.run("proxy", "install")
    unit = lab.home.path / ".config" / "systemd" / "user" / "thv-llm.service"

    done = lab.run("config", "reset")

    assert f"Removed {unit}." in done.err
    assert not unit.exists()
    assert manager.children[0].wait(10) == 0


def test_uninstall_without_install_does_nothing(tmp_path: Path) -> None:
    home = homes.make(tmp_path)

    assert "Nothing to undo" in home.run("proxy", "uninstall").err


def test_options_of_our_own_processes_are_not_in_the_help(lab: Lab) -> None:
    done = subprocess.run(
        paths.own_command("proxy", "start", "--help"), capture_output=True, text=True, timeout=20, check=True
    )

    assert "--background" in done.stdout
    assert "--detach" not in done.stdout
    assert "--managed" not in done.stdout


def test_proxy_alone_is_its_status_in_both_formats(here: Machine) -> None:
    assert here.run("proxy").out == here.run("proxy", "status").out
    assert here.run("proxy", "--format", "json").out == here.run("proxy", "status", "--format", "json").out
    assert here.run("proxy", "--format", "json").out.startswith("{")
