"""What is told of each request, and the figures over all of them.

Nothing here holds a header's value (but the name of the client's program), a query, a body or a
token, so all of it can be logged.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from time import localtime, mktime, monotonic
from time import time as wall_clock

RECENT = 1000
"""Requests that the percentiles are taken from."""
MAX_TOOLS = 200
"""Names that figures are kept for; the credential helper can be called with any."""
MAX_PATH = 200
MAX_AGENT = 60


class Outcome(StrEnum):
    """How a request ended, and by whom it was ended."""

    OK = "ok"
    GATEWAY = "gateway"
    """The gateway's error response; or it could not be reached, broke off or took too long."""
    PROXY = "proxy"
    """Rejected by a rule of ours, or there was no token."""
    CLIENT = "client"
    """The client disconnected before the end."""


@dataclass(slots=True)
class LogEntry:
    """One request and what became of it; `finish` is called when it has ended.

    Attributes:
        time: when its head had arrived, seconds since the epoch.
        method: empty when no head could be read.
        path: without the query; control bytes escaped, cut short.
        status: as the client saw it; 0 when it disconnected before a response.
        first_byte_ms: until the response's head went to the client; None when none did.
        bytes_in: of the request's body.
        bytes_out: of the response's body, or of all of a response of ours.
        agent: the client's program and version ("claude-cli/2.1").
        tool: whose key it was; empty when that is unknown.
        reason: the rule that rejected it, or how it broke off; empty for a response of the gateway.
    """

    time: float = field(default_factory=wall_clock)
    method: str = ""
    path: str = ""
    status: int = 0
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    agent: str = ""
    tool: str = ""
    outcome: Outcome = Outcome.OK
    reason: str = ""
    _began: float = field(default_factory=monotonic)

    def responded(self, status: int) -> None:
        """Note that the head of a response goes to the client now."""
        self.status = status
        self.first_byte_ms = (monotonic() - self._began) * 1000

    def failed(self, outcome: Outcome, reason: str) -> None:
        """Note who ended it before its end, and why."""
        self.outcome, self.reason = outcome, reason

    def finish(self) -> None:
        """Note that it has ended."""
        self.total_ms = (monotonic() - self._began) * 1000


@dataclass(frozen=True)
class LastError:
    """Of one tool; `time` in seconds since the epoch, `status` 0 when no response was sent."""

    time: float
    status: int
    outcome: Outcome
    reason: str


@dataclass
class ToolFigures:
    """Requests with one tool's key, or its calls of the credential helper.

    Attributes:
        today: since the last midnight, local time.
        last_request: in seconds since the epoch.
    """

    requests: int = 0
    today: int = 0
    last_request: float | None = None
    last_error: LastError | None = None


@dataclass(frozen=True)
class Figures:
    """What `Proxy.stats()` says.

    Attributes:
        requests: that have ended: `ok`, `gateway_errors`, `rejected` and `disconnected` together.
        running: that have not.
        by_status: how many ended with each class of status ("2xx"); "gone" for no response at all.
        first_byte_p50_ms: over the most recent thousand; None before the first one.
        tools: by the tool's id.
    """

    requests: int
    running: int
    connections: int
    by_status: dict[str, int]
    ok: int
    gateway_errors: int
    rejected: int
    disconnected: int
    first_byte_p50_ms: float | None
    first_byte_p99_ms: float | None
    tools: dict[str, ToolFigures]


class ToolStats:
    """Counts what each tool does, in bounded memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tools: dict[str, ToolFigures] = {}
        self._day = (0.0, 0.0)

    def count(self, tool: str, time: float, error: LastError | None = None) -> None:
        """Take one request, or one call of the helper."""
        with self._lock:
            self._begin_day(time)
            known = self._tools.get(tool)
            if known is None:
                if len(self._tools) >= MAX_TOOLS:
                    return
                known = self._tools[tool] = ToolFigures()
            known.requests += 1
            known.today += 1
            known.last_request = time
            known.last_error = error or known.last_error

    def figures(self, now: float) -> dict[str, ToolFigures]:
        """Return the figures by the tool's id, as they are now."""
        with self._lock:
            self._begin_day(now)
            return {name: replace(figures) for name, figures in self._tools.items()}

    def _begin_day(self, now: float) -> None:
        begin, end = self._day
        if begin <= now < end:
            return
        year, month, day = localtime(now)[:3]
        begin, end = (mktime((year, month, day + more, 0, 0, 0, 0, 0, -1)) for more in (0, 1))
        self._day = (begin, end)
        for known in self._tools.values():
            known.today = 0


class Stats:
    """Counts requests, in bounded memory."""

    def __init__(self, tools: ToolStats | None = None) -> None:
        self.tools = tools or ToolStats()
        self._lock = threading.Lock()
        self._by_outcome: Counter[Outcome] = Counter()
        self._by_status: Counter[int] = Counter()
        self._recent: deque[float] = deque(maxlen=RECENT)

    def count(self, entry: LogEntry) -> None:
        """Take one request that has ended."""
        with self._lock:
            self._by_outcome[entry.outcome] += 1
            self._by_status[entry.status // 100] += 1
            if entry.first_byte_ms is not None:
                self._recent.append(entry.first_byte_ms)
        if entry.tool:
            error = None
            if entry.outcome in (Outcome.GATEWAY, Outcome.PROXY):
                error = LastError(entry.time, entry.status, entry.outcome, entry.reason)
            self.tools.count(entry.tool, entry.time, error)

    def figures(self, *, running: int, connections: int) -> Figures:
        """Return the figures as they are now."""
        with self._lock:
            recent = sorted(self._recent)
            by_outcome = self._by_outcome
            return Figures(
                requests=by_outcome.total(),
                running=running,
                connections=connections,
                by_status={f"{kind}xx" if kind else "gone": many for kind, many in self._by_status.items()},
                ok=by_outcome[Outcome.OK],
                gateway_errors=by_outcome[Outcome.GATEWAY],
                rejected=by_outcome[Outcome.PROXY],
                disconnected=by_outcome[Outcome.CLIENT],
                first_byte_p50_ms=_percentile(recent, 50),
                first_byte_p99_ms=_percentile(recent, 99),
                tools=self.tools.figures(wall_clock()),
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
