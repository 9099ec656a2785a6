"""What is told of each exchange, and the figures over all of them.

Nothing here holds a header's value (but the name of the tool's program), a query, a body or a
token, so all of it may be logged.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

RECENT = 1000
"""Exchanges that the percentiles are taken from."""
MAX_PATH = 200
MAX_AGENT = 60


class Exchange(NamedTuple):
    """One request and what became of it.

    Attributes:
        time: when its head had arrived, seconds since the epoch.
        method: empty when no head could be read.
        path: without the query; control bytes escaped, cut short.
        status: as the tool saw it; 0 when it went away before an answer.
        first_byte_ms: until the answer's head went to the tool; None when none did.
        bytes_in: of the request's body.
        bytes_out: of the answer's body, or of all of an answer of ours.
        agent: the tool's program and version ("claude-cli/2.1").
        refusal: why we answered ourselves, or why the stream was broken off; else empty.
    """

    time: float
    method: str
    path: str
    status: int
    first_byte_ms: float | None
    total_ms: float
    bytes_in: int
    bytes_out: int
    agent: str
    refusal: str


@dataclass(frozen=True)
class Figures:
    """What `Proxy.stats()` says.

    Attributes:
        requests: that have ended.
        running: that have not.
        by_status: how many ended with each class of status ("2xx"); "gone" for tools that left.
        refused: that were answered by us with an error, or broken off.
        first_byte_p50_ms: over the most recent thousand; None before the first one.
    """

    requests: int
    running: int
    connections: int
    by_status: dict[str, int]
    refused: int
    first_byte_p50_ms: float | None
    first_byte_p99_ms: float | None


class Record:
    """What will be told of an exchange that is going on."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.time = time.time()
        self.method = self.path = self.agent = self.refusal = ""
        self.status = self.bytes_in = self.bytes_out = 0
        self.first_byte: float | None = None

    def exchange(self) -> Exchange:
        """Return what is known by now, as of an exchange that has ended."""
        first = self.first_byte
        return Exchange(
            time=self.time,
            method=self.method,
            path=self.path,
            status=self.status,
            first_byte_ms=None if first is None else (first - self.began) * 1000,
            total_ms=(time.monotonic() - self.began) * 1000,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            agent=self.agent,
            refusal=self.refusal,
        )


class Stats:
    """Counts exchanges, in bounded memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._refused = 0
        self._by_status: Counter[int] = Counter()
        self._recent: deque[float] = deque(maxlen=RECENT)

    def count(self, exchange: Exchange) -> None:
        """Take one exchange that has ended."""
        with self._lock:
            self._requests += 1
            self._refused += bool(exchange.refusal)
            self._by_status[exchange.status // 100] += 1
            if exchange.first_byte_ms is not None:
                self._recent.append(exchange.first_byte_ms)

    def figures(self, *, running: int, connections: int) -> Figures:
        """Return the figures as they are now."""
        with self._lock:
            recent = sorted(self._recent)
            return Figures(
                requests=self._requests,
                running=running,
                connections=connections,
                by_status={f"{kind}xx" if kind else "gone": many for kind, many in self._by_status.items()},
                refused=self._refused,
                first_byte_p50_ms=_percentile(recent, 50),
                first_byte_p99_ms=_percentile(recent, 99),
            )


def _percentile(ordered: list[float], percent: int) -> float | None:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


@lru_cache(maxsize=256)
def shown_path(path: bytes) -> str:
    """Return a path for a log line: ASCII, no control bytes, not too long."""
    return path[:MAX_PATH].decode("ascii", "backslashreplace").encode("unicode_escape").decode()


@lru_cache(maxsize=64)
def shown_agent(value: bytes) -> str:
    """Return the product of a User-Agent header: its first word, printable ASCII only."""
    first = value.split(b" ", 1)[0][:MAX_AGENT]
    return "".join(character for character in first.decode("latin-1") if "!" <= character <= "~")
