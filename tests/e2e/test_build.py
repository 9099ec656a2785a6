"""The one file: the same bytes from every clone, and one clear line from a Python that is too old."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.machine import PYZ, NewMachine
from tests.matrix import TOP, interpreter


def old(version: str) -> str:
    """Return an interpreter of this machine that is too old; "" when there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [str(path / "bin" / "python") for path in sorted(pyenv.glob(f"{version}.*"))]
    return (found or [shutil.which(f"python{version}") or ""])[0]


OLD = [python for python in map(old, ("2.7", "3.6", "3.8", "3.10")) if python]


MACHINES = (
    ("3.11", 0o022, {"TZ": "Asia/Tokyo", "LC_ALL": "C"}),
    (
        "3.13",
        0o077,
        {"TZ": "America/Lima", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"},
    ),
)
"""What differs from one machine to the next, besides the place: the Python, umask and environment."""


def clone(place: Path, python: str, umask: int, environ: dict[str, str]) -> bytes:
    """Return what a new clone builds."""
    # How strict this run is concerns our Python, not the pip that fetches the wheels.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(["git", "clone", "-q", TOP, place], check=True, umask=umask)
    subprocess.run(
        ["make", "-s", "pyz", f"PYTHON={python}"],
        cwd=place,
        umask=umask,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**plain, **environ, "PATH": "/usr/bin:/bin"},
    )
    return (place / "dist" / "thv-llm.pyz").read_bytes()


def test_two_clones_build_the_same_bytes(tmp_path: Path) -> None:
    built = []
    for number, (version, umask, environ) in enumerate(MACHINES):
        python = interpreter(version)
        assert python, f"Python {version} is not here"
        built.append(hashlib.sha256(clone(tmp_path / f"clone {number}", python, umask, environ)).hexdigest())
    assert built[0] == built[1]


@pytest.mark.parametrize("python", OLD or ["no old Python is on this machine"])
def test_an_old_python_says_in_one_line_what_is_needed(new_machine: NewMachine, python: str) -> None:
    machine = new_machine()
    nothing_newer = machine.place / "old"
    nothing_newer.mkdir()
    (nothing_newer / "python3").symlink_to(python)

    done = machine.run(python, str(PYZ), "token", env={"PATH": str(nothing_newer)})

    if done.code == 5:  # it found a newer one where systems have it, which said `not configured`
        assert "not configured" in done.err or "thv-llm setup" in done.err
    else:
        assert done.code == 1, done.said
        assert len(done.err.splitlines()) == 1
        assert "3.11" in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
