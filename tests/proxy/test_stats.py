"""What is told of exchanges."""

from __future__ import annotations

import pytest

from thv_llm.proxy.stats import RECENT, Exchange, Stats, shown_agent, shown_path


def exchange(status: int, first_byte_ms: float | None = 1.0, refusal: str = "") -> Exchange:
    return Exchange(0.0, "GET", "/", status, first_byte_ms, 2.0, 0, 0, "", refusal)


def test_nothing_is_nothing() -> None:
    figures = Stats().figures(running=0, connections=0)

    assert (figures.requests, figures.first_byte_p50_ms, figures.by_status) == (0, None, {})


def test_percentiles_are_over_the_most_recent() -> None:
    stats = Stats()
    for _ in range(500):
        stats.count(exchange(200, 9999.0))
    for number in range(RECENT):
        stats.count(exchange(200, float(number)))

    figures = stats.figures(running=3, connections=4)

    assert (figures.first_byte_p50_ms, figures.first_byte_p99_ms) == (500.0, 990.0)
    assert (figures.requests, figures.running, figures.connections) == (RECENT + 500, 3, 4)


def test_classes_of_status_are_counted() -> None:
    stats = Stats()
    for status, refusal in ((200, ""), (204, ""), (401, "no key"), (0, "gone"), (502, "broken")):
        stats.count(exchange(status, None, refusal))

    figures = stats.figures(running=0, connections=0)

    assert figures.by_status == {"2xx": 2, "4xx": 1, "gone": 1, "5xx": 1}
    assert figures.refused == 3


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
