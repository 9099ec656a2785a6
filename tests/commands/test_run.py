from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import homes
from tests.commands.machine import Machine
from thv_llm import state
from thv_llm.errors import ExitCode, NotFoundError, UsageError

PROGRAM = Path(__file__).resolve().parents[2] / "thv_llm.py"
CURL = (
    'curl -sS -o /dev/null -w "%{http_code}" -H "Authorization: Bearer $OPENAI_API_KEY" '
    "$OPENAI_BASE_URL/models"
)


def thv(machine: Machine, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own, because `run` becomes the command."""
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env={**machine.environ, "PATH": f"{machine.home}/bin:/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def logged_in(here: Machine) -> Iterator[Machine]:
    """A machine with a session and no service."""
    assert here.setup("--yes", "--no-autostart").code is ExitCode.DONE
    yield here
    thv(here, "proxy", "stop")


def test_the_command_reaches_the_gateway_and_its_exit_code_is_ours(logged_in: Machine) -> None:
    done = thv(logged_in, "run", "--", "sh", "-c", f"{CURL}; exit 7")

    assert (done.stdout, done.returncode) == ("200", 7), done.stderr
    assert [request.admitted for request in logged_in.gateway.requests][-1:] == [True]


def test_a_proxy_in_the_environment_does_not_get_the_requests(logged_in: Machine) -> None:
    script = f"{CURL}; echo; echo $NO_PROXY"
    done = thv(logged_in, "run", "sh", "-c", script, HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="corp")

    assert done.stdout.splitlines() == ["200", "corp,127.0.0.1"], done.stderr


def test_the_variables_of_a_configured_direct_tool_stay_out_of_it(logged_in: Machine) -> None:
    assert "claude-code" in logged_in.wired
    done = thv(logged_in, "run", "--", "sh", "-c", "env | grep -c ANTHROPIC")
    named = thv(logged_in, "run", "--tool", "anthropic", "--", "sh", "-c", "env | grep ANTHROPIC_AUTH_TOKEN")

    assert done.stdout == "0\n"
    assert "Without ANTHROPIC_BASE_URL" in done.stderr
    assert named.stdout == f"ANTHROPIC_AUTH_TOKEN={state.keys(logged_in.paths, ['run'])['run'].reveal()}\n"


def test_a_tool_that_variables_configure_is_known_by_its_program(logged_in: Machine) -> None:
    program = logged_in.home / "bin" / "openhands"
    program.write_text('#!/bin/sh\necho "$LLM_MODEL" "$@"\n')
    program.chmod(0o755)

    done = thv(logged_in, "run", "openhands", "--headless", "-t", "a b", "--debug")

    assert done.stdout == f"openai/{logged_in.gateway.models[0]} --headless -t a b --debug\n", done.stderr


def test_a_closed_pipe_ends_the_command_as_it_would_without_us(logged_in: Machine) -> None:
    words = [sys.executable, str(PROGRAM), "run", "--", "sh", "-c", "yes; echo $? >&2"]
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(words)} | head -n 1"],
        env={**logged_in.environ, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stderr.splitlines()[-1:] == ["141"]


def test_logged_out_the_command_is_not_started(here: Machine) -> None:
    assert here.setup("--lazy", "--yes", "--no-autostart").code is ExitCode.DONE
    done = thv(here, "run", "--", "touch", str(here.home / "started"))

    assert done.returncode == ExitCode.LOGIN_REQUIRED
    assert "next: thv-llm login" in done.stderr
    assert not (here.home / "started").exists()


def test_a_program_that_does_not_exist_is_127(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    home.configure()
    with pytest.raises(NotFoundError) as caught:
        home.run("run", "--", "no-such-program")
    assert caught.value.exit_code == 127


def test_without_a_command_it_says_how_to_give_one(tmp_path: Path) -> None:
    for arguments in (("run",), ("run", "--"), ("run", "--tool", "openai", "--")):
        with pytest.raises(UsageError, match="no command was given"):
            homes.make(tmp_path).run(*arguments)
