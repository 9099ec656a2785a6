"""Write what was planned, so that a kill at any instant can be undone.

For each file: the intent is durable in the undo record, then the file is written, then the
record is marked done. The plan is made anew under the lock, because another setup or the tool
itself may have written since it was shown.

A file that gets our local key becomes private, if it is the user's own and under the home directory;
what others could do with it is in the undo record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thv_llm import files, state
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.state import State, WiredFile, WiredTool
from thv_llm.tools.desired import Plan, PlannedFile, plan
from thv_llm.tools.model import Tool
from thv_llm.tools.undo import LOCK_TIMEOUT_S, lock_path, repeatedly, revert_tool


@dataclass(frozen=True)
class Outcome:
    """What became of one plan.

    Attributes:
        lines: what was done, in the past tense, with paths; empty when all was right already.
        error: why the tool is not wired (or not wired anew); its files are as before then.
    """

    plan: Plan
    lines: tuple[str, ...] = ()
    error: ThvLlmError | None = None

    @property
    def tool(self) -> Tool:
        """The tool that it is about."""
        return self.plan.tool


def apply(plans: Sequence[Plan], paths: Paths) -> tuple[Outcome, ...]:
    """Carry out plans, in order; one tool's failure never stops another.

    Raises:
        ThvLlmError: another setup or teardown is at work, or the undo record cannot be read.
    """
    if not plans:
        return ()
    with files.lock(lock_path(paths), timeout_s=LOCK_TIMEOUT_S, what="the tools' settings"):
        return tuple(_one(planned, paths) for planned in plans)


def _one(planned: Plan, paths: Paths) -> Outcome:
    before = state.load(paths.state).tool(planned.tool.id)
    try:
        return repeatedly(lambda: _try(planned, paths))
    except ThvLlmError as error:
        if before is None:
            _take_back(planned, paths)
        return Outcome(planned, error=error)


def _try(planned: Plan, paths: Paths) -> Outcome:
    known = state.load(paths.state)
    fresh = plan(planned.tool, planned.place, planned.values, known, take_over=planned.take_over)
    lines = tuple(line for file in fresh.files for line in _write(fresh, file, paths))
    wired = known.tool(planned.tool.id)
    if wired and wired.models != planned.values.models:
        state.update(paths, lambda old: _with_models(old, planned))
    return Outcome(fresh, lines)


def _with_models(old: State, planned: Plan) -> State:
    wired = old.tool(planned.tool.id)
    return state.with_tool(old, replace(wired, models=planned.values.models)) if wired else old


def _write(planned: Plan, file: PlannedFile, paths: Paths) -> tuple[str, ...]:
    if file.new is None or file.after is None:
        return ()
    after, denied = file.after, _to_deny(planned, file.path, file.after)
    if denied:
        file = replace(file, record=replace(file.record, denied=denied))
    files.remove_temporary(file.record.temporary, file.path)
    temporary = files.temporary_name(file.path)
    _record(planned, replace(file.intent, temporary=temporary), paths)
    if after != file.before:
        files.private_directory(os.path.dirname(file.path))
        files.replace(file.path, after, expected=file.before, denied=denied, temporary=temporary)
    _record(planned, file.settled, paths)
    if after == file.before:
        return ()
    private = " (private now)" if denied else ""
    return (f"{'created' if file.before is None else 'changed'} {file.path}{private}",)


def _to_deny(planned: Plan, path: str, after: bytes) -> int:
    """Return the permissions that a file must lose because our key comes into it."""
    holds_key = planned.values.local_key.reveal().encode() in after
    return files.shared(path) if holds_key and planned.place.is_in_home(path) else 0


def _record(planned: Plan, file: WiredFile, paths: Paths) -> None:
    def add(old: State) -> State:
        known = old.tool(planned.tool.id)
        others = list(known.files) if known else []
        places = [index for index, other in enumerate(others) if other.path == file.path]
        if places:
            others[places[0]] = file
        else:
            others.append(file)
        models = planned.values.models
        tool = known or WiredTool(planned.tool.id, "", (), models)
        return state.with_tool(old, replace(tool, mode=planned.mode.value, files=tuple(others)))

    state.update(paths, add)


def _take_back(planned: Plan, paths: Paths) -> None:
    """Leave no tool wired by half."""
    record = state.load(paths.state).tool(planned.tool.id)
    if record:
        revert_tool(paths, planned.place, record, (planned.tool,))
