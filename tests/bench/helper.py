"""How long a token takes: the helper, the built file, with a service and without.

    python -m tests.bench helper [PAIRS]

Each row is measured in turn with bare `python3 -I -S -c pass`, so that a busy machine slows both;
the ratio of the medians is what counts. From a cold call is taken what the provider itself takes:
a refresh by a client that runs already, in turn with it.
BENCH_PYTHON names the Python that runs ours: one that was built with optimizations is a third faster.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.bench.bare_python import bare_python
from tests.fakes.provider import FakeProvider
from tests.fakes.secret_service import FakeSecretService
from tests.logged_in import User, wait_for_worker
from tests.matrix import TOP
from thv_llm.service import helper
from thv_llm.service.agent import Agent

PYZ = TOP / "dist" / "thv-llm.pyz"
PAIRS = 40
COLD_CALLS = 15
HELPER_RATIO, PYZ_RATIO, COLD_MS = 1.35, 2.3, 150.0


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a figure misses its goal."""
    pairs = int(arguments[0]) if arguments else PAIRS
    with tempfile.TemporaryDirectory() as place:
        python = bare_python(Path(place) / "python")
        rows = [*warm(Path(place) / "warm", python, pairs), *cold(Path(place) / "cold", python)]
    print(f"{'':34}{'median ms':>10}{'figure':>10}{'goal':>10}")
    for name, median, figure, goal in rows:
        print(f"{name:34}{median:10.1f}{figure:10.2f}{goal:10.2f}{'' if figure <= goal else '  MISSED'}")
    return int(any(figure > goal for *_, figure, goal in rows))


def warm(place: Path, python: str, pairs: int) -> Iterator[tuple[str, float, float, float]]:
    """Measure with an agent that has the token in memory."""
    with FakeProvider() as provider:
        user = User(place, provider)
        helper.write(user.paths, python=python, program_path=str(PYZ))
        agent = Agent(user.paths.socket, user.source().get, lambda verb, rest: "")
        agent.start()
        try:
            for name, command, goal in (
                ("helper, service running", [user.paths.helper], HELPER_RATIO),
                ("thv-llm.pyz token, service running", [python, "-I", str(PYZ), "token"], PYZ_RATIO),
            ):
                ours, bare = [], []
                for _ in range(pairs):
                    bare.append(milliseconds([python, "-I", "-S", "-c", "pass"], user.environ))
                    ours.append(milliseconds(command, user.environ))
                median = statistics.median(ours)
                yield name, median, median / statistics.median(bare), goal
        finally:
            agent.stop()


def cold(place: Path, python: str) -> Iterator[tuple[str, float, float, float]]:
    """Measure without a service: one refresh over TLS, the session in a Secret Service."""
    with contextlib.ExitStack() as running:
        provider = running.enter_context(FakeProvider())
        place.mkdir()
        bus = running.enter_context(FakeSecretService(place))
        user = User(place / "home", provider, keyring=True, **bus.environ)
        for name, latency_s in (("cold token, provider at once", 0.0), ("cold token, provider 100 ms", 0.1)):
            provider.latency_s = latency_s
            warm = WarmClient(provider)
            ours, theirs = [], []
            for _ in range(COLD_CALLS):
                theirs.append(warm.milliseconds())
                ours.append(milliseconds([python, "-I", str(PYZ), "token"], user.environ))
                wait_for_worker(user)
            median = statistics.median(ours)
            yield name, median, median - statistics.median(theirs), COLD_MS


class WarmClient:
    """A user with a session, and nothing left to load."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self._context = ssl.create_default_context(cafile=provider.ca_file)
        self._refresh_token = provider.issue_refresh_token()

    def milliseconds(self) -> float:
        """Return how long a refresh takes, with its connection."""
        url = f"{self._provider.url}/token"
        form = {
            "grant_type": "refresh_token",
            "client_id": self._provider.client_id,
            "refresh_token": self._refresh_token,
        }
        start = time.perf_counter()
        with urlopen(url, urlencode(form).encode(), context=self._context) as response:
            self._refresh_token = json.load(response)["refresh_token"]
        return (time.perf_counter() - start) * 1000


def milliseconds(command: list[str], environ: dict[str, str]) -> float:
    """Return how long a program takes; it must succeed."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environ, file_actions=silent)
    _, status = os.waitpid(pid, 0)
    took = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command} failed")
    return took * 1000


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
