"""A developer's machine that is new: an empty home, one file on PATH, and what a test puts there.

Nothing of the real user's environment is in it. The service that setup starts ends with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import canaries
from tests.e2e.install import BIN, HERE
from tests.e2e.npm_provider import CLIENT_ID, NpmProvider
from tests.fakes.gateway import FakeGateway
from tests.matrix import TOP

PYZ = TOP / "dist" / "thv-llm.pyz"
SYSTEM_PATH = "/usr/bin:/bin"
TIMEOUT_S = 240.0
OURS = (".config/toolhive",)
"""The directory in the home that is ours to keep after teardown."""

Snapshot = dict[str, tuple[str, int, bytes]]


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, for messages."""
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Machine:
    """A home, its PATH and environment, while the context lasts.

    Args:
        place: an empty directory for all of it.
        provider, gateway: what setup is told of.
        tools: programs of `install.BIN` that are on PATH.

    Attributes:
        home: the home directory.
        environ: what every program of this machine gets.
        project: an empty directory to start programs in.
    """

    def __init__(
        self, place: Path, provider: NpmProvider, gateway: FakeGateway, tools: Sequence[str] = ()
    ) -> None:
        self.place = place
        self.provider = provider
        self.gateway = gateway
        self.home = place / "home"
        self.project = place / "project"
        self.commands = place / "bin"
        self.runtime = place / "run"
        for directory in (self.home, self.project, self.commands, self.runtime):
            directory.mkdir(mode=0o700)
        self.port = free_port()
        shutil.copy(PYZ, self.commands / "thv-llm")
        python = Path(sys.base_prefix) / "bin" / "python3"
        self.command("python3", f'#!/bin/sh\nexec "{python}" -X dev -W error "$@"\n')
        visit = f'"{sys.executable}" -I "{HERE / "scripted_browser.py"}" "{provider.ca_file}" "$1"'
        self.command("browser", f'#!/bin/sh\necho "$1" >> "{place}/visited"\nexec {visit}\n')
        self.environ = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": ":".join([str(self.commands), *(str(BIN / tool) for tool in tools), SYSTEM_PATH]),
            "BROWSER": "browser",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "TMPDIR": str(self._directory("tmp")),
        }

    def _directory(self, name: str) -> Path:
        path = self.place / name
        path.mkdir()
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_processes()
        self.provider.secrets()  # the canaries know them then
        canaries.RUN.files(self.place)

    def command(self, name: str, text: str) -> Path:
        """Put a program on PATH."""
        path = self.commands / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    @property
    def ours(self) -> Path:
        """Our own directory."""
        return self.home / OURS[0]

    @property
    def helper(self) -> Path:
        """The token helper that setup writes."""
        return self.ours / "bin" / "thv-llm-token"

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S, **more: str
    ) -> Done:
        """Run a program as a child without a terminal, and wait for it."""
        done = subprocess.run(
            command,
            env={**self.environ, **(env or {}), **more},
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        canaries.RUN.command_output(command, done.stdout, done.stderr)
        return Done(done.returncode, done.stdout, done.stderr)

    def thv(self, *arguments: str, env: Mapping[str, str] | None = None, fails: bool = False) -> Done:
        """Run `thv-llm`; unless a failure is expected, it must succeed."""
        done = self.run("thv-llm", *arguments, env=env)
        assert fails or done.code == 0, done.said
        assert "Traceback" not in done.err, done.said
        return done

    def connection(self) -> list[str]:
        """Return the options that name provider and gateway."""
        options = {
            "--gateway-url": self.gateway.url,
            "--issuer": self.provider.issuer,
            "--client-id": CLIENT_ID,
            "--ca-file": self.provider.ca_file,
            "--proxy-port": str(self.port),
        }
        return [word for option in options.items() for word in option]

    def setup(self, *more: str, env: Mapping[str, str] | None = None) -> Done:
        """Run `thv-llm setup` with the options that name provider and gateway."""
        return self.thv("setup", *self.connection(), *more, env=env)

    def token(self) -> str:
        """Return a fresh access token."""
        return self.thv("token").out.strip()

    def local_key(self) -> str:
        """Return a key that the proxy accepts, of one of the configured tools."""
        import json

        state = json.loads((self.ours / "llm-state.json").read_text())
        return str(next(iter(state["keys"].values()), state["local_key"]))

    def snapshot(self) -> Snapshot:
        """Return every file and link of the home outside our own directory: kind, mode, bytes."""
        found: Snapshot = {}
        for path in sorted(self.home.rglob("*")):
            name = str(path.relative_to(self.home))
            if name.startswith(OURS):
                continue
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                found[name] = ("link", 0, os.readlink(path).encode())
            elif stat.S_ISREG(status.st_mode):
                found[name] = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
        return found

    def processes(self) -> Iterator[tuple[int, str, str]]:
        """Yield (pid, command line, environment) of each process of this machine."""
        mark = f"HOME={self.home}\0".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):  # ended meanwhile
                environ = (entry / "environ").read_bytes()
                if mark in environ + b"\0":
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    yield int(entry.name), line, environ.decode(errors="replace")

    def services(self) -> list[str]:
        """Return the command lines of what we left running."""
        return [line for _, line, _ in self.processes() if "thv-llm" in line]

    def end_processes(self) -> None:
        """End whatever this machine left running, and wait for it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [pid for pid, _, _ in self.processes()]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and any(True for _ in self.processes()):
                time.sleep(0.02)


NewMachine = Callable[..., Machine]
"""What the fixture `new_machine` gives: names of programs in, a machine out."""


def free_port() -> int:
    """Return a port of loopback that is free."""
    while True:
        port = 20000 + secrets.randbelow(12000)  # below those that the kernel gives to clients
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
