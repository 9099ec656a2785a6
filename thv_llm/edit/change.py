"""What an edit leaves behind: the record of one key, and the error for a text that cannot take it.

Pure: values only.
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

    It may hold the user's secrets (`before`): keep it private, never show it.

    Args:
        key: where, in the words of the format (JSON pointer, dotted TOML key, variable, block).
        before: raw text of the previous value; None when there was none ("null" is a value).
        ours: raw text of the value that we wrote.
        extra: what the format needs for an exact undo; opaque to everybody else.
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
        key, before, ours, extra = (data.get(name) for name in ("key", "before", "ours", "extra"))
        if not isinstance(key, str) or not isinstance(ours, str) or not isinstance(extra, dict):
            raise ValueError("not the record of a change")
        if not (before is None or isinstance(before, str)):
            raise ValueError("not the record of a change")
        if not all(isinstance(text, str) for pair in extra.items() for text in pair):
            raise ValueError("not the record of a change")
        return cls(key, before, ours, extra)
