from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thv_llm import errors, paths
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.service import background
from thv_llm.state import ServiceState, State

TOP = str(Path(__file__).parents[2])
WANTED = State(service=ServiceState(wanted=True))


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    return paths.find({"HOME": str(tmp_path), "THV_LLM_HOME": str(tmp_path)})


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in place of ours: a shell script that the test writes."""
    script = tmp_path / "program"
    monkeypatch.setattr(paths, "own_command", lambda *arguments: ["/bin/sh", str(script), *arguments])
    yield script
    while True:  # what the test started must not outlive it as a zombie
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def test_the_service_inherits_what_it_needs_and_no_keys() -> None:
    kept = {"HOME": "/h", "THV_LLM_HOME": "/t", "https_proxy": "x", "NO_PROXY": "y", "XDG_RUNTIME_DIR": "/r"}
    keys = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "GITHUB_TOKEN": "k", "PYTHONPATH": "/evil"}

    assert background.environment({**kept, **keys}) == kept


def test_ready_is_told(program: Path) -> None:
    program.write_text('[ "$*" = "proxy start --detach" ] && echo ready')

    assert background.until_ready({}, 5)


def test_the_process_has_nothing_of_its_starter(program: Path, tmp_path: Path) -> None:
    shows = (
        f"import os, sys; sys.path.insert(0, {TOP!r}); from thv_llm.service import background\n"
        "report = background.detach()\n"
        "told = [os.getcwd(), os.getsid(0) == os.getpid(), os.umask(0), *map(os.readlink, "
        "('/proc/self/fd/0', '/proc/self/fd/2')), sorted(os.environ)]\n"
        f"with open({str(tmp_path / 'told')!r}, 'w') as file: file.write(repr(told))\n"
        "report.ready()"
    )
    program.write_text(f"exec {shlex.quote(sys.executable)} -I -c \"$(cat <<'EOT'\n{shows}\nEOT\n)\"\n")

    assert background.until_ready({"HOME": "/h", "ANTHROPIC_API_KEY": "canary", "PYTHONPATH": "/evil"}, 5)
    told = (tmp_path / "told").read_text()
    assert told.startswith(f"['/', True, {0o077}, '/dev/null', '/dev/null', ['HOME'")
    assert "ANTHROPIC_API_KEY" not in told
    assert "PYTHONPATH" not in told


@pytest.mark.parametrize("script", ["exit 1", "echo something else"])
def test_a_process_that_does_not_report_is_not_ready(program: Path, script: str) -> None:
    program.write_text(script)

    assert not background.until_ready({}, 5)


def test_a_process_that_hangs_is_given_up(program: Path) -> None:
    program.write_text("sleep 0.3")

    assert not background.until_ready({}, 0.05)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotConfiguredError("thv-llm is not configured", why="not set: x", next_step="thv-llm setup"),
        ThvLlmError("port 14000 is taken"),
        errors.UnreachableError("no"),
    ],
)
def test_the_reason_why_it_cannot_run_arrives_as_it_was(program: Path, error: ThvLlmError) -> None:
    reading, writing = os.pipe()
    background.Report(writing).failed(error)
    with os.fdopen(reading) as file:
        program.write_text(f"cat <<'EOT'\n{file.read()}\nEOT\n")

    with pytest.raises(ThvLlmError) as caught:
        background.until_ready({}, 5)

    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    "text", ["not json", '["os.system", "a", "b", "c"]', '["shown", "a", "b", "c"]', "[1]"]
)
def test_a_reason_that_makes_no_sense_is_still_an_error(program: Path, text: str) -> None:
    program.write_text(f"printf 'error\\n%s' '{text}'")

    with pytest.raises(ThvLlmError):
        background.until_ready({}, 5)


def test_a_report_is_made_once() -> None:
    reading, writing = os.pipe()
    report = background.Report(writing)
    report.ready()
    report.failed(ThvLlmError("late"))

    with os.fdopen(reading) as file:
        assert file.read() == "ready\0"


def test_a_parent_that_went_away_does_not_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    background.Report(writing).ready()


def _starts(program: Path, where: Paths, known: State) -> bool:
    mark = program.with_suffix(".ran")
    program.write_text(f"touch {mark}")
    background.ensure(where, known, {"PATH": os.environ["PATH"]})
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        return False
    ran = mark.exists()
    mark.unlink(missing_ok=True)
    return ran


def test_a_service_that_should_run_is_started_again(program: Path, where: Paths) -> None:
    assert _starts(program, where, WANTED)


def test_a_service_that_is_not_wanted_stays_down(program: Path, where: Paths) -> None:
    assert not _starts(program, where, replace(WANTED, service=ServiceState(wanted=False)))


def test_a_service_that_does_not_come_up_is_not_tried_at_every_call(program: Path, where: Paths) -> None:
    lock = Path(where.lock("service"))
    lock.touch()
    os.utime(lock, (0, 0))

    assert _starts(program, where, WANTED)
    assert not _starts(program, where, WANTED)


def test_a_service_that_came_up_and_died_is_started_at_once(program: Path, where: Paths) -> None:
    Path(where.lock("service")).touch()
    background.came_up(where)

    assert _starts(program, where, WANTED)


def test_a_failure_to_start_it_is_silent(where: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "own_command", lambda *arguments: ["/nonexistent"])

    background.ensure(where, WANTED, {})
