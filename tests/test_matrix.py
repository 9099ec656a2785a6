"""What the runs on all Pythons stand on: the right interpreters, and no warning that stays unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import matrix, windows
from thv_llm.system import processes

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_each_python_that_is_found_has_the_version_that_was_asked_for() -> None:
    for python in matrix.installed():
        told = subprocess.run([python.path, "-I", "--version"], capture_output=True, text=True, check=True)
        assert told.stdout == f"Python {python.version}\n", python


def test_this_python_is_among_them() -> None:
    assert matrix.interpreter(HERE)
    assert matrix.interpreter("3.99") is None


def warned(place: Path, code: str, *options: str) -> str:
    """Return what is written down when a Python of a test environment runs this."""
    start = (
        f"import runpy, sys; sys.prefix = {str(place)!r}; runpy.run_path({str(matrix.CHILD_WARNINGS)!r})\n"
    )
    subprocess.run([sys.executable, "-I", *options, "-c", start + code], capture_output=True, check=False)
    log = place / "child-warnings.log"
    return log.read_text() if log.is_file() else ""


@pytest.mark.parametrize(
    ("code", "category"),
    [("open('/dev/null')", "ResourceWarning"), ("import warnings; warnings.warn('x')", "UserWarning")],
)
def test_a_warning_of_a_child_process_is_written_down(tmp_path: Path, code: str, category: str) -> None:
    assert category in warned(tmp_path, code)


def test_a_child_process_that_has_orders_about_warnings_follows_them(tmp_path: Path) -> None:
    assert warned(tmp_path, "open('/dev/null')", "-W", "error") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans over")
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("(setsid sleep 0.2 &)", 0)])
def test_a_program_that_leaves_nothing_behind_ends_as_it_does(script: str, code: int) -> None:
    assert (
        subprocess.run([sys.executable, matrix.ORPHANS, "sh", "-c", script], check=False).returncode == code
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans over")
def test_what_a_program_leaves_behind_is_named_and_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"(setsid sh -c 'echo $$ > {pid}; exec sleep 60' >/dev/null 2>&1 &); sleep 0.2"
    impatient = (
        "import sys; from tests import orphans; orphans.GRACE_S = 0.5; sys.exit(orphans.main(sys.argv[1:]))"
    )

    done = subprocess.run(
        [sys.executable, "-c", impatient, "sh", "-c", script],
        cwd=matrix.TOP,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == f"still there: {int(pid.read_text())} sleep 60\n"
    assert processes.look(int(pid.read_text())) is None


def test_what_windows_leaves_out_is_there() -> None:
    patterns = [pattern for group in windows.EXCLUDED.values() for pattern in group]

    assert [pattern for pattern in patterns if not list(matrix.TOP.glob(pattern))] == []
    assert set(windows.everything()).isdisjoint(patterns)
