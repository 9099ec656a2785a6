"""How the service is shown: one line per request, and the counts of `proxy status`.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thv_llm.commands import screen
from thv_llm.service import background

if TYPE_CHECKING:
    from thv_llm.proxy.stats import Exchange
    from thv_llm.service.background import Running

PATH_WIDTH = 24
HEADING = f"what {'path':<{PATH_WIDTH}} got  1st byte   total    size tool"
"""The head of a column each; `request` fills them."""


def request(exchange: Exchange) -> str:
    """Return the line for one exchange, in the columns of `HEADING`; never a query."""
    path = exchange.path if len(exchange.path) <= PATH_WIDTH else "…" + exchange.path[1 - PATH_WIDTH :]
    tool = exchange.agent.partition("/")[0] or "-"
    first = screen.milliseconds(exchange.first_byte_ms) if exchange.first_byte_ms is not None else "-"
    parts = [
        f"{exchange.method or '?':<4} {path:<{PATH_WIDTH}}",
        f"{exchange.status or 'gone'!s:<4}",
        f"{first:>8}",
        f"{screen.milliseconds(exchange.total_ms):>7}",
        f"{screen.size(exchange.bytes_out):>7}",
        tool,
    ]
    return " ".join(parts) + (f"  ({exchange.refusal})" if exchange.refusal else "")


def document(found: Running | None, facts: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, object]:
    """Return what `proxy status --format json` prints."""
    if found is None:
        return {"running": False}
    run = found.record
    return {
        "running": True,
        "answers": found.answers,
        "pid": run.pid,
        "started_at": run.started_at,
        "version": run.version,
        "program": run.program,
        "proxy_port": run.port,
        "restart_because": list(reasons),
        "requests": facts.get("proxy"),
    }


def lines(
    found: Running | None, facts: Mapping[str, Any], reasons: Sequence[str], *, now: float
) -> list[str]:
    """Return what `proxy status` prints."""
    if found is None:
        return ["not running", "  next: thv-llm proxy start --background"]
    run = found.record
    offers = f"http://127.0.0.1:{run.port}" if run.port else "the token socket only; no tool needs the proxy"
    told = [
        f"running     for {screen.duration(now - run.started_at)} (pid {run.pid}, thv-llm {run.version})",
        f"listens on  {offers}",
    ]
    if not found.answers:
        told.append("answers     no; it hangs, or is just ending\n  next: thv-llm proxy restart")
    counted = facts.get("proxy")
    if isinstance(counted, dict):
        told += counts(counted)
    for reason in reasons:
        told.append(f"outdated    {reason}\n  next: thv-llm proxy restart")
    return told


def counts(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines about requests."""
    told = [f"requests    {summary(figures)}"]
    by_status = ", ".join(f"{count} {name}" for name, count in sorted(figures["by_status"].items()))
    if by_status:
        told.append(f"answers     {by_status}")
    if figures["first_byte_p50_ms"] is not None:
        p50, p99 = (screen.milliseconds(figures[f"first_byte_{name}_ms"]) for name in ("p50", "p99"))
        told.append(f"first byte  half within {p50}, 99 % within {p99}")
    return told


def summary(figures: Mapping[str, Any]) -> str:
    """Return the counts in a few words."""
    return f"{figures['requests']} served, {figures['running']} running, {figures['refused']} refused by us"


def service(found: Running, *, now: float) -> str:
    """Return the service in a line of `status`."""
    return (
        f"running for {screen.duration(now - found.record.started_at)} ({background.described(found.record)})"
    )
