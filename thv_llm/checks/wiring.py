"""Checks of the wired tools: do they still hold our values, and what overrides them."""

from __future__ import annotations

from collections.abc import Iterator

from thv_llm.checks.model import Check, Ground, fail, ok, warn
from thv_llm.errors import UsageError
from thv_llm.tools import engine, warnings
from thv_llm.tools.engine import Place


def tools(ground: Ground) -> Iterator[Check]:
    """Each wired tool is still there and holds what setup wrote."""
    if not ground.state.wired:
        yield warn("tools", "no tool is wired", "thv-llm setup")
    drifted = engine.drift(ground.state)
    half_way = engine.interrupted(ground.state)
    for wired in ground.state.wired:
        name = wired.tool
        lost = [one for one in drifted if one.tool == name]
        again = f"thv-llm setup --client {name}"
        if name in half_way:
            yield fail(name, "setup or teardown was interrupted while it changed this tool's files", again)
        for one in lost:
            what = one.why or f"{', '.join(one.keys)} changed since setup"
            yield fail(name, f"{one.path}: {what}", again)
        if not lost and name not in half_way:
            yield ok(name, f"{wired.mode}, {', '.join(file.path for file in wired.files)}")


def environment(ground: Ground) -> Iterator[Check]:
    """No variable or policy takes a wired tool elsewhere."""
    place = Place(ground.environ, ground.where.home, ground.platform)
    is_clear = True
    for wired in ground.state.wired:
        try:
            tool = engine.by_name(wired.tool)
        except UsageError:  # wired by a version that knew it
            continue
        for override in tool.overridden_by:
            if ground.environ.get(override.env):
                is_clear = False
                yield warn(wired.tool, f"{override.env} is set: {override.effect}", f"unset {override.env}")
        for policy in warnings.managing_files(tool, place):
            is_clear = False
            yield warn(wired.tool, policy, "ask who administers this machine")
    if any(wired.mode == "proxy" for wired in ground.state.wired):
        for text in engine.loopback_through_proxy(ground.environ):
            is_clear = False
            reason, _, remedy = text.rpartition("; ")
            yield warn("environment", reason, remedy)
    if is_clear and ground.state.wired:
        yield ok("environment", "nothing here overrides the wired tools")
