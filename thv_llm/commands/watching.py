"""How the service is shown: one line per request, the counts of `proxy status`, and its log."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from thv_llm import log
from thv_llm.commands import screen
from thv_llm.errors import ThvLlmError
from thv_llm.service import background
from thv_llm.system import file_system

if TYPE_CHECKING:
    from thv_llm.context import Context
    from thv_llm.proxy.stats import LogEntry
    from thv_llm.service.background import Running

PATH_WIDTH = 24
HEADING = f"what {'path':<{PATH_WIDTH}} got  1st byte   total    size tool"
"""The head of a column each; `request` fills them."""
LAST_LINES = 50
POLL_S = 0.2
TAIL_BYTES = 64_000
"""Enough for the last lines; a record has 2,000 characters at most."""


def seen(context: Context) -> tuple[Running | None, dict[str, Any], list[str]]:
    """Return the service, if it runs, what it says of itself, and why it should be restarted."""
    running = background.find(context.paths)
    facts = background.facts(context.paths) if running and running.responds else {}
    reasons = background.reasons_to_restart(context.paths, running.record) if running else []
    return running, facts, reasons


def request(entry: LogEntry) -> str:
    """Return the line for one request, in the columns of `HEADING`; never a query."""
    path = entry.path if len(entry.path) <= PATH_WIDTH else "…" + entry.path[1 - PATH_WIDTH :]
    tool = entry.tool or entry.agent.partition("/")[0] or "-"
    first = screen.milliseconds(entry.first_byte_ms) if entry.first_byte_ms is not None else "-"
    parts = [
        f"{entry.method or '?':<4} {path:<{PATH_WIDTH}}",
        f"{entry.status or 'gone'!s:<4}",
        f"{first:>8}",
        f"{screen.milliseconds(entry.total_ms):>7}",
        f"{screen.size(entry.bytes_out):>7}",
        tool,
    ]
    # Whose response it was: a 403 of the proxy names its rule, one of the gateway does not.
    ended_by = (
        "" if entry.outcome == "ok" else f"  ({': '.join(filter(None, (entry.outcome, entry.reason)))})"
    )
    return " ".join(parts) + ended_by


def document(found: Running | None, facts: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, object]:
    """Return what `proxy status --format json` prints."""
    if found is None:
        return {"running": False}
    run = found.record
    return {
        "running": True,
        "answers": found.responds,
        "pid": run.pid,
        "started_at": run.started_at,
        "version": run.version,
        "program": run.program,
        "proxy_port": run.port,
        "restart_because": list(reasons),
        "requests": facts.get("proxy"),
        "tools": [{"tool": name, **of_tool(facts, name)} for name in sorted(facts.get("tools", {}))],
    }


def of_tool(facts: Mapping[str, Any], name: str, *, is_told_apart: bool = True) -> dict[str, Any]:
    """Return what the service has seen of one tool; None for what it cannot know."""
    known = facts.get("tools")
    if not is_told_apart or not isinstance(known, dict):
        return {"last_request": None, "last_error": None, "requests_today": None}
    figures = known.get(name, {})
    error = figures.get("last_error")
    if error:
        error = {"at": error["time"], "status": error["status"] or None, "reason": error["reason"] or None}
    return {
        "last_request": figures.get("last_request"),
        "last_error": error,
        "requests_today": figures.get("today", 0),
    }


def tool_lines(figures: Mapping[str, Any], found: Running | None, now: float) -> list[str]:
    """Return what `of_tool` says, for people; nothing of a tool that has asked for nothing."""
    told = []
    if figures["last_request"] is not None and found:
        began = time.localtime(found.record.started_at)[:3] == time.localtime(now)[:3]
        since = "since the service started" if began else "today"
        count = figures["requests_today"]
        many = f"{count} request{'s' if count != 1 else ''} {since}"
        told.append(f"{many}, the last one{screen.ago(now, figures['last_request'])}")
    if error := figures["last_error"]:
        what = ": ".join(
            filter(None, (f"HTTP {error['status']}" if error["status"] else "", error["reason"]))
        )
        told.append(f"last error{screen.ago(now, error['at'])}: {what}")
    return told


def lines(
    found: Running | None, facts: Mapping[str, Any], reasons: Sequence[str], *, now: float
) -> list[str]:
    """Return what `proxy status` prints."""
    if found is None:
        return ["not running", "  next: thv-llm proxy start --background"]
    run = found.record
    offers = f"http://127.0.0.1:{run.port}" if run.port else "the token socket only (no tool needs the proxy)"
    told = [
        f"running     started{screen.ago(now, run.started_at)} (pid {run.pid}, thv-llm {run.version})",
        f"listens on  {offers}",
    ]
    if not found.responds:
        told.append("responds    no; it hangs, or is just ending\n  next: thv-llm setup")
    counted = facts.get("proxy")
    if isinstance(counted, dict):
        told += counts(counted)
    for name in sorted(facts.get("tools", {})):
        for line in tool_lines(of_tool(facts, name), found, now):
            told.append(f"{name:<12}{screen.wrapped(line, 12)}")
    for reason in reasons:
        told.append(f"outdated    {reason}\n  next: thv-llm setup")
    return told


def counts(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines about requests."""
    told = [f"requests    {screen.wrapped(summary(figures), 12)}"]
    by_status = ", ".join(f"{count} {name}" for name, count in sorted(figures["by_status"].items()))
    if by_status:
        told.append(f"responses   {by_status}")
    if figures["first_byte_p50_ms"] is not None:
        p50, p99 = (screen.milliseconds(figures[f"first_byte_{name}_ms"]) for name in ("p50", "p99"))
        told.append(f"first byte  p50 {p50}, p99 {p99}")
    return told


def summary(figures: Mapping[str, Any]) -> str:
    """Return how many requests ended how, in a few words; a service of 0.1.0 counts less."""
    kinds = (("ok", "ok"), ("gateway_errors", "gateway errors"), ("rejected", "rejected by the proxy"))
    told = [f"{figures[key]} {kind}" for key, kind in (*kinds, ("running", "running")) if figures.get(key)]
    return f"{figures['requests']} total{', ' if told else ''}{', '.join(told)}"


def service(found: Running, *, now: float) -> str:
    """Return the service in a line of `status`."""
    return f"started{screen.ago(now, found.record.started_at)} ({background.described(found.record)})"


def show_log(context: Context, *, follow: bool) -> None:
    """Print the last lines of the log; with `follow`, new ones until the reader ends it."""
    try:
        file = _opened(context.paths.log)
    except FileNotFoundError:
        raise ThvLlmError(
            "there is no log yet",
            why="the service has not run in the background",
            next_step="thv-llm proxy start --background",
        ) from None
    with file:
        _skip_all_but_the_last(file)
        for line in file:
            _print(context, line)
        if follow:
            try:
                for line in _lines(file, context):
                    _print(context, line)
            except KeyboardInterrupt:
                return


def _opened(path: str) -> BinaryIO:
    """Open the log so that the service can still put it aside, which Windows does not let it by itself."""
    return os.fdopen(file_system.open_file(path, os.O_RDONLY), "rb")


def _skip_all_but_the_last(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - TAIL_BYTES))
    tail = file.read()
    kept = tail.splitlines(keepends=True)[-LAST_LINES:]
    file.seek(start + len(tail) - sum(len(line) for line in kept))


def _lines(file: BinaryIO, context: Context) -> Iterator[bytes]:
    """Yield new lines for ever, also those in the file that takes the place of a full one."""
    rest = b""
    try:
        while True:
            piece = file.readline()
            if piece:
                rest += piece
                if rest.endswith(b"\n"):
                    yield rest
                    rest = b""
            elif _was_replaced(file, context.paths.log):
                file.close()
                file = _opened(context.paths.log)
            else:
                context.sleep(POLL_S)
    finally:
        file.close()


def _was_replaced(file: BinaryIO, path: str) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _print(context: Context, line: bytes) -> None:
    context.show(log.redact(line.decode("utf-8", "replace").rstrip("\r\n")))
