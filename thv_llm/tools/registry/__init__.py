"""One entry per AI tool. Data only: adding a tool is adding an entry here, nothing else.

`direct` tools run the token helper; `proxy` tools and `editors` hold a base URL and our local
key; `manual` ones are set by hand, or not at all.
"""

from __future__ import annotations

from dataclasses import replace

from thv_llm import system
from thv_llm.tools.model import Tool
from thv_llm.tools.registry.direct import DIRECT
from thv_llm.tools.registry.editors import EDITORS
from thv_llm.tools.registry.manual import MANUAL
from thv_llm.tools.registry.proxy import PROXY


def as_on(platform: str, tool: Tool) -> Tool:
    """Return the entry as it holds on a system: one that cannot be wired there has no edits."""
    if platform == "win32" and tool.reason_on_windows:
        return replace(tool, edits=(), reason=tool.reason_on_windows, remedy="use Claude Code, or WSL")
    return tool


TOOLS: tuple[Tool, ...] = tuple(as_on(system.NAME, tool) for tool in (*DIRECT, *PROXY, *EDITORS, *MANUAL))

RETIRED_NAMES: frozenset[str] = frozenset()
"""File names of entries that were removed: teardown still undoes what older versions wrote there."""
