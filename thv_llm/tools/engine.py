"""Find, plan, apply and undo the wiring of any tool; knows none by name.

Each part lives in a sibling module. `find` looks for the tools of the table; `plan` works for any
of them (`by_name`), also for one that was not found, and writes nothing; `apply` carries plans out,
`revert` takes them back; `diff` and `diff_of_undo` show either one beforehand.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from thv_llm import files
from thv_llm.edit.change import EditError, Json
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.secret import Secret
from thv_llm.state import State, WiredTool
from thv_llm.tools import difference
from thv_llm.tools.apply import Outcome, apply
from thv_llm.tools.detect import Detection, How, detect
from thv_llm.tools.model import Mode, Text, Tool, Value, Values
from thv_llm.tools.original import lost_keys
from thv_llm.tools.place import Place
from thv_llm.tools.plan import Plan, plan
from thv_llm.tools.registry import TOOLS
from thv_llm.tools.undo import Undone, revert
from thv_llm.tools.values import Absent, mode, needs_models, resolve, used
from thv_llm.tools.warnings import loopback_through_proxy

__all__ = (
    "TOOLS",
    "Detection",
    "Drift",
    "How",
    "Mode",
    "Outcome",
    "Place",
    "Plan",
    "Tool",
    "Undone",
    "Values",
    "apply",
    "by_name",
    "diff",
    "diff_of_undo",
    "drift",
    "find",
    "interrupted",
    "loopback_through_proxy",
    "mode",
    "needs_anthropic",
    "needs_models",
    "plan",
    "preview",
    "revert",
    "snippet",
)


@dataclass(frozen=True)
class Drift:
    """One file that is not as we left it.

    Attributes:
        keys: those that no longer hold our value.
        why: why the file could not be looked at, instead of keys.
    """

    tool: str
    path: str
    keys: tuple[str, ...] = ()
    why: str = ""


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
    known = ", ".join(tool.id for tool in tools)
    raise UsageError(f"no tool is called {name!r}", why=f"known are: {known}", next_step="thv-llm tools")


def needs_anthropic(tool: Tool) -> bool:
    """Whether the tool must know where the gateway serves Anthropic's API, so that setup must ask it."""
    return Value.GATEWAY_ANTHROPIC in used(tool)


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
            yield from () if isinstance(value, Absent) else _texts(value)


def _texts(value: Json) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for element in value:
                yield from _texts(element)
        case dict():
            for member in value.values():
                yield from _texts(member)


def diff_of_undo(undone: Undone, local_key: Secret, helper_path: str) -> str:
    """Return what undoing changes in one file, secrets masked."""
    public = (helper_path, shlex.quote(helper_path))
    return difference.unified(undone.before, undone.after, undone.path, local_key=local_key, public=public)


def drift(state: State) -> tuple[Drift, ...]:
    """Return the files that no longer hold what we wrote, or cannot be looked at."""
    return tuple(found for wired in state.wired for found in _drift(wired))


def _drift(wired: WiredTool) -> list[Drift]:
    found = []
    for file in wired.files:
        try:
            keys = lost_keys(files.read(file.path), file)
        except EditError as error:
            found.append(Drift(wired.tool, file.path, why=str(error)))
        except ThvLlmError as error:
            found.append(Drift(wired.tool, file.path, why=error.why or error.what))
        else:
            found += [Drift(wired.tool, file.path, keys)] if keys else []
    return found


def interrupted(state: State) -> tuple[str, ...]:
    """Return the tools that a killed run left half-way."""
    return tuple(wired.tool for wired in state.wired if not all(file.is_settled for file in wired.files))


def preview(tool: Tool, place: Place, values: Values) -> tuple[tuple[str, str], ...]:
    """Return each file's path with what we would write into an empty one. It holds the local key."""
    planned = plan(tool, place, values, State(), read=lambda _: None)
    return tuple((file.path, (file.after or b"").decode()) for file in planned.files)


def snippet(tool: Tool, values: Values) -> str:
    """Return what to paste into a tool that setup cannot write to; "" if there is nothing."""
    text = resolve(tool.snippet or Text(), replace(values, models=values.models or ("MODEL",)))
    return text if isinstance(text, str) else ""
