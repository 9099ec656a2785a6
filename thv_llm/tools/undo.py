"""Put back what setup changed, from the undo record alone.

Rule 1: the record is not trusted. A path in it must be one that the tool's entry yields now,
        or else, links resolved, lie under the home directory and bear the name of a settings
        file that we know. (That it is a regular file is the rule of `files`.)
Rule 2: only keys that still hold our value are taken out; what the user changed stays.
Rule 3: only a file that setup made, and in which nothing else remains, is deleted, and then the
        directories that were made for it.
Rule 4: a record is dropped after its file is right, never before, so that a run that is
        killed can be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from thv_llm import files, state
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.paths import Paths
from thv_llm.state import State, WiredFile, WiredTool
from thv_llm.tools.model import Edit, Tool
from thv_llm.tools.original import Original, original
from thv_llm.tools.place import Place
from thv_llm.tools.registry import RETIRED_NAMES, TOOLS

LOCK_TIMEOUT_S = 30.0
"""For a setup that is at work: it writes some forty small files."""

MAX_TRIES = 5
"""How often to start again when another program writes the file at the same moment."""

T = TypeVar("T")


class Done(Enum):
    """What became of one file."""

    RESTORED = "restored"
    DELETED = "deleted"
    NOTHING = "nothing of ours was in it"
    FAILED = "failed"


@dataclass(frozen=True)
class Undone:
    """The end of one file's wiring.

    Attributes:
        left: keys that stayed because the user had changed them.
        error: why it failed; the record is kept then.
        before, after: the file's bytes, for a diff; None = no file.
    """

    tool: str
    path: str
    done: Done
    left: tuple[str, ...] = ()
    error: ThvLlmError | None = None
    before: bytes | None = None
    after: bytes | None = None

    def lines(self) -> tuple[str, ...]:
        """Return what to tell the user, in the past tense."""
        told = {
            Done.RESTORED: f"restored {self.path}",
            Done.DELETED: f"deleted {self.path}, which setup had made",
        }
        lines = [told[self.done]] if self.done in told else []
        if self.left:
            them = "it" if len(self.left) == 1 else "them"
            lines.append(f"left {', '.join(self.left)} in {self.path}, because you changed {them}")
        return tuple(lines)


def lock_path(paths: Paths) -> str:
    """Return the lock that a whole run of setup or teardown holds."""
    return paths.lock("setup")


def revert(
    paths: Paths,
    place: Place,
    tool_ids: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    tools: Sequence[Tool] = TOOLS,
) -> tuple[Undone, ...]:
    """Undo the wiring of the named tools, or of all; one failure never stops the others.

    Raises:
        UsageError: a named tool is not wired; the message names those that are.
    """
    wired = _wired(paths, tool_ids)
    if dry_run or not wired:
        return _all(paths, place, wired, tools, dry_run=True)
    with files.lock(lock_path(paths), timeout_s=LOCK_TIMEOUT_S, what="the tools' settings"):
        return _all(paths, place, _wired(paths, tool_ids), tools, dry_run=False)


def _wired(paths: Paths, tool_ids: Sequence[str] | None) -> tuple[WiredTool, ...]:
    wired = state.load(paths.state).wired
    known = [tool.tool for tool in wired]
    for name in tool_ids or ():
        if name not in known:
            why = f"wired are: {', '.join(known)}" if known else "no tool is wired"
            raise UsageError(f"{name} is not wired", why=why, next_step="thv-llm status")
    return tuple(tool for tool in wired if tool_ids is None or tool.tool in tool_ids)


def _all(
    paths: Paths, place: Place, wired: Sequence[WiredTool], tools: Sequence[Tool], *, dry_run: bool
) -> tuple[Undone, ...]:
    return tuple(
        undone for record in wired for undone in revert_tool(paths, place, record, tools, dry_run=dry_run)
    )


def revert_tool(
    paths: Paths, place: Place, record: WiredTool, tools: Sequence[Tool] = TOOLS, *, dry_run: bool = False
) -> tuple[Undone, ...]:
    """Undo one tool's files, the last written first. The caller holds the lock."""
    return tuple(_one(paths, place, record, file, tools, dry_run=dry_run) for file in reversed(record.files))


def _one(
    paths: Paths, place: Place, record: WiredTool, file: WiredFile, tools: Sequence[Tool], *, dry_run: bool
) -> Undone:
    try:
        edit = _trusted(record, file, place, tools)
        undone = repeatedly(lambda: _try(record, file, edit, dry_run=dry_run))
        if not dry_run:
            _forget(paths, record.tool, file)
    except ThvLlmError as error:
        return Undone(record.tool, file.path, Done.FAILED, error=error)
    return undone


def repeatedly(work: Callable[[], T]) -> T:
    """Return what `work` returns; start it again when another program writes its file at the same moment."""
    for _ in range(MAX_TRIES - 1):
        try:
            return work()
        except files.FileChangedError:
            continue
    return work()


def _try(record: WiredTool, file: WiredFile, edit: Edit | None, *, dry_run: bool) -> Undone:
    data = files.read(file.path)
    was = original(data, file, ours_alone=bool(edit and edit.ours_alone))
    if not dry_run:
        _write(file, data, was)
    done = Done.DELETED if was.gone else Done.RESTORED if was.found else Done.NOTHING
    return Undone(record.tool, file.path, done, was.left, before=data, after=was.before_us)


def _write(file: WiredFile, data: bytes | None, was: Original) -> None:
    files.sweep(os.path.dirname(os.path.realpath(file.path)))
    # A link that the user made of our file goes, too; the file that they put elsewhere is emptied.
    is_kept = not was.gone or os.path.islink(file.path)
    if was.data is not None and was.data != data and is_kept:
        files.replace(file.path, was.data, expected=data)
        data = was.data
    if was.gone and data is not None:
        files.delete(file.path, expected=data)
    files.share(file.path, file.denied)  # now that our key is out of it
    inside = [made for made in file.created_dirs if file.path.startswith(made.rstrip("/") + "/")]
    files.remove_empty_directories(inside)


def _forget(paths: Paths, tool: str, file: WiredFile) -> None:
    def without(old: State) -> State:
        record = old.tool(tool)
        if record is None:
            return old
        rest = tuple(other for other in record.files if other.path != file.path)
        return state.with_tool(old, replace(record, files=rest))

    state.update(paths, without)


def _trusted(record: WiredTool, file: WiredFile, place: Place, tools: Sequence[Tool]) -> Edit | None:
    """Return the edit that yields a recorded file, None for one of an older version's.

    Raises:
        ThvLlmError: no version of ours could have written there.
    """
    edits = [edit for tool in tools if tool.id == record.tool for edit in tool.edits]
    for edit in edits:
        if file.path in place.possible_targets(edit):
            return edit
    if reason := _suspicion(file.path, place, tools):
        raise ThvLlmError(
            f"did not touch {file.path}",
            why=f"the undo record of {record.tool} names it, but {reason}",
            next_step=_way_back(edits),
        )
    return next((edit for edit in edits if os.path.basename(file.path) in edit.names), None)


def _way_back(edits: Sequence[Edit]) -> str:
    moved_by = sorted({edit.folder.env for edit in edits if edit.folder.env})
    return f"if {' or '.join(moved_by)} was set at setup, set it again" if moved_by else ""


def _suspicion(path: str, place: Place, tools: Sequence[Tool]) -> str:
    """Say why a path that today's table does not yield cannot be one of ours; "" if it can."""
    names = {name for tool in tools for edit in tool.edits for name in edit.names} | RETIRED_NAMES
    if not os.path.isabs(path):
        return "that is not an absolute path"
    if os.path.basename(path) not in names or os.path.basename(os.path.realpath(path)) not in names:
        return "no settings file that setup writes has that name"
    if not place.is_in_home(path):
        return "it lies outside the home directory"
    return ""
