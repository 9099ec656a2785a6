"""The launcher: every Python gets to the program, or to one line that says what is needed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import matrix
from thv_llm import __version__

TOP = Path(__file__).resolve().parent.parent
LAUNCHER = TOP / "thv_llm.py"
STANDARD_NAMES = ("argparse", "json", "socket", "ssl", "struct", "tomllib", "typing", "dataclasses")
OLD = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10")


def _run(command: list[str | Path], **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], **environ}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def _old_python(tmp_path: Path) -> Path:
    """Return a Python that says that it is 3.8 before it runs anything."""
    pretender = tmp_path / "python3.8"
    code = (
        "import sys, runpy; sys.version_info = (3, 8, 18, 'final', 0); sys.version = '3.8.18 (main)'; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    pretender.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -c "{code}" "$@"\n')
    pretender.chmod(0o755)
    return pretender


def test_the_version_is_told() -> None:
    assert _run([sys.executable, LAUNCHER, "--version"]).stdout == f"thv-llm {__version__}\n"


def test_files_of_the_callers_project_shadow_nothing(tmp_path: Path) -> None:
    for name in STANDARD_NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken over')")

    told = subprocess.run(
        [sys.executable, "-S", LAUNCHER, "--version"],  # start-up hooks of this machine are not ours
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (told.returncode, told.stdout) == (0, f"thv-llm {__version__}\n"), told.stderr


def test_a_deleted_directory_is_a_place_to_start_from(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "{sys.executable}" "{LAUNCHER}" --version'

    told = subprocess.run(["/bin/sh", "-c", script], cwd=gone, capture_output=True, text=True, check=False)

    assert told.stdout == f"thv-llm {__version__}\n", told.stderr


def test_an_old_python_becomes_a_newer_one_that_is_on_path(tmp_path: Path) -> None:
    places = tmp_path / "bin"
    places.mkdir()
    (places / "python3.13").write_text("#!/bin/sh\nexit 127\n")  # a version manager's name for nothing
    (places / "python3.13").chmod(0o755)
    (places / "python3.15").mkdir()
    (places / "python3.14").write_bytes(b"\x7fELF for another processor")
    (places / "python3.14").chmod(0o755)
    (places / "python3.12").symlink_to(sys.executable)

    told = _run([_old_python(tmp_path), LAUNCHER, "--version"], PATH=f"{places}:/usr/bin:/bin")

    assert (told.returncode, told.stdout, told.stderr) == (0, f"thv-llm {__version__}\n", "")


def test_an_old_python_alone_says_in_one_line_what_is_needed(tmp_path: Path) -> None:
    launcher = tmp_path / "thv_llm.py"
    launcher.write_text(LAUNCHER.read_text().replace('"/usr/', '"/nowhere/').replace('"/opt/', '"/nowhere/'))

    told = _run([_old_python(tmp_path), launcher, "token"], PATH="/nowhere")

    assert told.returncode == 1
    assert told.stdout == ""
    assert told.stderr == "thv-llm: error: Python 3.11 or later is needed; this is 3.8.18\n"


def test_a_newer_python_that_is_none_is_not_started_again_and_again(tmp_path: Path) -> None:
    told = _run([_old_python(tmp_path), LAUNCHER], THV_LLM_STARTED_BY_OLDER_PYTHON="1")

    assert told.returncode == 1
    assert "is needed" in told.stderr


def test_the_old_pythons_of_this_machine_can_read_it() -> None:
    for python in (path for version in OLD for path in matrix.pyenv(version)):
        told = _run([python, LAUNCHER, "--version"])

        assert told.stdout == f"thv-llm {__version__}\n" or "is needed" in told.stderr, python
        assert "Traceback" not in told.stderr


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("launcher", LAUNCHER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("attribute", ["executable", "base_prefix"])
def test_the_python_of_microsofts_store_is_refused(monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    launcher = _loaded()
    launcher.refuse_store()
    monkeypatch.setattr(sys, attribute, r"C:\Users\me\AppData\Local\Microsoft\WindowsApps\python3.13")

    with pytest.raises(SystemExit, match=r"Python from the Microsoft Store(?s:.*)next: install Python from"):
        launcher.refuse_store()


def test_on_windows_an_old_python_becomes_the_newest_that_py_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def call(command: list[str], **_: object) -> int:
        started.append(command)
        return 7 if "-c" not in command else 0 if command[1] in ("-3.11", "-3.13") else 103

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(sys, "argv", ["thv_llm.py", "token"])
    with pytest.raises(SystemExit) as caught:
        _loaded().start_newer_on_windows()

    assert caught.value.code == 7
    assert started[-1] == ["py", "-3.13", "-I", str(LAUNCHER), "token"]
