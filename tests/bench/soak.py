"""Everything at once, for minutes, with one fault after another planted in it.

    python -m tests.bench soak [MINUTES]

The built file as a service, a provider whose tokens live two seconds and whose refresh tokens
rotate, 8 tools that stream without pause, 4 loops that call the helper. First the service is
restarted from a new version of its file. Then in turn: the provider is out of order and cannot be
reached, the gateway comes and goes, the gateway refuses every token, the wall clock jumps a day
ahead and back, the service is suspended, its log is full, its file is replaced under it.

What fails while provider or gateway are away, and for `GRACE_S` after it, is counted apart; in
the other faults nothing must fail. Exits 1 when something does, a session is lost, memory,
descriptors or threads grow, or a secret shows in a file, an output or a process.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import canaries
from tests.bench import growth
from tests.bench.helper import PYZ
from tests.fakes.cable import Cable
from tests.fakes.gateway import FakeGateway
from tests.fakes.provider import FakeProvider
from tests.fakes.web import Request, ServerResponse
from tests.service.lab import Lab, until
from thv_llm import log

STREAMS = 8
HELPERS = 4
TOKEN_LIFETIME_S = 2.0
GAP_S = 0.05
FAULT_S = 4.0
FLAP_S = 0.4
CALM_S = 12.0
GRACE_S = 5.0
"""The provider is not asked again for so long when it could not be reached twice (`tokens.failure`)."""
SAMPLE_S = 5.0
DAY_S = 86_400


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


class FailingProvider(FakeProvider):
    """A provider that can be out of order: it returns 503 and does nothing."""

    is_out_of_order = False

    def respond(self, request: Request) -> ServerResponse:
        """Respond, unless out of order."""
        if self.is_out_of_order:
            return ServerResponse(503, {"error": "temporarily_unavailable"})
        return super().respond(request)


def version(number: int, target: Path) -> None:
    """Replace a file by a version of ours in which everything stands at another place."""
    half = target.with_suffix(".half")
    with zipfile.ZipFile(PYZ) as ours, half.open("wb") as raw:
        raw.write(PYZ.read_bytes().split(b"\n", 1)[0] + b"\n")
        with zipfile.ZipFile(raw, "w") as new:
            new.writestr("0", bytes(1000 * number))
            for name in ours.namelist():
                new.writestr(name, ours.read(name))
    half.chmod(0o755)
    half.replace(target)


class Soak:
    """One run.

    Args:
        cables: to the provider and to the gateway.
    """

    def __init__(
        self, lab: Lab, provider: FailingProvider, cables: tuple[Cable, Cable], home: Path, minutes: float
    ) -> None:
        self.lab = lab
        self.provider = provider
        self.provider_cable, self.gateway_cable = cables
        self.tally = Tally()
        self.scan = canaries.Scan()
        self.wrong: list[str] = []
        self.versions = itertools.count(1)
        self.until = time.monotonic() + minutes * 60
        self.stopping = threading.Event()
        self.samples: list[growth.Sample] = []
        self.offset = home / "clock-offset"
        self.offset.write_text("0")
        self.program = home / "thv-llm.pyz"
        shutil.copy(PYZ, self.program)

    def type(self, *arguments: str) -> None:
        """Type a command of the built file."""
        command = [sys.executable, "-I", str(self.program), *arguments]
        done = subprocess.run(command, env=self.lab.environ, check=True, capture_output=True, text=True)
        self.scan.command_output(command, done.stdout, done.stderr)

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
        """Request one streamed response after the other, as a tool does."""
        key = self.lab.key()
        body = json.dumps({"model": "m-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while not self.stopping.is_set():
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.lab.port, timeout=60)
            with contextlib.closing(connection):
                try:
                    connection.request("POST", "/v1/chat/completions", body, headers)
                    response = connection.getresponse()
                    text = response.read()
                    self.scan.text("outputs", text, "an answer of the proxy")
                    ended_well = response.status == 200 and b"[DONE]" in text
                    problem = "" if ended_well else f"{response.status} {text[:200]!r}"
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
            self.scan.command_output([self.lab.paths.helper], done.stdout, done.stderr)
            self.tally.note("helper", "" if done.returncode == 0 else done.stderr, began)
            if done.returncode == 4:
                self.tally.counts["sessions lost"] += 1
            self.stopping.wait(0.1)

    @contextlib.contextmanager
    def outage(self, name: str) -> Iterator[None]:
        """Count apart what fails meanwhile."""
        self.tally.counts[f"fault: {name}"] += 1
        self.tally.fault = name
        try:
            yield
        finally:
            self.tally.fault_ended = time.monotonic()
            self.tally.fault = ""

    @contextlib.contextmanager
    def disturbance(self, name: str) -> Iterator[None]:
        """Have it last for a while; nothing must fail meanwhile."""
        self.tally.counts[f"fault: {name}"] += 1
        yield
        self.stopping.wait(FAULT_S)

    def faults(self) -> list[Callable[[], None]]:
        """Return what goes wrong, in turn."""
        return [
            self.provider_away,
            self.gateway_comes_and_goes,
            self.gateway_refuses,
            lambda: self.clock_jumps(DAY_S),
            lambda: self.clock_jumps(-DAY_S),
            self.suspended,
            self.log_full,
            self.file_replaced,
        ]

    def provider_away(self) -> None:
        """Let the provider return 503, then not at all."""
        with self.outage("provider away"):
            self.provider.is_out_of_order = True
            self.stopping.wait(FAULT_S / 2)
            self.provider_cable.pull()
            self.stopping.wait(FAULT_S / 2)
            self.provider_cable.plug()
            self.provider.is_out_of_order = False

    def gateway_comes_and_goes(self) -> None:
        """Cut every connection to the gateway again and again."""
        with self.outage("gateway comes and goes"):
            end = time.monotonic() + FAULT_S
            while time.monotonic() < end:
                self.gateway_cable.pull()
                self.stopping.wait(FLAP_S)
                self.gateway_cable.plug()
                self.stopping.wait(FLAP_S)

    def gateway_refuses(self) -> None:
        """Let the gateway refuse every token."""
        with self.outage("gateway refuses"):
            check = self.lab.gateway.check
            self.lab.gateway.check = _refuse
            self.stopping.wait(FAULT_S)
            self.lab.gateway.check = check

    def clock_jumps(self, seconds: float) -> None:
        """Set the service's clock wrong, and right again."""
        with self.disturbance("clock jumps a day"):
            self.offset.write_text(str(seconds))
        self.offset.write_text("0")

    def suspended(self) -> None:
        """Suspend the service, as sleep does; requests wait."""
        with self.disturbance("service suspended"):
            os.kill(self.pid, signal.SIGSTOP)
        os.kill(self.pid, signal.SIGCONT)

    def log_full(self) -> None:
        """Fill the log up to its limit; it must go on in a new one."""
        path = Path(self.lab.paths.log)
        with self.disturbance("log full"):
            with path.open("ab") as file:
                file.write(b"x" * log.MAX_FILE_BYTES + b"\n")
        if path.stat().st_size > log.MAX_FILE_BYTES or not path.with_name(f"{path.name}.1").exists():
            self.wrong.append(f"the log was not rotated: it has {path.stat().st_size} bytes")

    def file_replaced(self) -> None:
        """Put another version in place of the file from which the service runs."""
        with self.disturbance("file replaced"):
            version(next(self.versions), self.program)

    def upgraded(self) -> None:
        """Replace the file, and start the new version."""
        self.file_replaced()
        with self.outage("restart"):
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
        with canaries.watched(self.lab.home.path, self.scan):
            try:
                self._plant_until_the_end()
            finally:
                self.stopping.set()
                for thread in threads:
                    thread.join()
        self.scan.files(self.lab.home.path)

    def _plant_until_the_end(self) -> None:
        faults = self.faults()
        self._calm()
        self.upgraded()  # once, at the start: what grows is looked for in one process
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
            self.samples.append(growth.sample(self.pid))
            found = self.samples[-1]
            print(
                f"  {found.memory / 1e6:6.1f} MB, {found.descriptors} descriptors, {found.threads} threads; "
                + ", ".join(f"{name} {count}" for name, count in sorted(self.tally.counts.items())),
                flush=True,
            )

    def verdict(self) -> list[str]:
        """Return what is wrong; nothing when all is well."""
        counts = self.tally.counts
        wrong = [*self.tally.first_failures, *self.wrong, *self.scan.hits]
        if counts["sessions lost"] or self.lab.provider.grants.reuses:
            wrong.append(f"{counts['sessions lost']} sessions lost, {self.lab.provider.grants.reuses} reuses")
        if not (counts["request ok"] and counts["helper ok"]):
            wrong.append("nothing was done")
        return wrong + growth.found(self.samples)


def _refuse(_: str) -> object:
    raise ValueError("the gateway is out of order")


def main(arguments: list[str]) -> int:
    """Run for that many minutes."""
    minutes = float(arguments[0]) if arguments else 5.0
    home = Path(tempfile.mkdtemp(prefix="thv-llm-soak-"))
    with (
        FailingProvider(access_lifetime_s=TOKEN_LIFETIME_S) as provider,
        FakeGateway(provider.verify_access_token, gap_s=GAP_S) as gateway,
        Cable(provider.port) as provider_cable,
        Cable(gateway.port) as gateway_cable,
    ):
        provider.issuer = f"https://127.0.0.1:{provider_cable.port}"
        gateway.url = f"https://127.0.0.1:{gateway_cable.port}"
        lab = Lab(home, provider, gateway)
        soak = Soak(lab, provider, (provider_cable, gateway_cable), home, minutes)
        try:
            soak.run()
        finally:
            lab.close()
            until(lambda: not lab.processes())
            shutil.rmtree(home, ignore_errors=True)
    wrong = soak.verdict()
    for name, count in sorted(soak.tally.counts.items()):
        print(f"{name:<32}{count}")
    print(f"{'provider refreshes':<32}{provider.grants.refreshes}")
    print(*growth.course(soak.samples), soak.scan.verdict(), sep="\n")
    print("\n".join(["WRONG:", *wrong]) if wrong else "All is well.")
    return 1 if wrong else 0
