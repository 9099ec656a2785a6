"""A user with everything: settings, a stored session, provider and gateway on loopback, real services.

What is started here is ended here.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import homes
from tests.commands.homes import Home, Run
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from thv_llm import paths, settings, state, tokens
from thv_llm.secret import Secret
from thv_llm.service import agent_protocol, background, helper
from thv_llm.service.background import Running
from thv_llm.sessions import SessionFacts, Sessions
from thv_llm.state import ServiceState, State
from thv_llm.store.encrypted_file import EncryptedFile
from thv_llm.system import processes

IMPATIENT_S = 0.2


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def patience_s(count: int) -> float:
    """Return in what time so many tools at once must have their error: a second, more on a busy machine."""
    began = time.monotonic()
    bare = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"]) for _ in range(count)]
    assert not any(process.wait() for process in bare)
    return max(1.0, 2 * (time.monotonic() - began))


@contextlib.contextmanager
def impatience(seconds: float = IMPATIENT_S) -> Iterator[None]:
    """Wait for a service that is known to hang only as long as a test can afford."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_protocol, "TIMEOUT_S", seconds)
        patch.setattr(background, "HUNG_TIMEOUT_S", seconds)
        yield


class Lab:
    """One user's machine, as long as the context lasts."""

    def __init__(self, directory: Path, provider: FakeProvider, gateway: FakeGateway) -> None:
        self.provider = provider
        self.gateway = gateway
        self.port = homes.free_port()
        self.home: Home = replace(homes.make(directory, THV_LLM_SOCKET=str(directory / "s")), now=time.time())
        self.environ = dict(self.home.environ)
        self.paths = self.home.paths
        self.home.configure(
            gateway_url=gateway.url,
            ca_file=str(provider.ca_file),
            token_store="file",
            oidc__issuer=provider.issuer,
            oidc__client_id="cli",
            proxy__listen_port=self.port,
        )
        self.log_in()
        helper.write(self.paths)

    def log_in(self) -> None:
        """Store a session, as a login by another process does."""
        key, store = self._session()
        store.save(key, Secret(self.provider.issue_refresh_token()))
        facts = SessionFacts("file", key, "user-1", "dev@example.com", self.home.now + 3600, self.home.now)
        self.change(sessions=Sessions(facts))

    def ends_in(self, seconds: float) -> None:
        """Record that the provider ends the session then."""
        latest = state.load(self.paths.state).sessions.latest
        self.change(sessions=Sessions(latest._replace(ends_at=time.time() + seconds)))

    def refresh_token(self) -> Secret | None:
        """Return what is stored."""
        key, store = self._session()
        return store.load(key)

    def _session(self) -> tuple[str, EncryptedFile]:
        key = settings.load(self.paths.settings).session_id
        return key, EncryptedFile(self.paths.session_file, self.paths.session_file_key)

    def log_out(self) -> None:
        """Remove the session, as a logout does; the service is not told."""
        assert list(tokens.end_all(settings.load(self.paths.settings), self.paths, self.environ))

    def change(self, **parts: Any) -> State:
        """Replace parts of the state file."""
        return state.update(self.paths, lambda known: replace(known, **parts))

    def want(self, *, proxy: bool = True, wanted: bool = True) -> None:
        """Record what setup would have asked of the service."""
        self.change(service=ServiceState(wanted=wanted, proxy=proxy, program=paths.program()))

    def start(self, *, proxy: bool = True) -> Running:
        """Start the service, as setup does."""
        self.want(proxy=proxy)
        return background.start(self.paths, self.environ)[0]

    def hang(self) -> int:
        """Start a service that then hangs, in the middle of nothing; return its process id."""
        pid = self.start(proxy=False).record.pid
        self.until_it_has_a_token()
        os.kill(pid, signal.SIGSTOP)
        return pid

    def until_it_has_a_token(self) -> None:
        """Wait for the service's first refresh: this provider ends the session of a process killed in one."""
        until(lambda: background.facts(self.paths).get("token_expires_at"))

    def run(self, *arguments: str) -> Run:
        """Type a command."""
        return self.home.run(*arguments)

    def get(self, path: str, *, key: str | None = None) -> tuple[int, bytes]:
        """Ask the proxy as a tool does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            known = key or self.key()
            connection.request("GET", path, headers={"Authorization": f"Bearer {known}"})
            response = connection.getresponse()
            return response.status, response.read()

    def key(self, tool: str = "aider") -> str:
        """Return the key of a tool."""
        return state.keys(self.paths, [tool])[tool].reveal()

    def until_counted(self, requests: int) -> None:
        """Wait until the proxy has counted what it has served."""
        until(lambda: _requests(background.facts(self.paths)) == requests)

    def log(self) -> str:
        """Return what the service wrote."""
        return Path(self.paths.log).read_text()

    def processes(self) -> list[int]:
        """Return the services that run in this home: those that hold its lock.

        Their environments say so, too, but only to root: they are not dumpable.
        """
        with contextlib.suppress(FileNotFoundError):
            lock = os.stat(self.paths.lock("service"))
            device = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
            locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
            holders = {int(words[4]) for words in locks if words[1] == "FLOCK" and words[5] == device}
            return sorted(holders - {os.getpid()})
        return []

    def kill(self) -> None:
        """End every service of this home without ceremony, as a reboot does."""
        pids = self.processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(processes.look(pid) for pid in pids):
            time.sleep(0.005)

    def close(self) -> None:
        """End what was started; a service that is only just starting finds its home gone, and ends."""
        self.kill()
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.paths.directory, f"{self.paths.directory}.closed")


def _requests(facts: dict[str, Any]) -> object:
    return (facts.get("proxy") or {}).get("requests")


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Lab]:
    """Return a lab in this directory; its servers and processes end with the context."""
    with FakeProvider() as provider, FakeGateway(provider.verify_access_token) as gateway:
        lab = Lab(directory, provider, gateway)
        try:
            yield lab
        finally:
            lab.close()
