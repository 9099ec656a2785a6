"""What a crowd of helpers, lost answers and kills do to a session with rotating refresh tokens.

    python -m tests.bench rotation [ROW …]        rows: service, traffic, lost, alone, kill

The provider takes 100 ms, rotates, and ends the session when an old refresh token comes back.
BENCH_PROCESSES (50), BENCH_ROUNDS (20) and BENCH_KILLS (1000) make it smaller.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.provider import FakeProvider
from tests.fakes.web import Answer
from tests.signed_in import SignedIn, wait_for_worker
from thv_llm.errors import UsageError
from thv_llm.service.agent import Agent
from thv_llm.shortcut import converse

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "50"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
KILLS = int(os.environ.get("BENCH_KILLS", "1000"))
LATENCY_S = 0.1
LOST_OF = 20
GRACE_S = 5.0
TRAFFIC_THREADS = 8
KILL_WITHIN_S = 0.5


@dataclass
class Result:
    """What one row came to; `goal` says in words what it misses."""

    calls: int = 0
    failed: int = 0
    refreshes: int = 0
    took_ms: list[float] = field(default_factory=list)
    alive: bool = False
    words: set[str] = field(default_factory=set)

    def percentile(self, part: float) -> float:
        ordered = sorted(self.took_ms)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


def main(arguments: list[str]) -> int:
    """Run rows and print a table; 1 if a goal is missed."""
    if arguments[:1] == ["agent"]:
        return serve(arguments[1], int(arguments[2]))
    missed = False
    print(f"{'':36}{'calls':>7}{'failed':>8}{'refreshes':>11}{'p50 ms':>9}{'p99 ms':>9}  session")
    for name in arguments or list(ROWS):
        title, run, is_good = ROWS[name]
        result = run()
        good = is_good(result) and not result.failed and result.alive
        missed |= not good
        p50, p99 = result.percentile(0.5), result.percentile(0.99)
        print(
            f"{title:36}{result.calls:7}{result.failed:8}{result.refreshes:11}{p50:9.0f}{p99:9.0f}"
            f"  {'alive' if result.alive else 'LOST'}{'' if good else '  MISSED'}",
            flush=True,
        )
        for words in sorted(result.words):
            print(f"    {words}")
    return int(missed)


@contextlib.contextmanager
def stage(**options: float) -> Iterator[tuple[FakeProvider, SignedIn]]:
    """Provide a provider and a user."""
    with tempfile.TemporaryDirectory() as place, FakeProvider(**options) as provider:  # type: ignore[arg-type]
        provider.latency_s = LATENCY_S
        yield provider, SignedIn(Path(place) / "home", provider)


def with_service(traffic: int = 0) -> Result:
    """Ask an agent that has to refresh once in each round."""
    with stage() as (provider, user):
        command = [
            sys.executable,
            "-m",
            "tests.bench",
            "rotation",
            "agent",
            user.environ["HOME"],
            str(traffic),
        ]
        service = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert service.stdout
            service.stdout.readline()
            return rounds(provider, user, lambda: converse(user.paths.socket, "forget"))
        finally:
            service.communicate()


def without_service() -> Result:
    """Let each round begin without any agent."""
    with stage() as (provider, user):
        return rounds(provider, user, lambda: wait_for_worker(user))


def with_lost_answers() -> Result:
    """Lose one answer in twenty, at a provider that allows for it."""
    with stage(reuse_grace_s=GRACE_S) as (provider, user):
        numbers = itertools.count(1)

        def lose(answer: Answer) -> Answer:  # evenly: a second one in a row is another story
            if next(numbers) % LOST_OF == LOST_OF // 2:
                provider.lost_answers += 1
            return answer

        provider.alter["refresh"] = lose
        return rounds(provider, user, lambda: wait_for_worker(user))


def rounds(provider: FakeProvider, user: SignedIn, between: Callable[[], object]) -> Result:
    """Start a crowd of helpers, again and again."""
    result = Result()
    for _ in range(ROUNDS):
        between()
        crowd = [(user.start([user.paths.helper]), time.perf_counter()) for _ in range(PROCESSES)]
        gather(crowd, result)
    result.refreshes = provider.count("refresh")
    between()
    result.alive = user.is_alive
    return result


def gather(crowd: list[tuple[subprocess.Popen[str], float]], result: Result) -> None:
    """Wait for all of them, and note when each one closed its output."""
    started = {id(process): start for process, start in crowd}
    with selectors.DefaultSelector() as waiting:
        for process, _ in crowd:
            assert process.stdout
            waiting.register(process.stdout, selectors.EVENT_READ, process)
        texts = {id(process): "" for process, _ in crowd}
        while waiting.get_map():
            for key, _ in waiting.select():
                more = os.read(key.fd, 65536).decode()
                texts[id(key.data)] += more
                if not more:
                    waiting.unregister(key.fileobj)
                    result.took_ms.append((time.perf_counter() - started[id(key.data)]) * 1000)
    for process, _ in crowd:
        _, error = process.communicate()
        result.calls += 1
        if process.returncode or texts[id(process)].count("\n") != 1:
            result.failed += 1
            result.words.add(error.strip().replace("\n", " "))


def kills() -> Result:
    """Kill `token` at random moments, alone and with its process group."""
    result, chance = Result(), random.Random(2)
    with stage() as (provider, user):
        for number in range(KILLS):
            process = user.start(user.command() if number % 4 < 2 else [user.paths.helper])
            time.sleep(chance.uniform(0, KILL_WITHIN_S))
            if number % 2:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.communicate()
            wait_for_worker(user)
            result.calls += 1
            if not user.is_alive:
                result.failed += 1
                user.sign_in()
        result.refreshes, result.alive = provider.count("refresh"), user.is_alive
    return result


def serve(home: str, traffic: int) -> int:
    """Be the service of that home until stdin ends, with threads that want tokens as a proxy does."""
    from thv_llm import paths, settings, tokens

    environ = {"HOME": home}
    where = paths.find(environ)
    source = tokens.open(settings.load(where.settings), where, environ)
    stop = threading.Event()

    def control(verb: str, _rest: str) -> str:
        if verb != "forget":
            raise UsageError("unknown")
        source.forget()
        return ""

    def want() -> None:
        while not stop.wait(0.01):
            source.get()

    agent = Agent(where.socket, source.get, control)
    agent.start()
    threads = [threading.Thread(target=want) for _ in range(traffic)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    agent.stop()
    return 0


ROWS: dict[str, tuple[str, Callable[[], Result], Callable[[Result], bool]]] = {
    "service": (
        "with the service",
        with_service,
        lambda r: r.refreshes <= ROUNDS and r.percentile(0.99) < 1000,
    ),
    "traffic": (
        f"… and {TRAFFIC_THREADS} threads of proxy traffic",
        lambda: with_service(TRAFFIC_THREADS),
        lambda r: r.refreshes <= ROUNDS + 1 and r.percentile(0.99) < 1000,
    ),
    "alone": ("without a service", without_service, lambda r: True),
    "lost": ("without, 5 % of the answers lost", with_lost_answers, lambda r: True),
    "kill": ("kill -9 at random moments", kills, lambda r: True),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
