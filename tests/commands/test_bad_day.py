"""A day on which one thing after another breaks: doctor names it, and the printed command fixes it.

It all happens to one machine, on which after each test all is well again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands.machine import CLAUDE, OPENCODE, Machine, machine
from tests.service.lab import impatience, until
from thv_llm import state
from thv_llm.service import helper
from thv_llm.state import State
from thv_llm.system import processes


@contextlib.contextmanager
def in_use(home: Path) -> Iterator[Machine]:
    """Give a machine on which all is well."""
    with machine(home) as made:
        made.environ["THV_LLM_SOCKET"] = str(home / "s")
        assert made.setup("--models", "m-1", with_service=True).code == 0
        assert faults(made) == []
        yield made
        made.run("proxy", "stop")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with in_use(tmp_path_factory.mktemp("home")) as made:
        yield made


def faults(here: Machine) -> list[dict[str, str]]:
    checks: list[dict[str, str]] = json.loads(here.run("doctor", "--format", "json").out)["checks"]
    return [check for check in checks if check["level"] == "fail"]


def follow(here: Machine, remedy: str) -> None:
    """Type the command that was printed, the first one when there are several."""
    command = remedy.split(", then ")[0].split(", or ")[-1]
    words = shlex.split(command[command.index("thv-llm ") :])
    done = here.run(*words[1:])
    assert done.code == 0, done.err


def pid(here: Machine) -> int:
    return int(json.loads(Path(here.paths.pid).read_text())["pid"])


def claude_loses_our_keys(here: Machine) -> None:
    here.claude.write_text('{"model": "haiku"}')


def opencode_loses_its_file(here: Machine) -> None:
    here.opencode.unlink()


def the_session_is_revoked(here: Machine) -> None:
    here.provider.grants._live.clear()
    here.run("token", "--force-refresh")


def the_session_is_gone(here: Machine) -> None:
    here.run("logout")


def the_helper_is_gone(here: Machine) -> None:
    Path(here.paths.helper).unlink()


def the_helper_fails(here: Machine) -> None:
    Path(here.paths.helper).write_text("#!/bin/sh\nexit 7\n")


def the_helpers_program_is_gone(here: Machine) -> None:
    helper.write(here.paths, program_path="/gone/thv-llm.pyz")


def the_program_was_moved(here: Machine) -> None:
    def moved(known: State) -> State:
        return replace(known, service=replace(known.service, program="/gone/thv-llm.pyz"))

    state.update(here.paths, moved)


def the_service_is_killed(here: Machine) -> None:
    victim = pid(here)
    os.kill(victim, signal.SIGKILL)
    until(lambda: processes.look(victim) is None)


def the_service_hangs(here: Machine) -> None:
    os.kill(pid(here), signal.SIGSTOP)


@pytest.mark.parametrize(
    "breaks",
    [
        claude_loses_our_keys,
        opencode_loses_its_file,
        the_session_is_revoked,
        the_session_is_gone,
        the_helper_is_gone,
        the_helper_fails,
        the_helpers_program_is_gone,
        the_program_was_moved,
        the_service_is_killed,
    ],
)
def test_what_breaks_is_named_and_fixed_by_the_printed_command(
    here: Machine, breaks: Callable[[Machine], None]
) -> None:
    breaks(here)
    found = faults(here)

    assert found
    follow(here, found[0]["remedy"])
    assert faults(here) == []


def test_a_service_that_hangs_is_named_and_fixed_by_the_printed_command(here: Machine) -> None:
    the_service_hangs(here)
    with impatience():
        found = faults(here)
        follow(here, found[0]["remedy"])

    assert faults(here) == []


@pytest.mark.parametrize(("flag", "word"), [("--tls-skip-verify", "verify"), ("--no-require-key", "key")])
def test_a_dangerous_setting_is_warned_of_and_taken_back_by_the_printed_command(
    here: Machine, flag: str, word: str
) -> None:
    def warned() -> list[dict[str, str]]:
        checks = json.loads(here.run("doctor", "--format", "json").out)["checks"]
        return [one for one in checks if one["name"] == "settings" and one["level"] != "ok"]

    assert warned() == []
    here.run("config", "set", flag)

    (found,) = warned()
    assert word in found["remedy"]
    follow(here, found["remedy"])

    assert warned() == []


def test_a_foreign_process_on_the_port_is_evaded_by_the_printed_command(here: Machine) -> None:
    here.run("proxy", "stop")
    with socket.create_server(("127.0.0.1", here.port)):
        with impatience():
            fault = next(fault for fault in faults(here) if fault["name"] == "port")

        follow(here, fault["remedy"])

        assert faults(here) == []
    assert f":{here.port}/" not in here.opencode.read_text()


def test_in_the_middle_of_it_teardown_still_gives_every_byte_back(tmp_path: Path) -> None:
    with in_use(tmp_path) as other:
        the_service_hangs(other)
        the_helper_is_gone(other)

        with impatience():
            assert other.run("teardown").code == 0

        assert other.opencode.read_text() == OPENCODE
        assert other.claude.read_bytes().decode() == CLAUDE
        assert other.wired == []
