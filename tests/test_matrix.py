"""What the runs on all Pythons stand on: the right interpreters, and no warning that nobody sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import matrix

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_each_python_that_is_found_has_the_version_that_was_asked_for() -> None:
    for version, python in matrix.installed().items():
        told = subprocess.run([python, "-I", "--version"], capture_output=True, text=True, check=True)
        assert told.stdout.startswith(f"Python {version}."), python


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
