"""What a crowd of helpers, lost responses and kills do to a session with rotating refresh tokens.

    python -m tests.bench rotation [ROW …]        rows: see ROWS

The built file against npm's `oidc-provider`, which takes 100 ms, rotates, and ends the session
when an old refresh token comes back. Where it is not installed, the fake one stands in.

Each round starts 50 helpers at once. `floor` is the p99 of as many bare Pythons, started in
rounds between those as the helper starts its own, with the same traffic beside them: what this
machine takes for the processes alone.

Every row ends with a check of all tokens that were printed, one more refresh, and a look for
canaries: no secret is in a file, or in a command line or environment of a process.

BENCH_PROCESSES (50), BENCH_ROUNDS (20) and BENCH_KILLS (1000) make it smaller.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import canaries, random_kills
from tests.bench import strict_provider
from tests.bench.crowd import Crowd
from tests.bench.helper import PYZ
from tests.bench.traffic import Traffic
from tests.e2e.machine import free_port
from tests.e2e.npm_provider import TokenCheck
from tests.logged_in import User, wait_for_worker
from thv_llm import state
from thv_llm.agent_client import converse

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "50"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
KILLS = int(os.environ.get("BENCH_KILLS", "1000"))
DELAY_MS = 100
LOSE_EVERY = 20
GRACE_S = 5.0
FLOOR_EVERY = 2
P99_MS = 1000
WATCH_EVERY_S = 0.1
"""Rarely, because looking costs what is measured."""
FEWER = 5
"""Where each helper refreshes by itself they queue, so the crowds are so many times smaller."""
HOMES = 4
"""In which kills happen at the same time."""
BARE = ("/bin/sh", "-c", 'exec "$0" -I -S -c "print()"', sys.executable)


class Stage:
    """A provider, one or more users, and what a row has found.

    Attributes:
        seen: by the provider.
        notes: what to say of the row.
        problems: what must not be.
    """

    def __init__(self, users: list[User], provider: strict_provider.Provider) -> None:
        self.users = users
        self.user = users[0]
        self.provider = provider
        self.port = free_port()
        self.scan = canaries.Scan()
        self.helpers = Crowd()
        self.bare = Crowd()
        self.seen: dict[str, int] = {}
        self.notes: list[str] = []
        self.problems: list[str] = []

    def type(self, *arguments: str) -> None:
        """Type a command of ours, which must succeed."""
        verb, *options = arguments
        done = self.user.run(self.user.command(*options, verb=verb))
        if done.returncode:
            raise SystemExit(done.stderr)

    def rounds(self, between: Callable[[], object]) -> None:
        """Start a crowd of helpers, again and again."""
        environs = [self.user.environ] * PROCESSES
        for turn in range(ROUNDS):
            between()
            self.helpers.start([self.user.paths.helper], environs)
            if turn % FLOOR_EVERY == 0:
                self.bare.start(BARE, environs)

    def rounds_apart(self) -> None:
        """Start smaller crowds; each helper has a socket of its own, without a listener."""
        environ = self.user.environ
        for turn in range(ROUNDS):
            sockets = [f"{environ['HOME']}/{turn}-{one}" for one in range(max(PROCESSES // FEWER, 2))]
            environs = [{**environ, "THV_LLM_SOCKET": socket} for socket in sockets]
            self.helpers.start([self.user.paths.helper], environs)

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        """Run the service, with its proxy."""
        self.type("config", "set", "--proxy-port", str(self.port))
        self.type("proxy", "start", "--background")
        try:
            yield
        finally:
            self.type("proxy", "stop")

    def forget(self) -> None:
        """Have the service refresh at the next question."""
        converse(self.user.paths.socket, "forget")

    def settle(self) -> None:
        """Check what holds for every row."""
        self.seen = self.provider.seen()
        check = TokenCheck(self.provider.issuer, self.provider.audience)
        for token in self.helpers.printed - {""}:
            check.verify(token)
        for user in self.users:
            wait_for_worker(user)
            if not user.is_alive or user.token("--force-refresh").returncode:
                self.problems.append("the session is LOST")
            wait_for_worker(user)
        self.problems += sorted(set(self.helpers.words))


@contextlib.contextmanager
def stage(*, lose_every: int = 0, users: int = 1) -> Iterator[Stage]:
    """Provide a stage; what happened on it is checked in the end."""
    with contextlib.ExitStack() as running:
        place = Path(running.enter_context(tempfile.TemporaryDirectory()))
        grace_s = GRACE_S if lose_every else 0
        provider = running.enter_context(
            strict_provider.opened(delay_ms=DELAY_MS, lose_every=lose_every, reuse_grace_s=grace_s)
        )
        found = Stage([User(place / str(one), provider, program=str(PYZ)) for one in range(users)], provider)
        with contextlib.ExitStack() as watching:
            for user in found.users:
                home = Path(user.environ["HOME"])
                watching.enter_context(canaries.watched(home, found.scan, WATCH_EVERY_S * users))
            yield found
            found.settle()
            provider.secrets()
        found.scan.files(place)
        found.problems += found.scan.hits


def with_service() -> Stage:
    """Let the service refresh once in each round."""
    with stage() as here, here.service():
        here.rounds(here.forget)
    return here


def beside_traffic(lose_every: int = 0) -> Stage:
    """The same while eight tools use the proxy without pause."""
    with (
        stage(lose_every=lose_every) as here,
        Traffic(here.provider.issuer, here.provider.audience) as traffic,
    ):
        here.type("config", "set", "--gateway-url", traffic.gateway_url)
        with here.service():
            state.keys(here.user.paths, ["aider"])
            traffic.start(here.port, here.user.paths.state)
            here.rounds(here.forget)
            traffic.stop()
        tally = traffic.tally
        rate = f"{tally.requests / tally.seconds:.0f} per second"
        here.notes.append(f"proxy: {tally.requests} requests, {rate}, {len(tally.problems)} failed")
        here.problems += tally.problems[:3]
    return here


def without_service() -> Stage:
    """Let each round begin without any agent."""
    with stage() as here:
        here.rounds(lambda: wait_for_worker(here.user))
    return here


def each_by_itself() -> Stage:
    """Let every single helper refresh, and lose one response in twenty."""
    with stage(lose_every=LOSE_EVERY) as here:
        here.rounds_apart()
    return here


def killed() -> Stage:
    """Kill `token` at random moments, in several homes at once."""
    with stage(users=HOMES) as here:
        shares = [KILLS // HOMES + (one < KILLS % HOMES) for one in range(HOMES)]
        chances = [random.Random(one) for one in range(HOMES)]
        with ThreadPoolExecutor(HOMES) as pool:
            tallies = list(pool.map(random_kills.kill, here.users, shares, chances))
        kills, lost, rotated = (
            sum(getattr(one, name) for one in tallies) for name in ("kills", "lost", "rotated")
        )
        here.notes.append(
            f"{kills} kills, {lost} sessions lost; {rotated} times the refresh was done all the same"
        )
        here.problems += [problem for one in tallies for problem in one.problems]
        here.problems += [f"{lost} sessions were LOST"] if lost else []
    return here


ROWS: dict[str, tuple[str, Callable[[], Stage], int | None]] = {
    "service": ("with the service", with_service, ROUNDS),
    "traffic": ("… and 8 tools in its proxy", beside_traffic, ROUNDS),
    "lost": (
        "… and 5 % of the responses lost",
        lambda: beside_traffic(LOSE_EVERY),
        ROUNDS + ROUNDS // LOSE_EVERY,
    ),
    "alone": ("without a service", without_service, None),
    "apart": ("each refreshes, 5 % of the responses lost", each_by_itself, None),
    "kill": ("kill -9 at random moments", killed, None),
}
"""Name → title, what it does, and the most refreshes that it can cost (and then P99_MS holds)."""


def main(arguments: list[str]) -> int:
    """Run rows and print a table; 1 if a goal is missed."""
    print(f"against {strict_provider.NAME}, which takes {DELAY_MS} ms")
    titles = ("calls", "failed", "refreshes", "lost", "p50 ms", "p99 ms", "floor")
    print(f"{'':40}" + "".join(f"{title:>10}" for title in titles))
    return max(int(_show(name)) for name in arguments or ROWS)


def _show(name: str) -> bool:
    """Run a row and print it; tell whether it misses a goal."""
    title, run, most = ROWS[name]
    found = run()
    helpers, refreshes, p99 = found.helpers, found.seen["refreshes"], found.helpers.percentile(0.99)
    is_slow = most is not None and (refreshes > most or p99 >= P99_MS)
    misses = is_slow or bool(found.problems)
    figures = [helpers.calls, len(helpers.words), refreshes, found.seen["lost"]]
    figures += [round(time) for time in (helpers.percentile(0.5), p99, found.bare.percentile(0.99))]
    row = "".join(f"{figure:10}" for figure in figures) if helpers.calls else ""
    print(f"{title:40}{row}{'  MISSED' if misses else ''}")
    for line in (*found.notes, *found.problems, found.scan.verdict()):
        print(f"    {line}")
    sys.stdout.flush()
    return misses


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
