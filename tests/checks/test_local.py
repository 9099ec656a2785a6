from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests import environs
from tests.checks.finding import connection, faults, fix, look, one_fault, wire
from tests.service.lab import Lab, impatience
from thv_llm import checks, state, system
from thv_llm.checks import Installation, Level, local
from thv_llm.service import helper


@pytest.mark.parametrize(
    ("name", "mode"),
    [("llm.toml", 0o664), ("llm-state.json", 0o660), ("", 0o755), ("llm-session.enc", 0o604)],
)
def test_a_file_that_others_can_read(lab: Lab, name: str, mode: int) -> None:
    path = os.path.join(lab.paths.directory, name).rstrip("/")
    os.chmod(path, mode)

    fault = one_fault(lab, "files")

    assert fault.level is Level.FAIL
    assert path in fault.reason
    fix(lab, fault)
    assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077
    assert fault.fix == fault.remedy
    assert faults(lab, "files") == []


def test_settings_that_others_can_only_read_are_fine(lab: Lab) -> None:
    os.chmod(lab.paths.settings, 0o444)

    assert faults(lab, "files") == []


def test_settings_that_are_no_toml(lab: Lab) -> None:
    Path(lab.paths.settings).write_text("gateway_url = \n")

    fault = one_fault(lab)  # and nothing else: the rest depends on them

    assert fault.name == "settings"
    assert "line 1" in fault.reason
    assert "fix that line" in fault.next_step


def test_a_record_that_is_damaged_is_one_finding(lab: Lab) -> None:
    Path(lab.paths.state).write_text("{\n")

    assert [fault.name for fault in faults(lab, "program", "state")] == ["state"]


def test_settings_that_are_missing(lab: Lab) -> None:
    os.unlink(lab.paths.settings)

    fault = one_fault(lab)

    assert fault.name == "settings"
    assert fault.next_step.startswith("thv-llm setup URL (the gateway's), or ")


@pytest.mark.parametrize("key", ["tls_skip_verify", "proxy__require_key"])
def test_settings_that_are_dangerous(lab: Lab, key: str) -> None:
    lab.home.configure(**{**connection(lab), key: key == "tls_skip_verify"})

    fault = one_fault(lab, "settings")

    assert fault.level is Level.WARN
    assert key.rpartition("__")[2].replace("_", "-") in fault.next_step


def test_a_state_file_that_is_damaged(lab: Lab) -> None:
    Path(lab.paths.state).write_text("{")

    found = faults(lab)

    assert {check.name for check in found} <= {"state", "program"}
    assert any(lab.paths.state in check.reason and "&& thv-llm setup" in check.next_step for check in found)


def test_a_program_that_was_moved_since_setup(lab: Lab) -> None:
    lab.want(wanted=False)
    lab.change(service=replace(state.load(lab.paths.state).service, program="/gone/thv-llm.pyz"))

    fault = one_fault(lab, "program")

    assert "/gone/thv-llm.pyz" in fault.reason
    assert fault.next_step == "thv-llm setup"


def test_a_helper_that_is_missing(lab: Lab) -> None:
    wire(lab, "claude-code")
    os.unlink(lab.paths.helper)

    fault = one_fault(lab, "helper")

    assert (fault.reason, fault.next_step) == (f"{lab.paths.helper} is missing", "thv-llm setup")


def test_a_helper_that_may_not_be_run(lab: Lab) -> None:
    os.chmod(lab.paths.helper, 0o600)

    fault = one_fault(lab, "helper")

    fix(lab, fault)
    assert "responds in" in look(lab, "helper")[0].reason


@pytest.mark.parametrize(
    "gone", [{"python": "/gone/python3"}, {"python": sys.executable, "program_path": "/gone/thv-llm.pyz"}]
)
def test_a_helper_whose_interpreter_or_program_is_gone(lab: Lab, gone: dict[str, str]) -> None:
    helper.write(lab.paths, **gone)

    fault = one_fault(lab, "helper")

    assert "/gone/" in fault.reason
    assert fault.next_step == "thv-llm setup"


def test_a_helper_that_fails(lab: Lab) -> None:
    Path(lab.paths.helper).write_text("#!/bin/sh\nexit 7\n")

    fault = one_fault(lab, "helper")

    assert "exit code 7" in fault.reason


def test_a_helper_that_never_responds(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(lab.paths.helper).write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(local, "HELPER_TIMEOUT_S", 0.2)

    fault = one_fault(lab, "helper")

    assert fault.reason.startswith("no response within ")
    assert fault.next_step == "thv-llm setup"


def test_a_helper_is_not_waited_for_while_the_service_hangs(lab: Lab) -> None:
    lab.hang()

    with impatience():
        (found,) = look(lab, "helper")

    assert found.level is Level.OK
    assert found.reason.endswith("not tested (the service does not respond)")


def test_a_helper_that_responds_is_timed(lab: Lab) -> None:
    lab.start(proxy=False)
    (found,) = look(lab, "helper")

    assert found.reason.startswith("responds in ")


def test_a_helper_that_responds_late(lab: Lab) -> None:
    here = Installation(lab.environ, lab.paths, "linux", time.time, slow_helper_s=0.0)
    (found,) = checks.run(here, only=("helper",))

    assert found.level is Level.WARN
    assert found.next_step == "thv-llm setup"


@pytest.mark.posix
@pytest.mark.parametrize(
    ("shell", "startup"), [("/bin/zsh", ".zshrc"), ("/bin/bash", ".bashrc"), ("/bin/sh", ".profile")]
)
def test_the_line_that_puts_the_program_on_path_works(tmp_path: Path, shell: str, startup: str) -> None:
    program = tmp_path / "Downloads" / "thv-llm 0.2.pyz"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho it is here\n")
    program.chmod(0o755)
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": shell}

    line = local.path_advice(environ, str(program))
    subprocess.run(["/bin/sh", "-c", line], env=environ, check=True)
    run = f'. "$HOME/{startup}"; thv-llm'
    done = subprocess.run(["/bin/sh", "-c", run], env=environ, check=True, capture_output=True, text=True)

    assert done.stdout == "it is here\n"
    linked = {**environ, "PATH": f"{tmp_path}/.local/bin:/usr/bin"}
    assert local.path_advice(linked, str(program)) == ""


@pytest.mark.posix
def test_a_command_of_that_name_is_the_program_only_if_it_starts_it(tmp_path: Path) -> None:
    command, program = tmp_path / "bin" / "thv-llm", str(tmp_path / "thv-llm.pyz")
    environ = {"HOME": str(tmp_path), "PATH": str(command.parent)}
    assert local.no_command(environ) == "no command thv-llm is on PATH"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec python3 "{program}" "$@"\n')
    command.chmod(0o755)

    assert local.path_advice(environ, program) == ""
    assert local.path_advice(environ, "/another/thv-llm.pyz") != ""
    assert local.no_command(environ) == f"the command thv-llm is another program, {command}"


@pytest.mark.posix
def test_fish_has_its_own_line(tmp_path: Path) -> None:
    line = local.path_advice({"HOME": str(tmp_path), "SHELL": "/usr/bin/fish"}, "/opt/x/thv-llm")

    assert line == "fish_add_path /opt/x"


def test_on_windows_only_our_launcher_counts_and_not_one_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "NEEDS_INTERPRETER", True)
    environ = environs.user(tmp_path, THV_LLM_HOME=str(tmp_path / "own"))
    launcher = tmp_path / "own" / "bin" / "thv-llm.cmd"
    launcher.parent.mkdir(parents=True)
    launcher.touch()
    other = tmp_path / "thv-llm.cmd"
    other.touch()
    for found, is_right in ((launcher, True), (other, False), (None, False), ("thv-llm.cmd", False)):
        monkeypatch.setattr(shutil, "which", lambda *_, found=found, **__: found and str(found))
        assert (local.path_advice(environ, "thv-llm.pyz") == "") is is_right
