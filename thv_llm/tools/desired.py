"""The desired state of the tools' files, and how the actual state differs: texts in, texts out.

`plan` is what setup would write for one tool; `drift` is where the files of configured tools are not
as setup would leave them; `unrecorded` finds values of ours that no record tells of.

Planning starts from the file as it was before us (`undo.original`), so that a second setup
never takes a value of ours for the user's previous one. A file that already holds all that is
wanted is left as it is, however a tool has reformatted it.

Reads the tool's files through the `read` that it is given; writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from thv_llm import files, system
from thv_llm.edit import Format, editor, yaml
from thv_llm.edit.document import carry_on
from thv_llm.edit.model import MISSING, Change, EditError, Json
from thv_llm.errors import ThvLlmError
from thv_llm.state import Edition, State, WiredFile, WiredTool
from thv_llm.tools import values as templates
from thv_llm.tools.machine import Place, warnings
from thv_llm.tools.model import Edit, IfAbsent, Mode, PerModel, Template, Tool, Values
from thv_llm.tools.registry import TOOLS
from thv_llm.tools.undo import (
    ForeignError,
    Owned,
    decoded,
    digest,
    foreign,
    lost_keys,
    models_held,
    original,
    owned,
    record_of_other,
)
from thv_llm.tools.values import Absent

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
        if self.new is None:
            return self.record
        return replace(self.record, editions=(replace(self.new, done=True),), temporary="")


@dataclass(frozen=True)
class Plan:
    """What setup would do for one tool.

    Attributes:
        warnings: what can keep it from working, one sentence each.
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
    take_over: bool = False


def plan(
    tool: Tool,
    place: Place,
    values: Values,
    state: State,
    *,
    read: Read = files.read_settled,
    take_over: bool = False,
) -> Plan:
    """Say what is to be written for a tool.

    Args:
        take_over: replace the values of another installation.

    Raises:
        ForeignError: a file holds the values of another installation.
        ThvLlmError: the tool cannot be wired at all, a file of its cannot be read or edited safely, or
            the tool needs model ids and there are none in `values`.
    """
    values = values.of(tool.id)
    _require_wirable(tool, values)
    wired = state.tool(tool.id) or WiredTool(tool.id, "", ())
    known = {file.path: file for file in wired.files}
    left_alone: list[str] = []
    starts = [
        _start(tool, edit, path, values, known.get(path), read)
        for edit in tool.edits
        for path in _targets(edit, place, known)
    ]
    is_proved = any(start.owned.is_proved for start in starts)
    planned = [
        _file(tool, start, values, left_alone, is_proved=is_proved, take_over=take_over) for start in starts
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
        take_over=take_over,
    )


def _targets(edit: Edit, place: Place, known: Mapping[str, WiredFile]) -> Iterator[str]:
    """Yield the files of an edit; of several possible names, the one that was wired stays the one."""
    for path in place.targets(edit):
        beside = (os.path.join(os.path.dirname(path), name) for name in edit.names)
        yield next((name for name in beside if name in known), path)


def _require_wirable(tool: Tool, values: Values) -> None:
    if not tool.edits:
        raise ThvLlmError(
            f"{tool.title} cannot be configured by setup",
            why=tool.reason or "its settings are not a file that can be edited safely",
            next_step=f"thv-llm tools {tool.id}",
        )
    if (why := templates.unfit_for_commands(values)) and templates.used(tool) & templates.HELPER_VALUES:
        raise ThvLlmError(f"{tool.title} cannot be configured", why=why)


class _Start(NamedTuple):
    """What a file's plan starts from.

    Attributes:
        data: its bytes; None = no file.
        text: the same without what we recorded.
        is_new: there was no file before us.
    """

    edit: Edit
    path: str
    old: WiredFile | None
    data: bytes | None
    text: str
    is_new: bool
    owned: Owned


@contextlib.contextmanager
def _left_as_it_is(tool: Tool, path: str) -> Iterator[None]:
    try:
        yield
    except EditError as error:
        at = f":{error.line}:{error.column}" if error.line else ""
        raise ThvLlmError(
            f"{tool.title} was left as it is",
            why=f"{path}{at}: {error.reason}",
            next_step="fix that file and run setup again",
        ) from error


def _start(tool: Tool, edit: Edit, path: str, values: Values, old: WiredFile | None, read: Read) -> _Start:
    with _left_as_it_is(tool, path):
        data = read(path)
        was = original(data, old, ours_alone=edit.ours_alone).before_us if old else data
        text = "" if was is None else decoded(was, path)
        return _Start(edit, path, old, data, text, was is None, _held(edit, text, values))


def _file(
    tool: Tool, start: _Start, values: Values, left_alone: list[str], *, is_proved: bool, take_over: bool
) -> PlannedFile:
    edit, text, old, change = start.edit, start.text, start.old, editor(start.edit.format)
    with _left_as_it_is(tool, start.path):
        if start.owned.foreign and not take_over:
            raise foreign(tool, start.path, start.owned)
        is_new, held = start.is_new, start.owned
        inherited = record_of_other(held.home, start.path) if held.home and not old else None
        if inherited:  # its record tells what was there before both
            was = original(start.data, inherited, ours_alone=edit.ours_alone).before_us
            text, is_new = "" if was is None else decoded(was, start.path), was is None
            held = _held(edit, text, values)
            is_proved = held.is_proved
        if held.keys and is_proved:
            text = _without(edit, text, held, values)
            is_new = change.is_empty(text)
        is_empty = change.is_empty(text)
        _require_keys(edit, text, is_new=is_empty)
        is_ours = bool(old and old.created and not lost_keys(start.data, old))
        if edit.new_only and not (is_empty or is_ours):
            raise ThvLlmError(
                f"{tool.title} was left as it is",
                why=f"{start.path} has settings of yours, which cannot be joined with ours safely",
                next_step=f"thv-llm tools {tool.id} (what to put into it)",
            )
        # a file that we made wants the same when the tool or the user has put more into it
        wanted = _wanted(edit, text, values, left_alone, is_new=is_empty or bool(old and old.created))
        key = digest(json.dumps([edit.format.value, wanted]).encode())
        if old and _is_right(start.data, old, key):
            return PlannedFile(start.data, start.data, old, None)
        after, changes = change.apply(text, wanted)
        if old:
            changes = carry_on(changes, (one for edition in old.editions for one in edition.changes))
        after = _with_members_beside(edit, text, after, values)
    new = Edition(changes, after=digest(after.encode()), wanted=key)
    base = old or (replace(inherited, editions=(), temporary="") if inherited else None)
    return PlannedFile(start.data, after.encode(), _record(start.path, edit.format, base, is_new=is_new), new)


def _held(edit: Edit, text: str, values: Values) -> Owned:
    """Return the values in a file's text that an installation of ours could have written."""
    wanted = [_wanted_of(edit, values, model) for model in _models(edit, text, values)]
    addresses = [key for key, template in edit.set.items() if templates.is_address(template)]
    return owned(editor(edit.format), text, wanted, values, addresses=addresses)


def _adopted(edit: Edit, text: str, found: Owned, values: Values) -> tuple[Change, ...]:
    wanted: dict[str, Json] = {}
    for model in _models(edit, text, values):
        wanted |= _wanted_of(edit, values, model)
    return editor(edit.format).adopt(text, wanted, found.keys)


def _without(edit: Edit, text: str, found: Owned, values: Values) -> str:
    """Return a text without the values that an installation of ours wrote."""
    if edit.ours_alone:
        return ""
    without, left = editor(edit.format).revert(text, _adopted(edit, text, found, values))
    if left:
        raise EditError(f"{left[0]!r} cannot be taken out without touching something else")
    return without


def _models(edit: Edit, text: str, values: Values) -> Iterable[str]:
    """Return the model ids that a text of ours can be about: those that are known, and those in its keys."""
    keys = [key for key, template in edit.set.items() if isinstance(template, PerModel)]
    there = (model for key in keys for model in models_held(editor(edit.format), text, key))
    return dict.fromkeys((*values.models, *there)) or ("MODEL",)


def _wanted_of(edit: Edit, values: Values, model: str) -> dict[str, Json]:
    values = replace(values, models=(model,), gateway_url=values.gateway_url or "https://gateway.invalid")
    return _wanted(edit, "", values, [], is_new=True)


@dataclass(frozen=True)
class Unrecorded:
    """Values of an installation of ours in a tool's files, of which the record does not tell.

    Attributes:
        record: what would have been recorded; undoing it takes the values out.
        recorded: the part of it that was recorded.
        foreign: why they are not this installation's to take; None when they are.
    """

    tool: Tool
    record: WiredTool
    recorded: tuple[WiredFile, ...]
    foreign: ForeignError | None = None


def unrecorded(tool: Tool, place: Place, values: Values, state: State) -> Unrecorded | None:
    """Look for values of ours that no record tells of; None when there is no proof of any."""
    values = values.of(tool.id)
    wired = state.tool(tool.id) or WiredTool(tool.id, "", ())
    known = {file.path: file for file in wired.files}
    starts = []
    for edit in tool.edits:
        for path in _targets(edit, place, known):
            with contextlib.suppress(ThvLlmError):  # one that cannot be read holds nothing that can be proved
                starts += [_start(tool, edit, path, values, known.get(path), files.read)]
    if not any(start.owned.is_proved for start in starts):
        return None
    found = [start for start in starts if start.owned.keys and start.data is not None and not start.old]
    adopted = tuple(_adopted_file(start, values) for start in found)
    refusals = (foreign(tool, start.path, start.owned) for start in found if start.owned.foreign)
    record = replace(wired, mode=templates.mode(tool).value, files=(*wired.files, *adopted))
    return Unrecorded(tool, record, wired.files, next(refusals, None)) if found else None


def _adopted_file(start: _Start, values: Values) -> WiredFile:
    edit = start.edit
    changes = _adopted(edit, start.text, start.owned, values)
    edition = Edition(changes, after=digest(start.data or b""), done=True)
    is_alone = editor(edit.format).is_empty(_without(edit, start.text, start.owned, values))
    return WiredFile(start.path, edit.format.value, (edition,), created=is_alone)


def _record(path: str, kind: Format, old: WiredFile | None, *, is_new: bool) -> WiredFile:
    """Return the record that the new edition is added to."""
    old = old or WiredFile(path, "", ())
    made = tuple(dict.fromkeys((*old.created_dirs, *files.missing_directories(path))))
    denied = 0 if is_new else old.denied
    return replace(old, format=kind.value, created=is_new, created_dirs=made, denied=denied)


def _is_right(data: bytes | None, old: WiredFile, wanted: str) -> bool:
    return old.is_settled and old.editions[0].wanted == wanted and not lost_keys(data, old)


def _require_keys(edit: Edit, text: str, *, is_new: bool) -> None:
    for key in () if is_new else edit.requires:
        if editor(edit.format).value(text, key) is MISSING:
            raise EditError(f"it has no {key.lstrip('/')!r}, so it is not the file that was expected")


def _has_own(kind: Format, text: str, key: str, template: IfAbsent) -> bool:
    if template.member:
        return yaml.has_member(text, template.member)
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


class Condition(Enum):
    """How a file of a configured tool compares with what setup would make of it."""

    OK = "ok"
    OUTDATED = "outdated"
    """The settings or thv-llm have changed since, or a run was interrupted: setup brings it up to date."""
    CHANGED = "changed"
    """Our keys were edited, or the file cannot be read any more."""
    MISSING = "missing"
    FOREIGN = "foreign"
    """It holds the values of another installation."""


@dataclass(frozen=True)
class Drift:
    """One file that is not as setup would leave it.

    Attributes:
        keys: those that no longer hold our value.
        why: in words, where keys do not tell.
    """

    tool: str
    path: str
    condition: Condition
    keys: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        """Return what is wrong, without the path."""
        return self.why or f"{', '.join(self.keys)} changed since setup"

    @property
    def remedy(self) -> tuple[str, ...] | str:
        """The command that brings it to the desired state, with the service; or what a user must do."""
        if self.condition is Condition.CHANGED and not self.keys:
            return f"fix that file, then: thv-llm setup --client {self.tool}"
        only = () if self.condition is Condition.OUTDATED else ("--client", self.tool)
        more = ("--take-over",) if self.condition is Condition.FOREIGN else ()
        return ("thv-llm", "setup", *more, *only)

    @property
    def next_step(self) -> str:
        """The remedy as a line that can be shown, and typed if it is a command."""
        return self.remedy if isinstance(self.remedy, str) else system.command_line(self.remedy)


INTERRUPTED = "setup or teardown was interrupted while it changed this file"


def drift(known: State, place: Place | None = None, values: Values | None = None) -> tuple[Drift, ...]:
    """Compare the files of the configured tools with the desired state; what is `ok` is left out.

    Args:
        values: by the settings, with the models that they name; each tool's recorded ones are used where
            they name none. Without place and values only edits are found.
    """
    entries = {tool.id: tool for tool in TOOLS}
    return tuple(
        one
        for wired in known.wired
        for one in _drift(wired, known, entries.get(wired.tool), place, values)
        if one.condition is not Condition.OK
    )


def _drift(
    wired: WiredTool, known: State, tool: Tool | None, place: Place | None, values: Values | None
) -> Iterator[Drift]:
    outdated: dict[str, str] = {}
    taken: ForeignError | None = None
    if tool and place and values and (values.models or wired.models is not None):
        values = replace(values, models=values.models or wired.models or ())
        try:
            planned = plan(tool, place, values, known).files
            outdated = {
                file.path: "the settings or thv-llm have changed since" for file in planned if file.new
            }
            outdated |= {file.path: "not configured yet" for file in planned if not file.record.editions}
        except ForeignError as error:
            taken = error
        except ThvLlmError:
            pass  # a file that cannot be read: told below; or one that a later version knows better
    for file in wired.files:
        yield _actual(wired.tool, file, outdated.pop(file.path, ""), taken)
    for path, why in outdated.items():
        yield Drift(wired.tool, path, Condition.OUTDATED, why=why)
    if taken and taken.path not in {file.path for file in wired.files}:
        yield Drift(wired.tool, taken.path, Condition.FOREIGN, why=taken.holds)


def _actual(tool: str, file: WiredFile, outdated: str, taken: ForeignError | None) -> Drift:
    if taken and taken.path == file.path:
        return Drift(tool, file.path, Condition.FOREIGN, why=taken.holds)
    try:
        data = files.read(file.path)
        keys = lost_keys(data, file)
    except EditError as error:
        return Drift(tool, file.path, Condition.CHANGED, why=str(error))
    except ThvLlmError as error:
        return Drift(tool, file.path, Condition.CHANGED, why=error.why or error.what)
    if not file.is_settled:
        return Drift(tool, file.path, Condition.OUTDATED, keys, INTERRUPTED)
    if data is None:
        return Drift(tool, file.path, Condition.MISSING, keys, "the file is missing")
    if keys:
        return Drift(tool, file.path, Condition.CHANGED, keys)
    return Drift(tool, file.path, Condition.OUTDATED if outdated else Condition.OK, why=outdated)
