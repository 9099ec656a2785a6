from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.lab import Lab
from thv_llm import paths
from thv_llm.errors import LoginRequiredError, ThvLlmError
from thv_llm.secret import Secret
from thv_llm.service import helper
from thv_llm.service.agent import Agent
from thv_llm.tokens import AccessToken

HOMES = [
    "plain",
    "with space",
    "quote'single",
    'quote"double',
    "dollar $HOME",
    "back`tick`",
    "back\\slash",
    "ünïcødé 日本",
    "semi;colon & more",
    "brace}close{open",
    "star*?[a-z]",
    "#hash",
    "-dash",
    "~tilde",
    "!bang",
    "percent%s%%",
    "@program@",
    "tab\there",
    "equal=sign",
    " leading and trailing ",
]
NASTY = ("quote'single", "dollar $HOME", "back\\slash")
SHELLS = [
    shell for shell in ("dash", "bash --posix", "busybox sh", "ksh", "zsh") if shutil.which(shell.split()[0])
]


class Machine:
    """A home with a helper in it, and an agent that serves it."""

    def __init__(self, home: Path, program_text: str = "import sys; print('program', *sys.argv[1:])") -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        # The socket lies elsewhere, because such paths must be short.
        self.paths = paths.Paths(str(home / "toolhive"), str(home), str(home.parent / "s"))
        self.program = home / "program.pyz"
        self.program.write_text(program_text)
        self.failure: Exception | None = None
        self.calls: list[tuple[str, ThvLlmError | None]] = []
        self.agent = Agent(
            self.paths.socket, self.get, lambda verb, rest: "", told=lambda *call: self.calls.append(call)
        )

    def get(self, min_valid_s: float, *, newer_than: float | None = None) -> AccessToken:
        if self.failure:
            raise self.failure
        return AccessToken(Secret("at-1"), 1.0)

    def write(self, **options: str) -> None:
        helper.write(self.paths, **{"program_path": str(self.program), **options})

    def run(self, *options: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.paths.helper, *options],
            env={**self.environ, **environ},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "home")
    made.write()
    made.agent.start()
    yield made
    made.agent.stop()


def test_it_prints_the_agents_token_and_nothing_else(machine: Machine) -> None:
    done = machine.run()

    assert (done.stdout, done.stderr, done.returncode) == ("at-1\n", "", 0)


def test_the_agent_is_told_which_tool_calls(machine: Machine) -> None:
    assert machine.run("--tool", "claude-code").stdout == "at-1\n"
    machine.failure = LoginRequiredError("cannot get an access token", why="ended")
    assert machine.run("--tool", "codex").returncode == 4
    machine.run()

    assert machine.calls == [("claude-code", None), ("codex", machine.failure)]


def test_an_agent_that_knows_no_tools_does_not_keep_the_token_back(machine: Machine) -> None:
    machine.agent.stop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(machine.paths.socket)
        listener.listen()

        def refuse() -> None:
            sock, _ = listener.accept()
            with sock:
                assert sock.recv(100) == b"token 600 for claude-code\n"
                sock.sendall(b"err 2 token takes a number of seconds\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        assert machine.run("--tool", "claude-code").stdout == "program token\n"
        thread.join()


def test_the_program_is_run_without_the_tools_name(machine: Machine) -> None:
    assert machine.run("--tool", "codex", "--min-valid", "5").stdout == "program token --min-valid 5\n"
    machine.agent.stop()
    assert machine.run("--tool", "codex").stdout == "program token\n"
    assert machine.run("--tool").stdout == "program token\n"


def test_the_agents_refusal_is_its_own(machine: Machine) -> None:
    machine.failure = LoginRequiredError("cannot get an access token", why="ended", next_step="thv-llm login")

    done = machine.run()

    assert done.stdout == ""
    assert done.stderr == (
        "thv-llm: error: cannot get an access token\n  why:  ended\n  next: thv-llm login\n"
    )
    assert done.returncode == 4


def test_the_program_takes_over_what_the_agent_does_not_serve_at_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "PATIENCE_S", 0.1)
    machine.write()
    machine.agent.stop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(machine.paths.socket)
        listener.listen()

        assert machine.run().stdout == "program token\n"


def test_without_an_agent_the_program_is_run(machine: Machine) -> None:
    machine.agent.stop()

    assert machine.run().stdout == "program token\n"


def test_with_options_the_program_is_run(machine: Machine) -> None:
    assert machine.run("--min-valid", "5 6").stdout == "program token --min-valid 5 6\n"


@pytest.mark.parametrize("name", HOMES)
def test_it_works_from_any_home_run_by_itself_and_by_a_shell(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path / name)
    machine.write()

    assert machine.run().stdout == "program token\n"
    for shell in SHELLS if name in NASTY else ():
        done = subprocess.run(
            [*shell.split(), machine.paths.helper],
            env=machine.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("program token\n", ""), shell
    as_a_string = subprocess.run(
        ["/bin/sh", "-c", shlex.quote(machine.paths.helper)],
        env=machine.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert as_a_string.stdout == "program token\n"
    assert helper.names(machine.paths.helper) == (sys.executable, str(machine.program))


def test_a_home_with_a_line_break_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "new\nline")

    with pytest.raises(ThvLlmError, match="line break"):
        machine.write()
    assert not os.path.exists(machine.paths.helper)


def test_hostile_modules_in_the_current_directory_and_in_pythonpath_are_not_imported(
    machine: Machine, tmp_path: Path
) -> None:
    for name in (
        "json",
        "posix",
        "_socket",
        "sys",
        "os",
        "sitecustomize",
        "usercustomize",
        "encodings",
        "site",
    ):
        (tmp_path / f"{name}.py").write_text("print('owned')\n")

    done = machine.run(
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
        PYTHONSTARTUP=str(tmp_path / "json.py"),
        PYTHONHOME=str(tmp_path),
        PYTHONINSPECT="1",
    )

    assert (done.stdout, done.returncode) == ("at-1\n", 0)


@pytest.mark.parametrize("gone", ["/nonexistent/python3.11", "/nonexistent/with space/python"])
def test_when_its_interpreter_is_gone_the_one_on_path_is_used(machine: Machine, gone: str) -> None:
    machine.write(python=gone)
    directory = os.path.dirname(sys.executable)

    assert machine.run(PATH=f"{directory}:/bin").stdout == "at-1\n"

    none = machine.run(PATH="/nonexistent")
    assert none.returncode == 1
    assert none.stdout == ""
    assert "there is no python3 on PATH" in none.stderr


def test_when_the_program_is_gone_it_says_so(machine: Machine) -> None:
    machine.agent.stop()
    machine.program.unlink()

    done = machine.run()

    assert (done.stdout, done.returncode) == ("", 1)
    assert f"{machine.program} is missing" in done.stderr


def test_it_means_the_setup_that_wrote_it_whatever_the_tools_environment_says(machine: Machine) -> None:
    machine.program.write_text("import os; print(os.environ['THV_LLM_HOME'], os.environ['THV_LLM_SOCKET'])")
    machine.agent.stop()

    done = machine.run(THV_LLM_HOME="/elsewhere", XDG_CONFIG_HOME="/elsewhere")

    assert done.stdout == f"{machine.paths.directory} {machine.paths.socket}\n"


def test_a_forwarded_socket_can_be_named(machine: Machine, tmp_path: Path) -> None:
    forwarded = Agent(
        str(tmp_path / "f"), lambda s, newer_than=None: AccessToken(Secret("at-f"), 1), lambda v, r: ""
    )
    forwarded.start()
    try:
        assert machine.run(THV_LLM_SOCKET=str(tmp_path / "f")).stdout == "at-f\n"
    finally:
        forwarded.stop()


@pytest.mark.parametrize("stdout", [">&-", "> /dev/full"])
def test_what_cannot_be_printed_is_an_error_without_a_traceback(machine: Machine, stdout: str) -> None:
    if "full" in stdout and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" {stdout}', machine.paths.helper], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "cannot print the token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_traceback(machine: Machine) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [machine.paths.helper], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_writing_it_again_changes_nothing_and_restores_its_mode(machine: Machine) -> None:
    before = os.stat(machine.paths.helper)
    assert stat.S_IMODE(before.st_mode) == 0o700
    os.chmod(machine.paths.helper, 0o644)

    machine.write()

    after = os.stat(machine.paths.helper)
    assert stat.S_IMODE(after.st_mode) == 0o700
    assert after.st_mtime_ns == before.st_mtime_ns


def test_what_is_not_ours_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("#!/bin/sh\necho hello\n")

    assert helper.names(str(tmp_path / "x")) == ()
    assert helper.names(str(tmp_path / "missing")) == ()


@pytest.mark.parametrize("is_helper", [True, False], ids=["helper", "token"])
def test_a_service_that_hangs_costs_seconds_and_not_the_time_of_a_refresh(lab: Lab, is_helper: bool) -> None:
    lab.hang()
    command = [lab.paths.helper] if is_helper else paths.own_command("token")
    began = time.monotonic()
    done = subprocess.run(command, env=lab.environ, capture_output=True, check=False, timeout=30)

    assert time.monotonic() - began < 8.0  # 3.0 and 4.2 s on an idle machine
    assert done.returncode == 6
    assert b"does not respond" in done.stderr
    assert b"next: thv-llm proxy restart" in done.stderr
