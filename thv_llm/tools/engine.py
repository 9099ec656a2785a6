"""Find, plan, apply and undo the wiring of any tool; knows none by name.

Each part lives in a sibling module. `find` looks for the tools of the table; `plan` works for any
of them (`by_name`), also for one that was not found, and writes nothing; `apply` carries plans out,
`revert` takes them back; `diff` and `diff_of_undo` show either one beforehand.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from thv_llm.errors import UsageError, did_you_mean, shown
from thv_llm.state import State
from thv_llm.tools import difference, ownership
from thv_llm.tools.apply import Outcome, apply
from thv_llm.tools.desired import Condition, Drift, Plan, Unrecorded, drift, plan, unrecorded
from thv_llm.tools.detect import Detection, How, detect, loopback_through_proxy
from thv_llm.tools.machine import Place
from thv_llm.tools.model import Mode, Text, Tool, Values
from thv_llm.tools.registry import TOOLS
from thv_llm.tools.undo import Done, Undone, revert
from thv_llm.tools.values import (
    Absent,
    has_key,
    is_told_apart,
    mode,
    needs_program,
    resolve,
    takes_models,
    token_command,
)
from thv_llm.tools.values import of as values_of

__all__ = (
    "TOOLS",
    "Condition",
    "Detection",
    "Done",
    "Drift",
    "How",
    "Mode",
    "Outcome",
    "Place",
    "Plan",
    "Tool",
    "Undone",
    "Unrecorded",
    "Values",
    "apply",
    "by_name",
    "diff",
    "diff_of_undo",
    "drift",
    "find",
    "has_key",
    "is_told_apart",
    "loopback_through_proxy",
    "mode",
    "needs_program",
    "plan",
    "preview",
    "revert",
    "snippet",
    "takes_models",
    "unrecorded",
    "values_of",
)


def find(place: Place, tools: Sequence[Tool] = TOOLS) -> tuple[Detection, ...]:
    """Return the tools that are on this machine, in the order of the table."""
    return tuple(found for tool in tools if (found := detect(tool, place)))


def by_name(name: str, tools: Sequence[Tool] = TOOLS) -> Tool:
    """Return the entry of that id.

    Raises:
        UsageError: there is none; the message lists the ids.
    """
    for tool in tools:
        if tool.id == name:
            return tool
    known = [tool.id for tool in tools]
    why = did_you_mean(name, known) or f"known are: {', '.join(known)}"
    raise UsageError(f"no tool is called {shown(name)}", why=why, next_step="thv-llm tools")


def diff(planned: Plan) -> str:
    """Return what a plan would change, secrets masked; "" if nothing."""
    key = planned.values.local_key
    public = [text for text in _own_texts(planned.tool, planned.values) if key.reveal() not in text]
    return "".join(
        difference.unified(file.before, file.after, file.path, local_key=key, public=public)
        for file in planned.files
    )


def _own_texts(tool: Tool, values: Values) -> Iterator[str]:
    """Yield every text that we write for a tool: ours are shown, whatever the name of their key."""
    for edit in tool.edits:
        for template in edit.templates:
            value = resolve(template, values)
            yield from () if isinstance(value, Absent) else ownership.texts(value)


def diff_of_undo(undone: Undone, values: Values) -> str:
    """Return what undoing changes in one file, secrets masked."""
    values = values.of(undone.tool)
    public = (values.helper_path, shlex.quote(values.helper_path), token_command(values))
    known = values.local_key
    return difference.unified(undone.before, undone.after, undone.path, local_key=known, public=public)


def preview(tool: Tool, place: Place, values: Values) -> tuple[tuple[str, str], ...]:
    """Return each file's path with what we would write into an empty one. It holds the local key."""
    planned = plan(tool, place, values, State(), read=lambda _: None)
    return tuple((file.path, (file.after or b"").decode()) for file in planned.files)


def snippet(tool: Tool, values: Values) -> str:
    """Return what to paste into a tool that setup cannot write to; "" if there is nothing."""
    values = replace(values.of(tool.id), models=values.models or ("MODEL",))
    text = resolve(tool.snippet or Text(), values)
    return text if isinstance(text, str) else ""
