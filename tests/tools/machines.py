"""A machine in a temporary directory: a home, a root for applications and policies, our own files."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests import environs
from thv_llm import paths, state
from thv_llm.secret import Secret
from thv_llm.tools import engine
from thv_llm.tools.model import Tool, Values

LONG_AGO = 1e9
KEY = Secret("thv-local-key-of-the-tests")

VALUES = Values(
    gateway_url="https://gateway.example/base/v1",
    proxy_port=14000,
    local_key=KEY,
    helper_path="/home/me/.config/toolhive/bin/thv-llm-token",
    models=("vendor/model-1", "model-2"),
)


@dataclass
class Machine:
    """What a test does with the engine, in the words of the commands."""

    top: Path
    environ: dict[str, str] = field(default_factory=dict)
    platform: str = environs.PLATFORM
    values: Values = VALUES

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def place(self) -> engine.Place:
        environ = environs.user(self.home, **{"PATH": str(self.top / "bin"), **self.environ})
        return engine.Place(environ, str(self.home), self.platform, root=str(self.top / "root"))

    @property
    def paths(self) -> paths.Paths:
        own = self.top / "own"
        return paths.Paths(str(own), str(self.home), str(own / "llm.sock"))

    @property
    def state(self) -> state.State:
        return state.load(self.paths.state)

    def plan(self, tool: Tool, **changes: object) -> engine.Plan:
        values = replace(self.values, **changes)  # type: ignore[arg-type]
        return engine.plan(tool, self.place, values, self.state)

    def is_right(self, tool: Tool, **changes: object) -> bool:
        """Whether setup would change nothing of a tool's."""
        return engine.diff(self.plan(tool, **changes)) == ""

    def setup(self, *tools: Tool, **changes: object) -> tuple[engine.Applied, ...]:
        return engine.apply([self.plan(tool, **changes) for tool in tools], self.paths)

    def teardown(self, *names: str, tools: Sequence[Tool] = engine.TOOLS) -> tuple[engine.Undone, ...]:
        return engine.revert(self.paths, self.place, names or None, tools=tools)

    def targets(self, tool: Tool) -> tuple[Path, ...]:
        return tuple(Path(path) for edit in tool.edits for path in self.place.targets(edit))

    def write(self, texts: Mapping[Path, str | bytes]) -> None:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            os.utime(path, (LONG_AGO, LONG_AGO))

    def program(self, name: str, says: str = "") -> Path:
        """Put a program on PATH that responds to `--version`."""
        if sys.platform == "win32":
            path = self.top / "bin" / f"{name}.cmd"
            self.write({path: f"@echo {says}\r\n"})
            return path
        path = self.top / "bin" / name
        self.write({path: f"#!/bin/sh\necho '{says}'\n"})
        path.chmod(0o755)
        return path

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Return everything below the home directory: mode, and bytes or a link's target."""
        return {path.relative_to(self.home).as_posix(): _facts(path) for path in sorted(self.home.rglob("*"))}


def _facts(path: Path) -> tuple[int, bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return mode, os.readlink(path).encode()
    return mode, b"" if stat.S_ISDIR(mode) else path.read_bytes()


def succeeded(outcomes: Sequence[engine.Applied | engine.Undone]) -> bool:
    """Whether nothing failed; the first failure is raised, for the test's report."""
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    return True
