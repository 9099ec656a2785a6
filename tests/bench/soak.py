"""Everything at once, for minutes, with one fault after another planted in it.

    python -m tests.bench soak [MINUTES]

The built file as a service, a provider whose tokens live two seconds and whose refresh tokens
rotate, 8 tools that stream without pause, 4 loops that call the helper. In turn: the provider is
down, the gateway refuses every request, the wall clock jumps a day ahead and back, the service
is suspended, its log is full; once its file is replaced and it is restarted. What fails while a
fault is there, and for `GRACE_S` after it, is counted apart. Exits 1 when anything fails outside
the faults, a session is lost, or memory, descriptors or threads grow.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.fakes.web import Answer, Request
from tests.service.lab import Lab, until
from thv_llm import log, state

TOP = Path(__file__).resolve().parent.parent.parent
STREAMS = 8
HELPERS = 4
TOKEN_LIFETIME_S = 2.0
GAP_S = 0.05
FAULT_S = 5.0
CALM_S = 12.0
GRACE_S = 3.0
SAMPLE_S = 5.0
DAY_S = 86_400
MAX_GROWTH_BYTES = 10 * 1024 * 1024
MAX_GROWTH = 12
"""Of descriptors and of threads: what the tools' own connections come and go by."""


@dataclass
class Tally:
    """What happened, to tools and helpers together."""

    counts: Counter[str] = field(default_factory=Counter)
    first_failures: list[str] = field(default_factory=list)
    fault: str = ""
    fault_ended: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, who: str, problem: str, began: float) -> None:
        """Count one attempt; `problem` is "" when it went well."""
        excused = bool(self.fault) or began < self.fault_ended + GRACE_S
        with self.lock:
            kind = "ok" if not problem else "failed in a fault" if excused else "failed"
            self.counts[f"{who} {kind}"] += 1
            if kind == "failed" and len(self.first_failures) < 10:
                self.first_failures.append(f"{who}: {problem}")


@dataclass(frozen=True)
class Sample:
    """The service process at one moment; memory in bytes."""

    memory: int
    descriptors: int
    threads: int


class FailingProvider(FakeProvider):
    """A provider that can be out of order: it answers 503 and does nothing."""

    is_down = False

    def respond(self, request: Request) -> Answer:
        """Answer, unless out of order."""
        if self.is_down:
            return Answer(503, {"error": "temporarily_unavailable"})
        return super().respond(request)


def sample(pid: int) -> Sample:
    """Look at a process."""
    place = Path(f"/proc/{pid}")
    facts = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    memory = int(facts["VmRSS"].split()[0]) * 1024
    return Sample(memory, len(os.listdir(place / "fd")), int(facts["Threads"]))


class Soak:
    """One run."""

    def __init__(self, lab: Lab, provider: FailingProvider, home: Path, minutes: float) -> None:
        self.lab = lab
        self.provider = provider
        self.tally = Tally()
        self.until = time.monotonic() + minutes * 60
        self.stopping = threading.Event()
        self.samples: list[Sample] = []
        self.offset = home / "clock-offset"
        self.offset.write_text("0")
        self.program = home / "thv-llm.pyz"
        shutil.copy(TOP / "dist" / "thv-llm.pyz", self.program)

    def type(self, *arguments: str, check: bool = True) -> None:
        """Type a command of the built file."""
        command = [sys.executable, "-I", str(self.program), *arguments]
        subprocess.run(command, env=self.lab.environ, check=check, capture_output=True)

    def start_service(self) -> None:
        """Start the built file as a service whose clock we can set."""
        clocked = Path(__file__).with_name("clocked.py")
        command = [sys.executable, str(clocked), str(self.offset), str(self.program)]
        with subprocess.Popen(
            [*command, "proxy", "start", "--detach"], env=self.lab.environ, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stdout.read(5) == b"ready"

    @property
    def pid(self) -> int:
        """The service process."""
        return int(json.loads(Path(self.lab.paths.pid).read_text())["pid"])

    def stream(self) -> None:
        """Ask for one streamed answer after the other, as a tool does."""
        key = state.local_key(self.lab.paths).reveal()
        body = json.dumps({"model": "m-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while not self.stopping.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.lab.port, timeout=60)
            with contextlib.closing(connection):
                try:
                    connection.request("POST", "/v1/chat/completions", body, headers)
                    answer = connection.getresponse()
                    text = answer.read()
                    ended_well = answer.status == 200 and b"[DONE]" in text
                    problem = "" if ended_well else f"{answer.status} {text[:200]!r}"
                except (OSError, http.client.HTTPException) as error:
                    problem = repr(error)
            self.tally.note("request", problem, began)
            if problem:
                self.stopping.wait(0.2)

    def help(self) -> None:
        """Call the helper again and again, as a direct tool does."""
        while not self.stopping.is_set():
            began = time.monotonic()
            done = subprocess.run(
                [self.lab.paths.helper], env=self.lab.environ, capture_output=True, text=True, check=False
            )
            self.tally.note("helper", "" if done.returncode == 0 else done.stderr, began)
            if done.returncode == 4:
                self.tally.counts["sessions lost"] += 1
            self.stopping.wait(0.1)

    @contextlib.contextmanager
    def planted(self, name: str) -> Iterator[None]:
        """Count what happens meanwhile as happening in a fault."""
        self.tally.fault = name
        self.tally.counts[f"fault: {name}"] += 1
        try:
            yield
        finally:
            self.tally.fault_ended = time.monotonic()
            self.tally.fault = ""

    def faults(self) -> list[Callable[[], None]]:
        """Return what goes wrong, in turn."""
        return [
            self.provider_down,
            self.gateway_down,
            lambda: self.clock(DAY_S),
            lambda: self.clock(-DAY_S),
            self.suspended,
            self.log_full,
        ]

    def provider_down(self) -> None:
        """Let the provider answer 503."""
        with self.planted("provider down"):
            self.provider.is_down = True
            self.stopping.wait(FAULT_S)
            self.provider.is_down = False

    def gateway_down(self) -> None:
        """Let the gateway refuse every token."""
        with self.planted("gateway refuses"):
            check = self.lab.gateway.check
            self.lab.gateway.check = _refuse
            self.stopping.wait(FAULT_S)
            self.lab.gateway.check = check

    def clock(self, seconds: float) -> None:
        """Set the service's clock wrong, and right again; no request may fail."""
        self.tally.counts["clock jumps"] += 1
        self.offset.write_text(str(seconds))
        self.stopping.wait(FAULT_S)
        self.offset.write_text("0")

    def suspended(self) -> None:
        """Suspend the service, as sleep does; requests wait, none may fail."""
        self.tally.counts["suspended"] += 1
        os.kill(self.pid, signal.SIGSTOP)
        self.stopping.wait(FAULT_S)
        os.kill(self.pid, signal.SIGCONT)

    def log_full(self) -> None:
        """Fill the log up to its limit; it goes on in a new one."""
        self.tally.counts["log filled"] += 1
        with open(self.lab.paths.log, "ab") as file:
            file.write(b"x" * log.MAX_FILE_BYTES + b"\n")

    def replaced(self) -> None:
        """Replace the file under the running service, then start the new one."""
        new = self.program.with_suffix(".new")
        shutil.copy(TOP / "dist" / "thv-llm.pyz", new)
        os.replace(new, self.program)
        self.stopping.wait(FAULT_S)
        with self.planted("restart"):
            self.type("proxy", "stop")
            self.start_service()

    def run(self) -> None:
        """Run to the end of the time."""
        self.type("setup", "--lazy", "--no-service", "--yes", "--client", "claude-code", "--models", "m-1")
        self.lab.want(proxy=True)
        self.start_service()
        threads = [threading.Thread(target=self.stream) for _ in range(STREAMS)]
        threads += [threading.Thread(target=self.help) for _ in range(HELPERS)]
        for thread in threads:
            thread.start()
        try:
            self._plant_until_the_end()
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join(30)

    def _plant_until_the_end(self) -> None:
        faults = self.faults()
        self._calm()
        self.replaced()  # once, at the start: what grows is looked for in one process
        self.samples.clear()
        while time.monotonic() < self.until:
            self._calm()
            fault = faults.pop(0)
            fault()
            faults.append(fault)
        self._calm()

    def _calm(self) -> None:
        end = time.monotonic() + CALM_S
        while time.monotonic() < end:
            self.stopping.wait(SAMPLE_S)
            self.samples.append(sample(self.pid))
            found = self.samples[-1]
            print(
                f"  {found.memory / 1e6:6.1f} MB, {found.descriptors} descriptors, {found.threads} threads; "
                + ", ".join(f"{name} {count}" for name, count in sorted(self.tally.counts.items())),
                flush=True,
            )

    def verdict(self) -> list[str]:
        """Return what is wrong; nothing when all is well."""
        counts = self.tally.counts
        wrong = [*self.tally.first_failures]
        if counts["sessions lost"] or self.lab.provider.grants.reuses:
            wrong.append(f"{counts['sessions lost']} sessions lost, {self.lab.provider.grants.reuses} reuses")
        if not (counts["request ok"] and counts["helper ok"]):
            wrong.append("nothing was done")
        return wrong + _growth(self.samples)


def _refuse(_: str) -> object:
    raise ValueError("the gateway is out of order")


def _growth(samples: list[Sample]) -> list[str]:
    """Compare the last third of the samples with the first."""
    third = len(samples) // 3
    if third < 2:
        return []
    wrong = []
    limits = {"memory": MAX_GROWTH_BYTES, "descriptors": MAX_GROWTH, "threads": MAX_GROWTH}
    for name, limit in limits.items():
        first = max(getattr(one, name) for one in samples[:third])
        last = max(getattr(one, name) for one in samples[-third:])
        if last - first > limit:
            wrong.append(f"{name} grew from {first} to {last}")
    return wrong


def main(arguments: list[str]) -> int:
    """Run for that many minutes."""
    minutes = float(arguments[0]) if arguments else 5.0
    home = Path(tempfile.mkdtemp(prefix="thv-llm-soak-"))
    with (
        FailingProvider(access_lifetime_s=TOKEN_LIFETIME_S) as provider,
        FakeGateway(provider.verify_access_token, gap_s=GAP_S) as gateway,
    ):
        lab = Lab(home, provider, gateway)
        soak = Soak(lab, provider, home, minutes)
        try:
            soak.run()
        finally:
            lab.close()
            until(lambda: not lab.processes())
            shutil.rmtree(home, ignore_errors=True)
    wrong = soak.verdict()
    for name, count in sorted(soak.tally.counts.items()):
        print(f"{name:<28}{count}")
    print(f"{'provider refreshes':<28}{provider.grants.refreshes}")
    print("\n".join(["WRONG:", *wrong]) if wrong else "All is well.")
    return 1 if wrong else 0
