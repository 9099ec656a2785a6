"""Run the tests on every Python that is installed, each in a virtual environment of its own.

    python3 tests/matrix.py [--only 3.11 | --first] [PYTEST ARGUMENTS]
    python3 tests/matrix.py --check        ruff, mypy and the architecture tests instead
    python3 tests/matrix.py --format       let ruff format the sources
    python3 tests/matrix.py --run MODULE   a program of the tests, on the newest Python

All versions run at the same time, so that no core waits for the last test of one of them. The
environments live in `.cache/` and are made anew when what is pinned changes.

A warning is an error, in the tests by Python's own means, and in all that they start by
`child_warnings`, which every Python of these environments imports, even with `-I`.

The last line counts all tests of all versions. Where `CI` is set, a skipped test is a failure:
what can be installed must be. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
CACHE = TOP / ".cache"
FOR_TESTS = (TOP / "tests" / "requirements.txt",)
FOR_CHECKS = (*FOR_TESTS, TOP / "tests" / "checks.txt")
CHILD_WARNINGS = TOP / "tests" / "child_warnings.py"
SUPPORTED = ("3.11", "3.12", "3.13")
VERSIONS = (*SUPPORTED, *(f"3.{minor}" for minor in range(14, 20)))
"""A later one is tested where it is installed, and what is pinned exists for it."""

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONMALLOC": "pymalloc"}
"""Development mode, but for its memory allocator: that one looks for bugs in C, and takes 40 % longer."""


def interpreter(version: str) -> str | None:
    """Return a Python of that version: on PATH, or of pyenv."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates += [str(path / "bin" / "python") for path in sorted(pyenv.glob(f"{version}.*"))]
    return next((python for python in candidates if python and _version(python) == version), None)


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def installed(versions: Sequence[str] = VERSIONS) -> dict[str, str]:
    """Return the versions that are here, oldest first, each with its Python."""
    found = {version: interpreter(version) for version in versions}
    for version in SUPPORTED:
        if version in found and not found[version]:
            print(f"== Python {version}: not installed", flush=True)
    return {version: python for version, python in found.items() if python}


def environment(version: str, python: str, pinned: Sequence[Path] = FOR_TESTS) -> Path:
    """Return the Python of a virtual environment that has what these files pin, and perhaps more."""
    place = CACHE / f"venv-{version}"
    inside, stamp = place / "bin" / "python", place / "pinned.json"
    wanted = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in pinned}
    held = json.loads(stamp.read_text()) if stamp.is_file() else {}
    if not held or any(held.get(name, digest) != digest for name, digest in wanted.items()):
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        held = {}
    missing = [file for file in pinned if file.name not in held]
    if missing:
        _install(inside, missing)
        stamp.write_text(json.dumps({**held, **wanted}))
    packages = place / "lib" / f"python{version}" / "site-packages"
    shutil.copy(CHILD_WARNINGS, packages)
    (packages / "child_warnings.pth").write_text("import child_warnings\n")
    return inside


def _install(python: Path, pinned: Sequence[Path]) -> None:
    # Nothing is compiled that nobody imports; the first import of the rest does it.
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps", "--no-compile"]
    files = [word for file in pinned for word in ("-r", str(file))]
    subprocess.run([str(python), "-m", "pip", "install", *options, "--require-hashes", *files], check=True)


class Run:
    """The tests on one version.

    Attributes:
        counts: how many tests ended how, once it has run.
    """

    def __init__(self, version: str, python: str, arguments: Sequence[str], *, label: str = "") -> None:
        self.version = version
        self.python = python
        self.arguments = arguments
        self.label = label
        self.counts: Counter[str] = Counter()

    def __call__(self) -> None:
        """Install what is needed, run pytest, and show what it says."""
        self.say(f"== Python {self.version}: {self.python}")
        try:
            inside = environment(self.version, self.python)
        except subprocess.CalledProcessError:
            self.say(f"== Python {self.version}: what the tests need could not be installed")
            self.counts["error"] += self.version in SUPPORTED
            return
        warnings = inside.parent.parent / "child-warnings.log"
        warnings.unlink(missing_ok=True)
        self._run([str(inside), "-m", "pytest", "-rs", *self.arguments])
        if warnings.is_file():
            self.say(f"== Python {self.version}: warnings of programs that the tests started:")
            self.say(warnings.read_text())
            self.counts["error"] += 1

    def _run(self, command: Sequence[str]) -> None:
        environ = {**os.environ, **STRICT}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile all of it anew
        process = subprocess.Popen(command, cwd=TOP, env=environ, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        last = ""
        with process.stdout as lines:
            for line in lines:
                self.say(line.rstrip("\n"))
                last = line if line.strip() else last
        for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", last):
            self.counts[word] += int(number)
        if process.wait() and not self.counts["failed"] + self.counts["error"]:
            self.counts["error"] += 1

    def say(self, text: str) -> None:
        """Print lines, each with the label in front."""
        print("".join(f"{self.label}{line}\n" for line in text.split("\n")), end="", flush=True)


def test(found: dict[str, str], arguments: Sequence[str]) -> int:
    """Run the tests on these versions; 1 when one failed, or none ran."""
    workers = -(-(os.cpu_count() or 1) // max(len(found), 1))
    parallel = ["-n", str(workers)] if workers > 1 else []
    label = "{}  " if len(found) > 1 else ""
    runs = [
        Run(version, python, [*parallel, *arguments], label=label.format(version))
        for version, python in found.items()
    ]
    with ThreadPoolExecutor(max(len(runs), 1)) as pool:
        list(pool.map(Run.__call__, runs))
    totals = sum((run.counts for run in runs), Counter())
    failed = totals["failed"] + totals["error"]
    print(f"{totals['passed']} passed, {failed} failed, {totals['skipped']} skipped", flush=True)
    missed = totals["skipped"] if os.environ.get("CI") else 0
    return 1 if failed or missed or not totals["passed"] else 0


CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "-p", "thv_llm", "-p", "tests"),
    ("pytest", "tests/test_architecture.py"),
)
FORMATS = (("ruff", "check", "--fix", "--quiet", "."), ("ruff", "format", "."))


def each(programs: Sequence[Sequence[str]]) -> int:
    """Run modules one after the other, on the oldest Python; return how many failed."""
    version, python = next(iter(installed().items()))
    inside = environment(version, python, FOR_CHECKS)
    return sum(
        subprocess.run([str(inside), "-m", *words], cwd=TOP, check=False).returncode != 0
        for words in programs
    )


def program(words: Sequence[str]) -> int:
    """Run a module of the tests on the newest supported Python."""
    version, python = list(installed(SUPPORTED).items())[-1]
    inside = environment(version, python)
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
            return test(dict(list(installed().items())[:1]), rest)
        case ["--only", version, *rest]:
            return test(installed([version]), rest)
    return test(installed(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
