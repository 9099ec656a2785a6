"""What is told of requests."""

from __future__ import annotations

import time

import pytest

from thv_llm.proxy.stats import (
    MAX_TOOLS,
    RECENT,
    LastError,
    LogEntry,
    Outcome,
    Stats,
    ToolStats,
    shown_agent,
    shown_path,
)


def entry(status: int, first_byte_ms: float | None = 1.0, outcome: Outcome = Outcome.OK) -> LogEntry:
    return LogEntry(status=status, first_byte_ms=first_byte_ms, outcome=outcome)


def test_nothing_is_nothing() -> None:
    figures = Stats().figures(running=0, connections=0)

    assert (figures.requests, figures.first_byte_p50_ms, figures.by_status) == (0, None, {})


def test_percentiles_are_over_the_most_recent() -> None:
    stats = Stats()
    for _ in range(500):
        stats.count(entry(200, 9999.0))
    for number in range(RECENT):
        stats.count(entry(200, float(number)))

    figures = stats.figures(running=3, connections=4)

    assert (figures.first_byte_p50_ms, figures.first_byte_p99_ms) == (500.0, 990.0)
    assert (figures.requests, figures.running, figures.connections) == (RECENT + 500, 3, 4)


def test_requests_are_counted_by_status_and_by_who_ended_them() -> None:
    stats = Stats()
    for status, outcome in (
        (200, Outcome.OK),
        (204, Outcome.OK),
        (401, Outcome.PROXY),
        (429, Outcome.GATEWAY),
        (502, Outcome.GATEWAY),
        (0, Outcome.CLIENT),
    ):
        stats.count(entry(status, None, outcome))

    figures = stats.figures(running=0, connections=0)

    assert figures.by_status == {"2xx": 2, "4xx": 2, "gone": 1, "5xx": 1}
    assert (figures.ok, figures.gateway_errors, figures.rejected, figures.disconnected) == (2, 2, 1, 1)


def test_each_tool_has_its_own_count_last_request_and_last_error() -> None:
    stats = Stats()
    stats.count(LogEntry(time=1.0, tool="aider", status=403, outcome=Outcome.GATEWAY))
    stats.count(LogEntry(time=2.0, tool="aider", status=200))
    stats.count(LogEntry(time=3.0, tool="cline", outcome=Outcome.CLIENT))
    stats.count(LogEntry(time=4.0))

    tools = stats.figures(running=0, connections=0).tools

    assert set(tools) == {"aider", "cline"}
    assert (tools["aider"].requests, tools["aider"].last_request) == (2, 2.0)
    assert tools["aider"].last_error == LastError(1.0, 403, Outcome.GATEWAY, "")
    assert tools["cline"].last_error is None


def test_requests_of_today_begin_anew_at_midnight() -> None:
    noon = time.mktime((2026, 11, 29, 12, 0, 0, 0, 0, -1))
    tools = ToolStats()
    for hours in (-24, -23, 0, 11.9):
        tools.count("aider", noon + hours * 3600)

    assert [tools.figures(noon + hours * 3600)["aider"].today for hours in (11.9, 12.1)] == [2, 0]
    tools.count("aider", noon - 24 * 3600)  # the clock was set back
    assert tools.figures(noon)["aider"].today == 0
    assert tools.figures(noon)["aider"].requests == 5


def test_names_without_end_are_not_kept() -> None:
    tools = ToolStats()
    for number in range(2 * MAX_TOOLS):
        tools.count(f"tool-{number}", 1.0)

    assert len(tools.figures(1.0)) == MAX_TOOLS


def test_paths_are_shown_without_control_bytes_and_cut() -> None:
    assert shown_path(b"/v1/models") == "/v1/models"
    assert shown_path(b"/a\x1b\n\xff") == "/a\\x1b\\n\\\\xff"
    assert len(shown_path(b"/" + b"a" * 5000)) == 200


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"claude-cli/2.1 (external, cli)", "claude-cli/2.1"),
        (b"\x1b[31mcaf\xc3\xa9/1 x", "[31mcaf/1"),
        (b"", ""),
        (b"a" * 500, "a" * 60),
    ],
)
def test_of_an_agent_only_the_product_is_shown(value: bytes, shown: str) -> None:
    assert shown_agent(value) == shown
