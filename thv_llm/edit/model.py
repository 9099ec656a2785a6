"""Paths into plain values: what an edited text must be once it is parsed.

A path is a tuple of steps. A string steps to the member of an object; an `Item` steps to the one
item of an array that carries a given name. These functions know nothing of text; the editors
compare their own work with them before they hand it out.

Pure: values in, new values out; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from thv_llm.errors import ThvLlmError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Missing(Enum):
    """The type of `MISSING`, which tells "not there" from null."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

BOM = "\ufeff"


class Format(Enum):
    """What a settings file is written in, and what the program that owns it takes."""

    JSON = "json"
    JSONC = "jsonc"  # with comments
    JSONC_TRAILING = "jsonc-trailing"  # with comments and trailing commas
    TOML = "toml"
    DOTENV = "dotenv"
    YAML = "yaml"  # a marked block in a top-level list or map


class EditError(ThvLlmError):
    """The text does not parse, or cannot take this edit safely. Nothing was changed.

    Args:
        reason: what is wrong, as a clause without place ("expected a colon").
        line: 1-based line of the trouble, 0 when it has no place.
        column: 1-based column, in characters; a byte order mark does not count.
    """

    def __init__(self, reason: str, *, line: int = 0, column: int = 0) -> None:
        place = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{place}{reason}")
        self.reason = reason
        self.line = line
        self.column = column

    @classmethod
    def at(cls, text: str, position: int, reason: str) -> EditError:
        """Make the error for a position (0-based, in characters) of a text."""
        line_start = text.rfind("\n", 0, position) + 1
        mark = 1 if line_start == 0 and position and text.startswith(BOM) else 0
        return cls(reason, line=text.count("\n", 0, position) + 1, column=position - line_start + 1 - mark)


@dataclass(frozen=True)
class Change:
    """One key of ours in a file: enough to see whether it is still ours, and to put back what was there.

    It can hold the user's secrets (`before`): keep it private, never show it.

    Args:
        key: where, in the words of the format (JSON pointer, dotted TOML key, variable, block).
        before: raw text of the previous value; None when there was none ("null" is a value).
        ours: raw text of the value that we wrote.
        extra: what the format needs for an exact undo; opaque to all others.
    """

    key: str
    before: str | None
    ours: str
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return plain values for a state file."""
        return {"key": self.key, "before": self.before, "ours": self.ours, "extra": dict(self.extra)}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Change:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the data has another shape.
        """
        match data:  # `before` must be there: without it, the user's value would go with a damaged record
            case {"key": str(key), "before": str() | None as before, "ours": str(ours), "extra": dict(extra)}:
                if all(isinstance(text, str) for pair in extra.items() for text in pair):
                    return cls(key, before, ours, extra)
        raise ValueError("not the record of a change")


@dataclass(frozen=True)
class Item:
    """The item of an array whose member `name` is the string `value`."""

    name: str
    value: str

    def fits(self, value: object) -> bool:
        """Tell whether a value is that item."""
        return isinstance(value, dict) and value.get(self.name) == self.value


Step: TypeAlias = str | Item
Path: TypeAlias = tuple[Step, ...]


def lookup(model: Json | Missing, path: Path) -> Json | Missing:
    """Return the value at a path, or MISSING when the path leads nowhere."""
    for step in path:
        model = _inner(model, step)
    return model


def put(model: Json | Missing, path: Path, value: Json) -> Json:
    """Return the model with the value at a path; containers on the way are made."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    inner = put(_inner(model, step), rest, value)
    if isinstance(step, str):
        return {**(model if isinstance(model, dict) else {}), step: inner}
    if isinstance(inner, dict) and rest:
        inner = {step.name: step.value, **inner}
    items = model if isinstance(model, list) else []
    place = _index(items, step)
    return [*items, inner] if place is None else [*items[:place], inner, *items[place + 1 :]]


def drop(model: Json | Missing, path: Path) -> Json | Missing:
    """Return the model without what is at a path; what is not there is no fault."""
    if not path:
        return MISSING
    inner = _inner(model, path[0])
    if isinstance(inner, Missing) or isinstance(model, Missing):
        return model
    left = drop(inner, path[1:])
    if isinstance(left, Missing):
        if isinstance(model, dict):
            return {name: value for name, value in model.items() if name != path[0]}
        assert isinstance(model, list)
        return [value for value in model if value is not inner]
    return put(model, path[:1], left)


def same(left: object, right: object) -> bool:
    """Tell whether two values are equal as JSON: true is not 1, and NaN is itself."""
    return repr(left) == repr(right) or _same(left, right)  # the first is much faster, if order is the same


def _same(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return _same_scalar(left, right)


def contains(value: object, ours: object) -> bool:
    """Tell whether a value holds all of ours; an object can have members of others besides."""
    if isinstance(value, dict) and isinstance(ours, dict):
        return all(name in value and contains(value[name], ours[name]) for name in ours)
    if isinstance(value, list) and isinstance(ours, list):
        return len(value) == len(ours) and all(map(contains, value, ours))
    return _same_scalar(value, ours)


def _same_scalar(left: object, right: object) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right or (left != left and right != right)


def _inner(model: Json | Missing, step: Step) -> Json | Missing:
    if isinstance(step, str):
        return model.get(step, MISSING) if isinstance(model, dict) else MISSING
    if not isinstance(model, list):
        return MISSING
    place = _index(model, step)
    return MISSING if place is None else model[place]


def _index(items: list[Json], step: Item) -> int | None:
    return next((place for place, item in enumerate(items) if step.fits(item)), None)
