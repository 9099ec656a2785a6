"""Run the tests on every Python that is installed, each in a virtual environment of its own.

    python3 tests/matrix.py [--only VERSION | --first] [PYTEST ARGUMENTS]
    python3 tests/matrix.py --check        ruff, mypy, the architecture tests, and figures
    python3 tests/matrix.py --format       let ruff format the sources
    python3 tests/matrix.py --run MODULE   a program of the tests, on the newest Python

As many run at the same time as there are cores, with two tests for each core. The environments live
in `.cache/`, one for each build, and are made anew when what is pinned changes. A process that is left
over fails its run.

A warning is an error, in the tests by Python's own means, and in all that they start by
`child_warnings`, which every Python of these environments imports, even with `-I`.

The last line counts all tests of all versions. Where `CI` is set, a skipped test is a failure:
what can be installed must be. Standard library only.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
CACHE = TOP / ".cache"
FOR_TESTS = (TOP / "tests" / "requirements.txt",)
FOR_CHECKS = (*FOR_TESTS, TOP / "tests" / "checks.txt")
ORPHANS = TOP / "tests" / "orphans.py"
CHILD_WARNINGS = TOP / "tests" / "child_warnings.py"
SUPPORTED = ("3.11", "3.12", "3.13", "3.14", "3.15")
VERSIONS = (*SUPPORTED, *(f"3.{minor}" for minor in range(16, 20)))
"""A later one is tested where it is installed, and what is pinned exists for it."""

TESTS_PER_CORE = 2
"""They wait for programs, servers and clocks."""

COUNTED = re.compile(r"(\d+) (passed|failed|error|skipped)")

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONMALLOC": "pymalloc"}
"""Development mode, but for its memory allocator: that one looks for bugs in C, and takes 40 % longer."""


class Python(NamedTuple):
    """One build of an interpreter.

    Attributes:
        path: what to run, no wrapper and no virtual environment.
        version: what it calls itself, as "3.11.2".
        build: tells two builds of one version apart; distributions repair some without a new number.
        has_pip: it can make a virtual environment with pip in it.
    """

    path: str
    version: str
    build: str
    has_pip: bool

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


DESCRIBE = """
import importlib.util, json, os, platform, sys
print(json.dumps([os.path.realpath(sys.executable), platform.python_version(), sys.version,
                  importlib.util.find_spec("ensurepip") is not None]))
"""


@cache
def described(program: str) -> Python | None:
    """Return what a program is; None when it is no Python, or none that runs here."""
    try:
        done = subprocess.run([program, "-I", "-c", DESCRIBE], capture_output=True, text=True, check=True)
        path, version, whole, has_pip = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    build = hashlib.sha256(f"{path}\n{whole}".encode()).hexdigest()[:6]
    return Python(path, version, build, has_pip)


def pyenv(version: str) -> list[str]:
    """Return the Pythons of that version that pyenv has, when it is ours to look at."""
    root = os.path.expanduser(os.environ.get("PYENV_ROOT") or "~/.pyenv")
    return sorted(glob.glob(f"{glob.escape(root)}/versions/{version}.*/bin/python"))


def builds(minor: str) -> list[Python]:
    """Return all that are here of one version: on PATH, the one that runs this, and pyenv's."""
    on_path = [os.path.join(place, f"python{minor}") for place in os.get_exec_path()]
    found = (described(program) for program in (*on_path, sys.executable, *pyenv(minor)))
    return list(dict.fromkeys(python for python in found if python and python.minor == minor))


def interpreter(minor: str) -> str | None:
    """Return a Python of that version, the one on PATH before others."""
    return next((python.path for python in builds(minor) if python.has_pip), None)


def installed(versions: Sequence[str] = VERSIONS) -> list[Python]:
    """Return the builds of these versions that are here, oldest version first."""
    found = []
    for minor in versions:
        known = builds(minor)
        found += [python for python in known if python.has_pip]
        for python in known:
            if not python.has_pip:
                print(f"== {python.path}: has no ensurepip (Debian: python{minor}-venv)", flush=True)
        if not known and minor in SUPPORTED:
            print(f"== Python {minor}: not installed", flush=True)
    return sorted(found, key=lambda python: [int(number) for number in re.findall(r"\d+", python.version)])


def environment(python: Python, pinned: Sequence[Path] = FOR_TESTS) -> Path:
    """Return the Python of a virtual environment that has what these files pin, and perhaps more."""
    place = CACHE / f"venv-{python.version}-{python.build}"
    inside, stamp = place / "bin" / "python", place / "pinned.json"
    wanted = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in pinned}
    held = json.loads(stamp.read_text()) if stamp.is_file() else {}
    if not held or any(held.get(name, digest) != digest for name, digest in wanted.items()):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python.path, "-m", "venv", str(place)], check=True)
        held = {}
    missing = [file for file in pinned if file.name not in held]
    if missing:
        _install(inside, missing)
        stamp.write_text(json.dumps({**held, **wanted}))
    packages = place / "lib" / f"python{python.minor}" / "site-packages"
    shutil.copy(CHILD_WARNINGS, packages)
    (packages / "child_warnings.pth").write_text("import child_warnings\n")
    return inside


def _install(python: Path, pinned: Sequence[Path]) -> None:
    # Only what is imported is compiled; the first import of the rest does it.
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps", "--no-compile"]
    files = [word for file in pinned for word in ("-r", str(file))]
    subprocess.run([str(python), "-m", "pip", "install", *options, "--require-hashes", *files], check=True)


class Run:
    """The tests on one build.

    Attributes:
        counts: how many tests ended how, once it has run.
    """

    def __init__(self, python: Python, arguments: Sequence[str], *, label: str = "") -> None:
        self.python = python
        self.arguments = arguments
        self.label = label
        self.counts: Counter[str] = Counter()

    def __call__(self) -> None:
        """Install what is needed, run pytest, and show what it says."""
        began = time.monotonic()
        self.say(f"== Python {self.python.version}: {self.python.path}")
        try:
            inside = environment(self.python)
        except subprocess.CalledProcessError:
            self.say(f"== Python {self.python.version}: what the tests need could not be installed")
            self.counts["error"] += self.python.minor in SUPPORTED
            return
        warnings = inside.parent.parent / "child-warnings.log"
        warnings.unlink(missing_ok=True)
        self._run([sys.executable, str(ORPHANS), str(inside), "-m", "pytest", "-rs", *self.arguments])
        if warnings.is_file():
            self.say(f"== Python {self.python.version}: warnings of programs that the tests started:")
            self.say(warnings.read_text())
            self.counts["error"] += 1
        self.say(f"== Python {self.python.version}: {time.monotonic() - began:.0f} s")

    def _run(self, command: Sequence[str]) -> None:
        environ = {**os.environ, **STRICT}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile all of it anew
        process = subprocess.Popen(command, cwd=TOP, env=environ, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                self.say(line.rstrip("\n"))
                if re.search(r"\d+ \w+.* in [0-9.]+s\b", line):  # pytest's own last line
                    self.counts = Counter({word: int(number) for number, word in COUNTED.findall(line)})
        if process.wait() and not self.counts["failed"] + self.counts["error"]:
            self.counts["error"] += 1

    def say(self, text: str) -> None:
        """Print lines, each with the label in front."""
        print("".join(f"{self.label}{line}\n" for line in text.split("\n")), end="", flush=True)


def test(found: Sequence[Python], arguments: Sequence[str]) -> int:
    """Run the tests on these builds; 1 when one failed, or none ran."""
    cores = os.cpu_count() or 1
    at_once = max(min(len(found), cores), 1)
    workers = -(-TESTS_PER_CORE * cores // at_once)
    times = Counter(python.version for python in found)
    labels = [
        python.version if times[python.version] == 1 else f"{python.version} ({python.path})"
        for python in found
    ]
    runs = [
        Run(
            python,
            ["-n", str(workers), "--dist", "worksteal", *arguments],
            label=f"{label}  " if len(found) > 1 else "",
        )
        for python, label in zip(found, labels, strict=True)
    ]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(Run.__call__, runs))
    totals = sum((run.counts for run in runs), Counter())
    failed = totals["failed"] + totals["error"]
    print(f"{totals['passed']} passed, {failed} failed, {totals['skipped']} skipped", flush=True)
    missed = totals["skipped"] if os.environ.get("CI") else 0
    return 1 if failed or missed or not totals["passed"] else 0


AS_ON_WINDOWS = (
    *("--platform", "win32", "--no-warn-unreachable", "--follow-imports", "silent"),
    *(
        "--cache-dir",
        ".mypy_cache/win32",
        "-m",
        "thv_llm.system.windows",
        "-m",
        "thv_llm.system.windows_pipe",
    ),
    *("-m", "thv_llm.system.terminal", "-m", "tests.system.on_windows"),
)
"""What is only there on Windows, as mypy on Linux would leave it out."""

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "-p", "thv_llm", "-p", "tests"),
    ("mypy", *AS_ON_WINDOWS),
    ("pytest", "tests/test_architecture.py"),
    ("tests.figures",),
)
FORMATS = (("ruff", "check", "--fix", "--quiet", "."), ("ruff", "format", "."))


def each(programs: Sequence[Sequence[str]]) -> int:
    """Run modules one after the other, on the oldest Python; return how many failed."""
    inside = environment(installed()[0], FOR_CHECKS)
    return sum(
        subprocess.run([str(inside), "-m", *words], cwd=TOP, check=False).returncode != 0
        for words in programs
    )


def program(words: Sequence[str]) -> int:
    """Run a module of the tests on the newest supported Python."""
    inside = environment(installed(SUPPORTED)[-1])
    return subprocess.run([str(inside), "-m", *words], cwd=TOP, check=False).returncode


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    match arguments:
        case ["--check"]:
            return each(CHECKS)
        case ["--format"]:
            return each(FORMATS)
        case ["--run", *words]:
            return program(words)
        case ["--first", *rest]:
            return test(installed()[:1], rest)
        case ["--only", version, *rest]:
            minor = ".".join(version.split(".")[:2])
            return test([one for one in installed([minor]) if version in (one.minor, one.version)], rest)
    return test(installed(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
