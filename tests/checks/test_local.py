from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checks.finding import connection, faults, look, mend, one_fault, wire
from tests.service.lab import Lab, impatience
from thv_llm import checks, state
from thv_llm.checks import Ground, Level, local
from thv_llm.service import helper


@pytest.mark.parametrize(
    ("name", "mode"),
    [("llm.toml", 0o644), ("llm-state.json", 0o660), ("", 0o755), ("llm-session.enc", 0o604)],
)
def test_a_file_that_others_can_read(lab: Lab, name: str, mode: int) -> None:
    path = os.path.join(lab.paths.directory, name).rstrip("/")
    os.chmod(path, mode)

    fault = one_fault(lab, "files")

    assert fault.level is Level.FAIL
    assert path in fault.reason
    mend(lab, fault)
    assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077
    assert faults(lab, "files") == []


def test_settings_that_are_no_toml(lab: Lab) -> None:
    Path(lab.paths.settings).write_text("gateway_url = \n")

    fault = one_fault(lab)  # and nothing else: the rest depends on them

    assert fault.name == "settings"
    assert "line 1" in fault.reason
    assert "mend that line" in fault.remedy


def test_settings_that_are_missing(lab: Lab) -> None:
    os.unlink(lab.paths.settings)

    fault = one_fault(lab)

    assert fault.name == "settings"
    assert fault.remedy.startswith("thv-llm setup --gateway-url")


@pytest.mark.parametrize("key", ["tls_skip_verify", "proxy__require_key"])
def test_settings_that_are_dangerous(lab: Lab, key: str) -> None:
    lab.home.configure(**{**connection(lab), key: key == "tls_skip_verify"})

    fault = one_fault(lab, "settings")

    assert fault.level is Level.WARN
    assert key.rpartition("__")[2].replace("_", "-") in fault.remedy


def test_a_state_file_that_is_damaged(lab: Lab) -> None:
    Path(lab.paths.state).write_text("{")

    found = faults(lab)

    assert {check.name for check in found} <= {"state", "program"}
    assert any(lab.paths.state in check.reason and "move it away" in check.remedy for check in found)


def test_a_program_that_was_moved_since_setup(lab: Lab) -> None:
    lab.want(wanted=False)
    lab.change(service=replace(state.load(lab.paths.state).service, program="/gone/thv-llm.pyz"))

    fault = one_fault(lab, "program")

    assert "/gone/thv-llm.pyz" in fault.reason
    assert fault.remedy == "thv-llm setup"


def test_a_helper_that_is_missing(lab: Lab) -> None:
    wire(lab, "claude-code")
    os.unlink(lab.paths.helper)

    fault = one_fault(lab, "helper")

    assert (fault.reason, fault.remedy) == (f"{lab.paths.helper} is missing", "thv-llm setup")


def test_a_helper_that_may_not_be_run(lab: Lab) -> None:
    os.chmod(lab.paths.helper, 0o600)

    fault = one_fault(lab, "helper")

    mend(lab, fault)
    assert "it answered" in look(lab, "helper")[0].reason


@pytest.mark.parametrize(
    "gone", [{"python": "/gone/python3"}, {"python": sys.executable, "program_path": "/gone/thv-llm.pyz"}]
)
def test_a_helper_whose_interpreter_or_program_is_gone(lab: Lab, gone: dict[str, str]) -> None:
    helper.write(lab.paths, **gone)

    fault = one_fault(lab, "helper")

    assert "/gone/" in fault.reason
    assert fault.remedy == "thv-llm setup"


def test_a_helper_that_fails(lab: Lab) -> None:
    Path(lab.paths.helper).write_text("#!/bin/sh\nexit 7\n")

    fault = one_fault(lab, "helper")

    assert "exit code 7" in fault.reason


def test_a_helper_that_never_answers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(lab.paths.helper).write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(local, "HELPER_TIMEOUT_S", 0.2)

    fault = one_fault(lab, "helper")

    assert fault.reason.startswith("it gave no answer within ")
    assert fault.remedy == "thv-llm proxy restart"


def test_a_helper_is_not_waited_for_while_the_service_hangs(lab: Lab) -> None:
    lab.hang()

    with impatience():
        (found,) = look(lab, "helper")

    assert found.level is Level.OK
    assert found.reason.endswith("not tried, since the service does not answer")


def test_a_helper_that_answers_is_timed(lab: Lab) -> None:
    lab.start(proxy=False)
    (found,) = look(lab, "helper")

    assert found.reason.startswith("it answered in ")


def test_a_helper_that_answers_late(lab: Lab) -> None:
    ground = Ground(lab.environ, lab.paths, "linux", time.time, slow_helper_s=0.0)
    (found,) = checks.run(ground, only=("helper",))

    assert found.level is Level.WARN
    assert found.remedy == "thv-llm proxy restart"
