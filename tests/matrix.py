"""Run the tests on every Python that is installed, each in a virtual environment of its own.

    python3 tests/matrix.py [--only 3.11 | --first] [PYTEST ARGUMENTS]
    python3 tests/matrix.py --check        ruff, mypy and the architecture tests instead
    python3 tests/matrix.py --run MODULE   a program of the tests, on the newest Python

The environments live in `.cache/` and are made anew when `requirements.txt` changes. The last
line counts all tests of all versions. Where `CI` is set, a skipped test is a failure: what can be
installed must be. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
CACHE = TOP / ".cache"
REQUIREMENTS = TOP / "tests" / "requirements.txt"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OUTCOMES = ("passed", "failed", "error", "skipped")


def interpreter(version: str) -> str | None:
    """Return a Python of that version: on PATH, or of pyenv."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates += [str(path / "bin" / "python") for path in sorted(pyenv.glob(f"{version}.*"))]
    for python in candidates:
        if python and _version(python) == version:
            return python
    return None


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def environment(version: str, python: str) -> Path:
    """Return the Python of a virtual environment that has exactly what `requirements.txt` pins."""
    place = CACHE / f"venv-{version}"
    stamp = place / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    inside = place / "bin" / "python"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps"]
        install = ["-m", "pip", "install", *options, "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([str(inside), *install], check=True)
        stamp.write_text(wanted)
    return inside


def run(python: Path, arguments: list[str]) -> dict[str, int]:
    """Run pytest, show what it says, and return how many tests ended how."""
    command = [str(python), "-X", "dev", "-m", "pytest", "-rs", *arguments]
    process = subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    last = ""
    with process.stdout as lines:
        for line in lines:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", last)}
    if process.wait() and not counts.get("failed") and not counts.get("error"):
        counts["error"] = 1
    return counts


CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "-p", "thv_llm", "-p", "tests"),
    ("pytest", "tests/test_architecture.py"),
)


def check() -> int:
    """Run every static check; return how many failed."""
    version, python = next(iter(interpreters(VERSIONS)))
    inside = environment(version, python)
    return sum(
        subprocess.run([str(inside), "-m", *words], cwd=TOP, check=False).returncode != 0 for words in CHECKS
    )


def program(words: list[str]) -> int:
    """Run a module of the tests on the newest Python."""
    version, python = list(interpreters(VERSIONS))[-1]
    inside = environment(version, python)
    return subprocess.run([str(inside), "-m", *words], cwd=TOP, check=False).returncode


def interpreters(versions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the versions that are installed, each with its Python; say which are not."""
    for version in versions:
        python = interpreter(version)
        if python:
            yield version, python
        else:
            print(f"== Python {version}: not installed", flush=True)


def main(arguments: list[str]) -> int:
    """Run them all; 1 when a test failed, or none ran."""
    if arguments == ["--check"]:
        return check()
    if arguments[:1] == ["--run"]:
        return program(arguments[1:])
    wanted = interpreters(VERSIONS)
    if arguments[:1] == ["--first"]:
        wanted, arguments = islice(wanted, 1), arguments[1:]
    elif arguments[:1] == ["--only"]:
        wanted, arguments = interpreters(arguments[1:2]), arguments[2:]
    totals = dict.fromkeys(OUTCOMES, 0)
    for version, python in wanted:
        print(f"== Python {version}: {python}", flush=True)
        for word, number in run(environment(version, python), arguments).items():
            totals[word] += number
    failed = totals["failed"] + totals["error"]
    print(f"{totals['passed']} passed, {failed} failed, {totals['skipped']} skipped", flush=True)
    missed = totals["skipped"] if os.environ.get("CI") else 0
    return 1 if failed or missed or not totals["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
