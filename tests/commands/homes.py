"""A `Context` for tests of commands: a home of its own, streams that are read back, a fixed clock."""

from __future__ import annotations

import atexit
import io
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import canaries, environs
from thv_llm import cli, paths, settings
from thv_llm.context import Context
from thv_llm.errors import ExitCode

NOW = 1_800_000_000.0
FIRST_PORT, PORTS = 15_000, 17_000


class Stream(io.StringIO):
    """A text stream that can claim to be a terminal."""

    def __init__(self, text: str = "", *, is_terminal: bool = False) -> None:
        super().__init__(text)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@dataclass(frozen=True)
class Home:
    """A home directory, and commands run in it."""

    path: Path
    environ: Mapping[str, str]
    platform: str = environs.PLATFORM
    is_terminal: bool = False
    now: float = NOW

    @property
    def paths(self) -> paths.Paths:
        return paths.find(self.environ)

    def configure(self, **changes: object) -> None:
        """Save settings; those that are a must have defaults here."""
        self.paths_ready()
        wanted: dict[str, object] = {
            "gateway_url": "https://llm.example.com",
            "oidc.issuer": "https://id.example.com",
            "oidc.client_id": "thv-llm",
        }
        wanted.update({key.replace("__", "."): value for key, value in changes.items()})
        settings.save(self.paths, wanted)

    def paths_ready(self) -> None:
        Path(self.paths.directory).mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self, *arguments: str) -> Run:
        """Run one command line, without the error boundary."""
        stdout, stderr = Stream(is_terminal=self.is_terminal), Stream(is_terminal=self.is_terminal)
        args = cli.build_parser(arguments[0]).parse_args(arguments)
        code = cli._command(args.verb).run(args, self.context(stdout, stderr))
        return ran(arguments, code, stdout, stderr)

    def context(self, stdout: Stream | None = None, stderr: Stream | None = None) -> Context:
        """Return the context of this home."""
        return Context(
            environ=self.environ,
            stdin=Stream(),
            stdout=stdout or Stream(),
            stderr=stderr or Stream(),
            now=lambda: self.now,
            platform=self.platform,
        )


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    code: ExitCode
    out: str
    err: str


def ran(arguments: Sequence[str], code: ExitCode, stdout: Stream, stderr: Stream) -> Run:
    """Return what a command left behind, once no secret is in it."""
    run = Run(code, stdout.getvalue(), stderr.getvalue())
    canaries.RUN.command_output(arguments, run.out, run.err)
    return run


_claims: list[socket.socket] = []
"""Ports that were just given out: other Pythons choose before the first one listens."""
MOST_CLAIMS = 20


@atexit.register
def _let_go() -> None:
    for claim in _claims:
        claim.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, as is the next one.

    It is none of those that the system gives to connections, else one could take it before its use.
    """
    while True:
        port = FIRST_PORT + 2 * secrets.randbelow(PORTS // 2)
        claim = socket.socket(getattr(socket, "AF_UNIX", socket.AF_INET))
        try:
            if sys.platform == "linux":
                claim.bind(f"\0thv-llm tests {port}")  # a name that is gone with its process
            for number in (port, port + 1):
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > MOST_CLAIMS:
            _claims.pop(0).close()
        return port


def make(path: Path, **environ: str) -> Home:
    """Return a home directory whose environment holds nothing but what is given."""
    return Home(
        path,
        environs.user(
            path, **{"THV_LLM_HOME": str(path / "toolhive"), "PATH": environs.SYSTEM_PATH, **environ}
        ),
    )
