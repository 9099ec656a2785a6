"""What the proxy costs, beside nothing at all, nginx and Go's ReverseProxy: `make bench`.

Every row is measured on all of them in turn, for several rounds; the table shows medians. The
figures are those of this machine at this moment, so what counts is the ratio to Go in the last
column. Each load is bounded in count and time.

`ROW=cost` measures CPU time for each request and event, which other processes hardly change.
BENCH_BEFORE names another tree of the sources, whose proxy is measured as well: in short rounds
in turn, a change of a few percent shows. BENCH_PLACES=Go,ours leaves the others out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import stage
from tests.bench.serve import KEY
from tests.bench.stage import GATEWAY, NGINX, PEER, TLS, WRK, Stage

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "2"))
BEFORE = os.environ.get("BENCH_BEFORE", "")
PLACES = os.environ.get("BENCH_PLACES", "direct,nginx,Go,before,ours").split(",")
STREAMS = 256


@dataclass(frozen=True)
class Place:
    """One of the competitors.

    Attributes:
        url: where its responses come from; `events` where its event streams do.
        pid: of its process, for its CPU time and memory; 0 for the gateway itself.
    """

    name: str
    url: str
    events: str
    pid: int
    events_pid: int


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        goal: of ours divided by Go's: a most when less is better, a least when more is.
        of_process: it looks at the process, so there is none without anything between.
    """

    name: str
    title: str
    unit: str
    goal: str
    measure: Callable[[Place], float]
    of_process: bool = False


class Cost(float):
    """CPU time in µs, of which `user` was spent in the program itself, the rest in the kernel for it."""

    user = 0.0

    @classmethod
    def since(cls, before: dict[str, float], pid: int, count: int) -> Cost:
        """Return what each of so many requests cost since `before`, which `stage.cpu_times` returned."""
        used = {kind: now - before[kind] for kind, now in stage.cpu_times(pid).items()}
        found = cls(sum(used.values()) / count * 1e6)
        found.user = used["user"] / count * 1e6
        return found


def wrk(place: Place, path: str, connections: int, *options: str) -> str:
    threads = "1" if connections == 1 else "2"
    command = [WRK, "-t", threads, "-c", str(connections), "-d", f"{SECONDS}s", "--latency"]
    command += ["-H", f"Authorization: Bearer {KEY}", *options, place.url + path]
    text = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 30, check=True).stdout
    if "Non-2xx" in text or ("Socket errors" in text and "close" not in " ".join(options)):
        raise RuntimeError(text)
    return text


def rate(path: str, connections: int, *options: str) -> Callable[[Place], float]:
    def measure(place: Place) -> float:
        found = re.search(r"Requests/sec:\s+([\d.]+)", wrk(place, path, connections, *options))
        assert found is not None
        return float(found[1])

    return measure


def p50(path: str, connections: int, *options: str) -> Callable[[Place], float]:
    def measure(place: Place) -> float:
        found = re.search(r"50%\s+([\d.]+)(us|ms|s)", wrk(place, path, connections, *options))
        assert found is not None
        return float(found[1]) * {"us": 1, "ms": 1000, "s": 1_000_000}[found[2]]

    return measure


def megabytes(path: str, connections: int, size: int, *options: str) -> Callable[[Place], float]:
    per_second = rate(path, connections, *options)
    return lambda place: per_second(place) * size / 1e6


def posting(size: int) -> tuple[str, ...]:
    """Return wrk's options for posts of that size."""
    script = Path(tempfile.gettempdir()) / f"thv-llm-bench-post-{os.getuid()}-{size}.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {size})\n')
    return ("-s", str(script))


def cost(path: str, connections: int, *options: str) -> Callable[[Place], float]:
    """Return what measures the CPU time of one request."""

    def measure(place: Place) -> float:
        before = stage.cpu_times(place.pid)
        found = re.search(r"(\d+) requests in", wrk(place, path, connections, *options))
        assert found is not None
        return Cost.since(before, place.pid, int(found[1]))

    return measure


def events(rate_per_s: int, figure: str, streams: int = STREAMS, body: int = 0) -> Callable[[Place], float]:
    def measure(place: Place) -> float:
        binary = os.environ["BENCH_EVENTS"]
        count = rate_per_s * (SECONDS + 2)
        before = stage.cpu_times(place.events_pid) if place.events_pid else {}
        command = [binary, "-url", place.events, "-key", KEY, "-ca", str(TLS / "ca.pem")]
        command += [
            "-streams",
            str(streams),
            "-body",
            str(body),
            "-rate",
            str(rate_per_s),
            "-count",
            str(count),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            memory = 0.0
            while (
                reader.poll() is None
            ):  # the last look counts, when all streams run and no prompt is under way
                memory = stage.memory_mb(place.events_pid) if place.events_pid else 0.0
                time.sleep(0.2)
            text = reader.communicate(timeout=60)[0]
        found = json.loads(text)
        if found["lost"]:
            raise RuntimeError(f"{place.name}: {found['lost']} events lost")
        if figure == "cpu_us":
            return Cost.since(before, place.events_pid, streams * count)
        return memory if figure == "memory_mb" else float(found[figure])

    return measure


def memory_after_requests(place: Place) -> float:
    """Ask 10,000 times or more; return what is in memory then."""
    ask = rate("/1k", 8)
    asked = 0.0
    while asked < 10_000:
        asked += ask(place) * SECONDS
    return stage.memory_mb(place.pid)


def memory_growth(place: Place) -> float:
    """Return by how much another 10,000 requests make it more."""
    before = memory_after_requests(place)
    return memory_after_requests(place) - before


def burst(place: Place) -> float:
    """Connect 200 times at once, ask for health or anything; return the last response's time in ms."""
    port = int(place.url.rpartition(":")[2])
    ask = f"GET /1k HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    began = time.monotonic()
    times: list[float] = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for _ in range(200):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            selector.register(sock, selectors.EVENT_WRITE)
        while len(times) < 200 and time.monotonic() - began < 10:
            for key, ready in selector.select(1):
                sock = key.fileobj  # type: ignore[assignment]
                if ready & selectors.EVENT_WRITE:
                    sock.send(ask)
                    selector.modify(sock, selectors.EVENT_READ)
                elif sock.recv(65536):
                    times.append((time.monotonic() - began) * 1000)
                    selector.unregister(sock)
    if len(times) < 200:
        raise RuntimeError(f"{place.name}: {200 - len(times)} of 200 connections were not served")
    return sorted(times)[197]


CLOSING = ("-H", "Connection: close")
ROWS = (
    Row("small-1", "1 KB answers, 1 connection, p50", "µs", "< 0.8", p50("/1k", 1)),
    Row("small-8", "1 KB answers, 8 connections", "1/s", ">= 0.9", rate("/1k", 8)),
    Row("small-64", "1 KB answers, 64 connections", "1/s", ">= 0.9", rate("/1k", 64)),
    Row(
        "connect-8",
        "a new connection each, 8 at once",
        "1/s",
        ">= 0.8",
        rate("/1k", 8, *CLOSING),
    ),
    Row("answers-100k", "100 KB answers, 8 connections", "MB/s", ">= 1.0", megabytes("/100k", 8, 100 * 1024)),
    Row("answers-5m", "5 MB answers, 1 connection", "MB/s", ">= 1.1", megabytes("/5m", 1, 5 * 1024 * 1024)),
    Row(
        "uploads-10m",
        "10 MB uploads, 1 connection",
        "MB/s",
        ">= 1.1",
        megabytes("/post", 1, 10_000_000, *posting(10_000_000)),
    ),
    Row(
        "posts-100k", "100 KB posts, 1 connection, p50", "µs", "< 0.8", p50("/post", 1, *posting(100 * 1024))
    ),
    Row("events-64-p50", "64 streams, 50 events/s each, p50", "ms", "<= 1.2", events(50, "p50_ms", 64)),
    Row("events-64-p99", "64 streams, 50 events/s each, p99", "ms", "<= 1.6", events(50, "p99_ms", 64)),
    Row("events-25", "256 streams, 25 events/s each, p99", "ms", "", events(25, "p99_ms")),
    Row("events-50", "256 streams, 50 events/s each, p99", "ms", "<= 1.6", events(50, "p99_ms")),
    Row("events-memory", "memory with 256 streams", "MB", "<= 45 MB", events(50, "memory_mb"), True),
    Row(
        "events-prompts",
        "memory with 40 streams, prompts of 4 MB",
        "MB",
        "<= 60 MB",
        events(50, "memory_mb", 40, 4_000_000),
        True,
    ),
    Row("memory-after", "memory after 10,000 requests", "MB", "<= 64 MB", memory_after_requests, True),
    Row("memory-growth", "growth over 10,000 more", "MB", "flat", memory_growth, True),
    Row("burst", "200 connections at once, p99", "ms", "< 1.0", burst, True),
    Row("cost-small-1", "CPU: 1 KB answer, 1 connection", "µs", "", cost("/1k", 1), True),
    Row("cost-small-8", "CPU: 1 KB answer, 8 connections", "µs", "<= 1.0", cost("/1k", 8), True),
    Row("cost-connect", "CPU: with a new connection", "µs", "", cost("/1k", 8, *CLOSING), True),
    Row("cost-100k", "CPU: 100 KB answer, 8 connections", "µs", "", cost("/100k", 8), True),
    Row("cost-5m", "CPU: 5 MB answer", "µs", "", cost("/5m", 1), True),
    Row("cost-uploads", "CPU: 10 MB upload", "µs", "", cost("/post", 1, *posting(10_000_000)), True),
    Row("cost-posts", "CPU: 100 KB post", "µs", "", cost("/post", 1, *posting(100 * 1024)), True),
    Row("cost-events-64", "CPU: event in 64 streams", "µs", "", events(50, "cpu_us", 64), True),
    Row("cost-events-256", "CPU: event in 256 streams", "µs", "<= 1.1", events(50, "cpu_us"), True),
)


@contextlib.contextmanager
def _places(at: Stage):  # type: ignore[no-untyped-def]
    """Start everything; yield the competitors."""
    gateway, peer, go = (at.free_port() for _ in range(3))
    emitter, peer_events, go_events = (at.free_port() for _ in range(3))
    go_proxy, go_streams = at.go("reverse_proxy"), at.go("events")
    os.environ["BENCH_EVENTS"] = go_streams
    ca = str(TLS / "ca.pem")

    def local(port: int, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{port}"

    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        if NGINX:
            enter(at.nginx("gateway", gateway, GATEWAY))
        if go_streams:
            files = ("-cert", str(TLS / "server.pem"), "-cert-key", str(TLS / "server.key"))
            enter(at.run(go_streams, "-listen", f"127.0.0.1:{emitter}", *files, port=emitter))
        places = [Place("direct", local(gateway, "https"), local(emitter, "https"), 0, 0)]
        if NGINX:
            pids = [
                enter(at.nginx("peer", peer, PEER, gateway)),
                enter(at.nginx("peer-events", peer_events, PEER, emitter)),
            ]
            # A worker does nginx's work, not the process that was started.
            pids = [_child(pid) for pid in pids]
            places.append(Place("nginx", local(peer), local(peer_events), *pids))
        if go_proxy:
            pids = []
            for port, upstream in ((go, gateway), (go_events, emitter)):
                options = ("-listen", f"127.0.0.1:{port}", "-upstream", local(upstream, "https"), "-ca", ca)
                pids.append(enter(at.run(go_proxy, *options, port=port)))
            places.append(Place("Go", local(go), local(go_events), *pids))
        for name, tree in {"before": BEFORE, "ours": str(stage.TOP)}.items():
            if tree:
                ports = at.free_port(), at.free_port()
                upstreams = local(gateway, "https"), local(emitter, "https")
                pids = [enter(at.ours(*pair, tree)) for pair in zip(ports, upstreams, strict=True)]
                places.append(Place(name, local(ports[0]), local(ports[1]), *pids))
        yield [place for place in places if place.name in PLACES]


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _table(found: dict[str, dict[str, list[float]]], names: list[str]) -> str:
    lines = [
        "| | " + " | ".join(names) + " | ours / Go | goal |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for row in ROWS:
        if row.name not in found:
            continue
        medians = {name: statistics.median_low(values) for name, values in found[row.name].items()}
        cells = [_cell(medians[name]) if name in medians else "" for name in names]
        ratio = f"{medians['ours'] / medians['Go']:.2f}" if medians.get("Go", 0) > 0 else ""
        lines.append(f"| {row.title}, {row.unit} | " + " | ".join(cells) + f" | {ratio} | {row.goal} |")
    return "\n".join(lines)


def _cell(figure: float) -> str:
    text = f"{figure:,.{0 if figure >= 100 else 2}f}"
    return f"{text} ({figure.user:,.0f} + {figure - figure.user:,.0f})" if isinstance(figure, Cost) else text


def main(arguments: list[str]) -> int:
    """Measure the rows whose names begin as asked, or all of them, and print one table."""
    rows = [row for row in ROWS if not arguments or row.name.startswith(tuple(arguments))]
    if not rows:
        known = ", ".join(row.name for row in ROWS)
        print(f"usage: python -m tests.bench proxy [ROW…], with each ROW one of {known}", file=sys.stderr)
        return 2
    if lacking := stage.lacking():
        left_out = [row.name for row in rows if "events" not in row.name]
        print(f"not measured without {' and '.join(lacking)}: {', '.join(left_out)}", file=sys.stderr)
        print(f"  next: sudo apt install {' '.join(lacking.values())}", file=sys.stderr)
        rows = [row for row in rows if row.name not in left_out]
    if not rows:
        return 2
    with tempfile.TemporaryDirectory(prefix="thv-llm-bench-") as work:
        at = Stage(Path(work), os.environ.get("BENCH_PYTHON", sys.executable))
        with _places(at) as places:
            found: dict[str, dict[str, list[float]]] = {}
            for _ in range(ROUNDS):
                for row in rows:
                    for place in places:
                        if "events" in row.name and not os.environ["BENCH_EVENTS"]:
                            continue
                        if row.of_process and place.name == "direct":
                            continue
                        if row.name.startswith("cost") and place.name == "nginx":
                            continue
                        try:
                            figure = row.measure(place)
                        except RuntimeError as error:  # a busy machine; the other rounds have it
                            print(f"\r{row.name}: {error}", file=sys.stderr)
                            continue
                        found.setdefault(row.name, {}).setdefault(place.name, []).append(figure)
                        print(f"\r{row.name} {place.name}        ", end="", file=sys.stderr)
            print("\r", file=sys.stderr)
            print(f"ours on {at.python_version()}, {ROUNDS} rounds of {SECONDS} s\n")
            print(_table(found, [place.name for place in places]))
    return 0
