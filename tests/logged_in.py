"""A user who is logged in, for tests that run the program itself, as many processes at once as they like.

The session is in an encrypted file below a home of its own. `User` can be any provider's,
`LoggedIn` is one of a `FakeProvider`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests import canaries, environs
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse
from thv_llm import paths, tokens
from thv_llm.secret import Secret
from thv_llm.service import helper
from thv_llm.settings import Settings, load
from thv_llm.store import SessionStore
from thv_llm.store.encrypted_file import EncryptedFile
from thv_llm.store.secret_service import SecretService

PROGRAM = os.environ.get("THV_LLM_TEST_PROGRAM", str(Path(__file__).parents[1] / "thv_llm.py"))
TIMEOUT_S = 60.0


class Provider(Protocol):
    """What a provider offers for tests that need no login."""

    issuer: str
    ca_file: str
    client_id: str

    def issue_refresh_token(self) -> str:
        """Start a session without a login, and return its refresh token."""

    def is_live(self, refresh_token: str) -> bool:
        """Tell whether a refresh token is the one to use next."""


class HasPaths(Protocol):
    """A user with a home directory."""

    @property
    def paths(self) -> paths.Paths: ...


class HasSession:
    """A user with a session, or without one: where it is stored, and whose it is."""

    provider: Provider
    store: SessionStore
    key: str

    def log_in(self) -> None:
        """Store a session, as a login on another day would have."""
        self.store.save(self.key, Secret(self.provider.issue_refresh_token()))

    @property
    def refresh_token(self) -> str | None:
        found = self.store.load(self.key)
        return found.reveal() if found else None

    @property
    def is_alive(self) -> bool:
        """Whether the stored session is good at the provider."""
        return bool(self.refresh_token and self.provider.is_live(self.refresh_token))


class User(HasSession):
    """One user of one provider.

    Args:
        program: what is run as `thv-llm`.
        keyring: the session is in the Secret Service of the D-Bus session in `environ`.

    Attributes:
        environ: of every process that is started.
        paths: of this user.
    """

    def __init__(
        self, home: Path, provider: Provider, *, program: str = PROGRAM, keyring: bool = False, **environ: str
    ) -> None:
        self.provider = provider
        self.program = program
        self.environ = environs.user(home, **{"PATH": environs.SYSTEM_PATH, **environ})
        self.paths = paths.find(self.environ)
        os.makedirs(self.paths.directory, 0o700)
        Path(self.paths.settings).write_text(
            f'gateway_url = "https://llm.example"\nca_file = {json.dumps(provider.ca_file)}\n'
            f'token_store = "{"keyring" if keyring else "file"}"\n'
            f'[oidc]\nissuer = "{provider.issuer}"\nclient_id = "{provider.client_id}"\n'
        )
        self.store: SessionStore = (
            SecretService(self.environ)
            if keyring
            else EncryptedFile(self.paths.session_file, self.paths.session_file_key)
        )
        self.key = self.settings.session_id
        self.log_in()
        helper.write(self.paths, program_path=program)

    @property
    def settings(self) -> Settings:
        return load(self.paths.settings)

    def source(self) -> tokens.TokenSource:
        """Return the token source that a service of this user has."""
        return tokens.open(self.settings, self.paths, self.environ)

    def command(self, *options: str, verb: str = "token") -> list[str]:
        """Return a command line of ours, that of `thv-llm token` unless another verb is named."""
        return [sys.executable, "-I", self.program, verb, *options]

    def token(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `thv-llm token` to its end."""
        return self.run(self.command(*options), **environ)

    def helper(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the helper to its end."""
        return self.run([self.paths.helper, *options], **environ)

    def run(self, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        canaries.RUN.command_output(command, done.stdout, done.stderr)
        return done

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a process in a process group of its own."""
        return subprocess.Popen(
            command,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def leaks(self) -> list[str]:
        """Say which files below the home hold a secret in the clear."""
        scan = canaries.Scan()
        scan.files(Path(self.paths.home))
        return scan.hits


class LoggedIn(User):
    """A user of a fake provider, which tests can look into."""

    provider: FakeProvider

    def run_until_the_exchange(self, command: list[str]) -> int:
        """Run a command that is killed as the provider responds to its refresh; return its exit code.

        The old refresh token is dead by then, and the new one on its way.
        """

        def kill(response: ServerResponse) -> ServerResponse:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return response

        self.provider.alter["refresh"] = kill
        process = self.start(command)
        process.communicate()
        return process.returncode


def wait_for_worker(user: HasPaths) -> None:
    """Wait until no short-lived agent of this user listens any more."""
    import time

    from thv_llm.agent_client import converse
    from thv_llm.system.file_system import claim

    while True:
        converse(user.paths.socket, "yield")
        try:
            os.close(claim(user.paths.socket))
            return
        except BlockingIOError:
            time.sleep(0.01)


@contextlib.contextmanager
def logged_in(home: Path) -> Iterator[LoggedIn]:
    """Give a user with a session, as long as the context lasts."""
    with FakeProvider() as provider:
        made = LoggedIn(home, provider, THV_LLM_SOCKET=str(home.parent / "s"))  # paths of sockets are short
        yield made
        wait_for_worker(made)
