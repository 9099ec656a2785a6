"""What setup would write for one tool, and what it would say: texts in, texts out.

Planning starts from the file as it was before us (`tools.original`), so that a second setup
never takes a value of ours for the user's previous one. A file that already holds all that is
wanted is left as it is, however a tool may have reformatted it.

Reads the tool's files through the `read` that it is given; writes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from thv_llm import files
from thv_llm.edit.change import BOM, MISSING, EditError, Json
from thv_llm.edit.formats import Format, editor
from thv_llm.errors import ThvLlmError
from thv_llm.state import Edition, State, WiredFile, WiredTool
from thv_llm.tools import values as templates
from thv_llm.tools.model import Edit, IfAbsent, Mode, PerModel, Template, Tool, Values
from thv_llm.tools.original import decoded, digest, lost_keys, original
from thv_llm.tools.place import Place
from thv_llm.tools.values import Absent
from thv_llm.tools.warnings import warnings

Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class PlannedFile:
    """One file: its bytes now and then (None = no file), and the undo record to keep from before writing on.

    Attributes:
        new: the edition that writing it would add; None when it is right already.
    """

    before: bytes | None
    after: bytes | None
    record: WiredFile
    new: Edition | None

    @property
    def path(self) -> str:
        """The file's path, as the tool knows it: links are not resolved."""
        return self.record.path

    @property
    def intent(self) -> WiredFile:
        """The record that must be durable before the file is written."""
        return replace(self.record, editions=(*self.record.editions, self.new)) if self.new else self.record

    @property
    def settled(self) -> WiredFile:
        """The record to keep once the file is written."""
        return replace(self.record, editions=(replace(self.new, done=True),)) if self.new else self.record


@dataclass(frozen=True)
class Plan:
    """What setup would do for one tool.

    Attributes:
        warnings: what may keep it from working, one sentence each.
        notes: which values of the user's were left in place.
        next_steps: what the user must still do in the tool.
    """

    tool: Tool
    mode: Mode
    files: tuple[PlannedFile, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    next_steps: tuple[str, ...]
    place: Place
    values: Values


def plan(tool: Tool, place: Place, values: Values, state: State, *, read: Read = files.read) -> Plan:
    """Say what is to be written for a tool.

    Raises:
        ThvLlmError: the tool cannot be wired at all, a file of its cannot be read or edited safely, or
            the tool needs model ids and there are none in `values`.
    """
    _require_wirable(tool, values)
    wired = state.tool(tool.id) or WiredTool(tool.id, "", ())
    known = {file.path: file for file in wired.files}
    left_alone: list[str] = []
    planned = [
        _file(tool, edit, path, values, known.get(path), read, left_alone)
        for edit in tool.edits
        for path in _targets(edit, place, known)
    ]
    return Plan(
        tool=tool,
        mode=templates.mode(tool),
        files=tuple(planned),
        warnings=warnings(tool, place, values),
        notes=tuple(left_alone),
        next_steps=tool.afterwards,
        place=place,
        values=values,
    )


def _targets(edit: Edit, place: Place, known: Mapping[str, WiredFile]) -> Iterator[str]:
    """Yield the files of an edit; of several possible names, the one that was wired stays the one."""
    for path in place.targets(edit):
        beside = (os.path.join(os.path.dirname(path), name) for name in edit.names)
        yield next((name for name in beside if name in known), path)


def _require_wirable(tool: Tool, values: Values) -> None:
    if not tool.edits:
        raise ThvLlmError(
            f"{tool.title} cannot be wired by setup",
            why=tool.reason or "its settings are not a file that can be edited safely",
            next_step=f"thv-llm tools {tool.id}",
        )
    if not values.helper_path.isprintable() and templates.used(tool) & templates.HELPER_VALUES:
        why = "the path of the token helper has a line break or control character in it"
        raise ThvLlmError(f"{tool.title} cannot be wired", why=why)


def _file(
    tool: Tool,
    edit: Edit,
    path: str,
    values: Values,
    old: WiredFile | None,
    read: Read,
    left_alone: list[str],
) -> PlannedFile:
    try:
        data = read(path)
        was = original(data, old, ours_alone=edit.ours_alone).before_us if old else data
        text = "" if was is None else decoded(was, path)
        is_empty = editor(edit.format).is_empty(text)
        _require_keys(edit, text, is_new=is_empty)
        wanted = _wanted(edit, text, values, left_alone, is_new=is_empty)
        key = digest(json.dumps([edit.format.value, wanted]).encode())
        if old and _is_right(data, old, key):
            return PlannedFile(data, data, old, None)
        after, changes = editor(edit.format).apply(text, wanted)
        after = _with_members_beside(edit, text, after, values)
    except EditError as error:
        raise ThvLlmError(
            f"{tool.title} was left as it is",
            why=f"{path}:{error.line}:{error.column}: {error.reason}"
            if error.line
            else f"{path}: {error.reason}",
            next_step="mend that file and run setup again",
        ) from error
    new = Edition(changes, after=digest(after.encode()), wanted=key)
    record = _record(path, edit.format, old, is_new=was is None)
    return PlannedFile(data, after.encode(), record, new)


def _record(path: str, kind: Format, old: WiredFile | None, *, is_new: bool) -> WiredFile:
    """Return the record that the new edition is added to."""
    missing = files.missing_directories(path)
    made = tuple(dict.fromkeys((*(old.created_dirs if old else ()), *missing)))
    denied = old.denied if old and not is_new else 0
    editions = old.editions if old else ()
    return WiredFile(path, kind.value, editions, created=is_new, created_dirs=made, denied=denied)


def _is_right(data: bytes | None, old: WiredFile, wanted: str) -> bool:
    return old.is_settled and old.editions[0].wanted == wanted and not lost_keys(data, old)


def _require_keys(edit: Edit, text: str, *, is_new: bool) -> None:
    for key in () if is_new else edit.requires:
        if editor(edit.format).value(text, key) is MISSING:
            raise EditError(f"it has no {key.lstrip('/')!r}, so it is not the file that was expected")


def _has_own(kind: Format, text: str, key: str, template: IfAbsent) -> bool:
    if template.line:
        return any(line.startswith(template.line) for line in text.removeprefix(BOM).splitlines())
    return editor(kind).value(text, key) is not MISSING


def _with_members_beside(edit: Edit, before: str, after: str, values: Values) -> str:
    """Put members without a record into objects that are wholly ours; they go with the object."""
    change = editor(edit.format)
    wanted: dict[str, Json] = {}
    for key, template in edit.beside.items():
        value = templates.resolve(template, values)
        is_ours = change.value(before, key.rpartition("/")[0]) is MISSING
        if is_ours and not isinstance(value, Absent):
            wanted[key] = value
    return change.apply(after, wanted)[0]


def _wanted(edit: Edit, text: str, values: Values, left_alone: list[str], *, is_new: bool) -> dict[str, Json]:
    wanted: dict[str, Json] = {}
    members: Mapping[str, Template] = {**edit.new_file, **edit.set} if is_new else edit.set
    for key, template in members.items():
        if isinstance(template, PerModel):
            wanted |= templates.for_each_model(key, template, edit.format, values)
            continue
        value = templates.resolve(template, values)
        if isinstance(value, Absent):
            continue
        if isinstance(template, IfAbsent) and _has_own(edit.format, text, key, template):
            left_alone += [template.otherwise] if template.otherwise else []
            continue
        wanted[key] = value
    return wanted
