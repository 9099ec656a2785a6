"""A developer's machine for tests of whole commands: tools, provider, gateway, browser, error boundary."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import environs
from tests.commands import homes
from tests.commands.homes import Run, Stream
from tests.fakes.browser import FakeBrowser
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from thv_llm import cli, paths, state
from thv_llm.context import Context
from thv_llm.errors import ExitCode

CLAUDE = '{\r\n\t"model": "opus"\r\n}\r\n'
OPENCODE = '{\n  // mine\n  "theme": "gruvbox",\n}\n'


@dataclass
class Machine:
    """One home directory with Claude Code and OpenCode in it, and what is around it."""

    home: Path
    provider: FakeProvider
    gateway: FakeGateway
    browser: FakeBrowser
    open_browser: Callable[[str], bool]
    port: int
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def claude(self) -> Path:
        return self.home / ".claude" / "settings.json"

    @property
    def opencode(self) -> Path:
        return self.home / ".config" / "opencode" / "opencode.jsonc"

    @property
    def paths(self) -> paths.Paths:
        return paths.find(self.environ)

    @property
    def wired(self) -> list[str]:
        return [tool.tool for tool in state.load(self.paths.state).wired]

    def install(self, *programs: str) -> None:
        (self.home / "bin").mkdir(exist_ok=True)
        for name in programs:
            if sys.platform == "win32":
                (self.home / "bin" / f"{name}.cmd").write_bytes(b"@exit /b 0\r\n")
                continue
            path = self.home / "bin" / name
            path.write_text("#!/bin/sh\nexit 0\n")
            path.chmod(0o755)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        os.utime(path, (1e9, 1e9))  # it has been there for long

    def run(self, *arguments: str, stdin: str = "", is_terminal: bool = False) -> Run:
        """Type one command line, and see it through to its end."""
        stdout, stderr = Stream(is_terminal=is_terminal), Stream(is_terminal=is_terminal)
        context = Context(
            environ=self.environ,
            stdin=Stream(stdin, is_terminal=is_terminal),
            stdout=stdout,
            stderr=stderr,
            sleep=lambda seconds: time.sleep(min(seconds, 0.05)),
            open_browser=self.open_browser,
            platform=environs.PLATFORM,
        )
        code = cli.bounded(list(arguments), context)
        return homes.ran(arguments, ExitCode(code), stdout, stderr)

    @property
    def connection(self) -> list[str]:
        """Return the options that name provider and gateway."""
        options = {
            "--gateway-url": self.gateway.url,
            "--issuer": self.provider.issuer,
            "--client-id": "thv-llm",
            "--ca-file": str(self.provider.ca_file),
            "--proxy-port": str(self.port),
        }
        return [word for option in options.items() for word in option]

    def setup(
        self, *arguments: str, is_terminal: bool = False, stdin: str = "", with_service: bool = False
    ) -> Run:
        """Type `setup` with the connection of this machine; usually the service is left alone."""
        service = [] if with_service else ["--no-service"]
        words = [*self.connection, *service, *arguments]
        return self.run("setup", *words, is_terminal=is_terminal, stdin=stdin)

    def snapshot(self) -> dict[str, tuple[bytes, int]]:
        """Return bytes and mode of every file but those of ours."""
        own = Path(self.paths.directory)
        return {
            str(path.relative_to(self.home)): (path.read_bytes(), path.stat().st_mode)
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and own not in path.parents
        }


@contextlib.contextmanager
def machine(home: Path) -> Iterator[Machine]:
    """Set one up while the context lasts."""
    with (
        FakeProvider() as provider,
        FakeGateway(provider.verify_access_token) as gateway,
        FakeBrowser(str(provider.ca_file)) as browser,
    ):
        made = Machine(home, provider, gateway, browser, browser.open, homes.free_port())
        made.environ = environs.user(home, PATH=str(home / "bin"))
        made.install("claude", "opencode")
        made.write(made.claude, CLAUDE)
        made.write(made.opencode, OPENCODE)
        yield made
