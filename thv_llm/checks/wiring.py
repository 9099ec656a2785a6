"""Checks of the wired tools: do they still hold our values, and what overrides them."""

from __future__ import annotations

from collections.abc import Iterator

from thv_llm.checks.model import SETUP, Check, Installation, configure, fail, ok, warn
from thv_llm.errors import UsageError
from thv_llm.tools import detect, engine
from thv_llm.tools.engine import Place
from thv_llm.tools.values import ASK_HEADERS, without_headers


def tools(here: Installation) -> Iterator[Check]:
    """Each wired tool is still there and holds what setup wrote."""
    if not here.state.wired:
        yield warn("tools", "no tool is configured", SETUP)
    for wired in here.state.wired:
        found = [one for one in here.drift if one.tool == wired.tool]
        fix = configure(wired.tool) if wired.tool in here.sound_tools else ()
        for one in found:
            yield fail(wired.tool, f"{one.path}: {one}", one.remedy, fix)
        if not found:
            yield ok(wired.tool, f"{wired.mode}, {', '.join(file.path for file in wired.files)}")


def environment(here: Installation) -> Iterator[Check]:
    """No variable or policy takes a wired tool elsewhere."""
    place = Place(here.environ, here.where.home, here.platform)
    is_clear = True
    for wired in here.state.wired:
        try:
            tool = engine.by_name(wired.tool)
        except UsageError:  # wired by a version that knew it
            continue
        for override in tool.overridden_by:
            if here.environ.get(override.env):
                is_clear = False
                yield warn(wired.tool, f"{override.env} is set: {override.effect}", ("unset", override.env))
        for policy in detect.managing_files(tool, place):
            is_clear = False
            yield warn(wired.tool, policy, "contact the administrator of this machine")
    if any(wired.mode == "proxy" for wired in here.state.wired):
        for text in engine.loopback_through_proxy(here.environ):
            is_clear = False
            reason, _, remedy = text.rpartition("; ")
            yield warn("environment", reason, remedy)
    wired_ids = {wired.tool for wired in here.state.wired}
    if lacking := without_headers(here.settings, [tool for tool in engine.TOOLS if tool.id in wired_ids]):
        is_clear = False
        yield warn("tools", lacking, ASK_HEADERS)
    if is_clear and here.state.wired:
        yield ok("environment", "nothing overrides the configured tools")
