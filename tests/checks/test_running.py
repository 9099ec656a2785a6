from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.checks.finding import connection, faults, fix, one_fault, wire
from tests.service.lab import Lab, impatience
from thv_llm.checks import Level
from thv_llm.errors import ExitCode
from thv_llm.service import autostart, pid_file


def test_a_service_that_should_run_and_does_not(lab: Lab) -> None:
    lab.want()

    fault = one_fault(lab, "service", "port")

    assert (fault.level, fault.name) == (Level.FAIL, "service")
    fix(lab, fault)
    assert faults(lab, "service", "port") == []


@pytest.mark.posix
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_in_the_place_of_the_socket_is_named_with_the_command_that_helps(lab: Lab, kind: str) -> None:
    wire(lab, "opencode")
    lab.want()
    path = Path(lab.paths.socket)
    path.mkdir() if kind == "directory" else path.write_text("mine")

    fault = one_fault(lab, "service")
    status = lab.run("status").out

    assert f"there is a {kind} of that name" in fault.reason
    assert fault.fix == ()
    assert f"            next: {fault.next_step}\n" in status
    away, then = fault.next_step.split(" && ")
    subprocess.run(shlex.split(away), check=True)
    assert then == "thv-llm setup"
    assert lab.run(*then.split()[1:], "--yes", "--models", "m-1").code is ExitCode.DONE
    assert faults(lab, "service", "port") == []


def test_a_stopped_service_that_a_proxy_tool_needs(lab: Lab) -> None:
    wire(lab, "opencode")

    fault = one_fault(lab, "service")

    assert "opencode" in fault.reason
    fix(lab, fault)
    assert faults(lab, "service", "port") == []


def test_a_service_that_hangs(lab: Lab) -> None:
    pid = lab.hang()

    with impatience():
        fault = one_fault(lab, "service")

    assert str(pid) in fault.reason
    assert fault.next_step == "thv-llm setup"


def test_a_service_with_old_settings(lab: Lab) -> None:
    lab.start()
    lab.home.configure(models=("m-1",), **connection(lab))

    fault = one_fault(lab, "service")

    assert fault.level is Level.WARN
    fix(lab, fault)
    assert faults(lab, "service") == []


def test_a_stale_pid_file_with_a_foreign_pid(lab: Lab) -> None:
    lab.want()
    own = pid_file.of_this_process(lab.paths, port=lab.port, now=time.time())
    pid_file.write(lab.paths.pid, own)

    fault = one_fault(lab, "service")

    assert "not running" in fault.reason
    fix(lab, fault)
    assert faults(lab, "service") == []


def test_a_foreign_process_on_the_port(lab: Lab) -> None:
    lab.want()
    with socket.create_server(("127.0.0.1", lab.port)):
        fault = next(check for check in faults(lab, "port") if check.name == "port")

    assert fault.level is Level.FAIL
    assert f"(pid {os.getpid()})" in fault.reason
    assert f"thv-llm setup --proxy-port {lab.port + 1}" in fault.next_step


def test_a_unit_for_a_program_that_moved(lab: Lab) -> None:
    manager = autostart.of(lab.environ, "linux", lambda command: "done\n")
    manager.install(lab.paths, lab.environ)
    unit = Path(manager.file)
    unit.write_text(unit.read_text().replace("ExecStart=", "ExecStart=/gone/"))

    fault = one_fault(lab, "autostart")

    assert manager.file in fault.reason
    assert fault.next_step == "thv-llm proxy install"


def test_nothing_that_starts_the_service_at_login(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    here = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert faults(lab, "autostart", **here) == []  # nothing needs it
    wire(lab, "opencode")

    fault = one_fault(lab, "autostart", **here)

    assert (fault.level, fault.next_step) == (Level.WARN, "thv-llm proxy install")
    assert faults(lab, "autostart") == []  # no manager here
    lab.home.configure(service__autostart=False)
    assert faults(lab, "autostart", **here) == []
