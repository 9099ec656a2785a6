"""The rules of editing that hold for every format: what is ours, what was the user's, what is put back.

A format brings a `Document`: one parsed text that can find, insert, replace and remove one key.
`Editor` makes the rest of it, so that each rule stands here once:

- What already holds the wanted value is left as it is, byte for byte. Members that others have
  put into an object of ours stay (`contains`).
- An object that is there already is not replaced: our members are set in it one by one, and
  their own changes go into the record as `parts`.
- After each step the new text is parsed again by an independent parser (`Document.model`) and
  must be exactly the old model with that one change; otherwise the edit is refused.
- Undo goes by value: what still is ours is put back, what is not is left alone and reported.
- In brackets (objects, arrays, inline tables) an entry goes in at the end, right behind the last
  token or comment, so that white space before the closing bracket stays what it was. It goes out
  with the white space before it and the comma that is then one too many; comments of the user
  stay. One is the exact inverse of the other.

Pure: text in, text out. Positions are 0-based offsets in characters.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, ParamSpec, Protocol, TypeVar

from thv_llm.edit.model import (
    BOM,
    MISSING,
    Change,
    EditError,
    Json,
    Missing,
    Path,
    contains,
    lookup,
    put,
    same,
)
from thv_llm.errors import shown


@dataclass(slots=True, eq=False)
class Entry:
    """A member of an object, or an item of an array.

    Args:
        names: the key: one name in JSON, one or more in TOML, none for an item.
        lead: where the token or comment before the entry ends.
        start: where the key (or the item) begins.
        node: the value.
        comma: where the comma after it is, if there is one.
    """

    names: tuple[str, ...]
    lead: int
    start: int
    node: Node
    comma: int | None = None


@dataclass(slots=True, eq=False)
class Node:
    """A value in a text: from `start` up to `end`; `kind` is "object", "array" or "scalar".

    `tail` is where the last token or comment before the closing bracket ends. `unread` yields the
    entries of a container that the parser has passed over, on demand.
    """

    kind: str
    start: int
    end: int
    tail: int = 0
    unread: Callable[[Node], list[Entry]] | None = None
    _entries: list[Entry] | None = None

    @property
    def entries(self) -> list[Entry]:
        """What is in a container, in order."""
        if self._entries is None:
            self._entries = self.unread(self) if self.unread else []
        return self._entries

    def walk(self) -> Iterator[tuple[Node, Entry]]:
        """Yield every entry in this value, each with the container that it is in."""
        pending = [self]
        while pending:
            node = pending.pop()
            for entry in node.entries:
                yield node, entry
            pending.extend(entry.node for entry in reversed(node.entries))


def splice(text: str, cuts: Iterable[tuple[int, int, str]]) -> str:
    """Replace each (start, end) by its text; cuts do not overlap, at one place the order counts."""
    pieces = []
    position = 0
    for start, end, new in sorted(cuts, key=lambda cut: cut[:2]):
        pieces += [text[position:start], new]
        position = end
    return "".join(pieces) + text[position:]


def add_entry(text: str, node: Node, body: str, *, lead: str, close: str = "") -> str:
    """Put an entry at the end of a container.

    Args:
        body: the text of the entry.
        lead: white space before it.
        close: white space after it, for a container that has no entries.
    """
    cuts = []
    comma = ""
    if node.entries:
        last = node.entries[-1]
        if last.comma is None:
            cuts.append((last.node.end, last.node.end, ","))
        else:
            comma = ","  # a trailing comma is the user's style: it stays, and ours gets one
    cuts.append((node.tail, node.tail, lead + body + comma + close))
    return splice(text, cuts)


def remove_entry(
    text: str, node: Node, entry: Entry, *, close: str = "", line_comments: Collection[int] = ()
) -> str:
    """Take an entry out of its container.

    Args:
        close: white space that `add_entry` put behind it.
        line_comments: where comments end that reach to the end of their line.
    """
    place = node.entries.index(entry)
    stop = entry.node.end
    after = stop if entry.comma is None else entry.comma + 1
    start = entry.lead
    if start in line_comments and not _line_ends(text, after):
        start = entry.start
    cuts = [(start, stop, "")]
    if entry.comma is not None:
        cuts.append((entry.comma, entry.comma + 1, ""))
    elif place > 0:
        comma = node.entries[place - 1].comma
        assert comma is not None
        cuts.append((comma, comma + 1, ""))
    if close and len(node.entries) == 1 and text.startswith(close, after):
        cuts.append((after, after + len(close), ""))
    return splice(text, cuts)


def whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen a span to the lines it is on; with the last line of a text goes the line end before it.

    So it is the inverse of adding a line, with a line end after it, or before it where the text
    had none at its end.
    """
    start = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", end)
    if stop < 0 and start > 0:
        start -= 2 if text.endswith("\r\n", 0, start) else 1
    if start == 0 and text.startswith(BOM):
        start = len(BOM)
    return start, len(text) if stop < 0 else stop + 1


def indent_at(text: str, position: int) -> str:
    """Return the white space that the line of a position begins with."""
    start = text.rfind("\n", 0, position) + 1
    start = max(start, text.rfind("\r", start, position) + 1)  # from there: there can be none in all the text
    stop = start
    while stop < len(text) and text[stop] in " \t":
        stop += 1
    return text[start:stop]


def eol_of(text: str) -> str:
    """Return the line end that a text uses."""
    first, newline, _ = text.partition("\n")
    return "\r\n" if newline and first.endswith("\r") else "\n"


def _line_ends(text: str, position: int) -> bool:
    while text.startswith((" ", "\t"), position):
        position += 1
    return position >= len(text) or text[position] in "\r\n"


PARTS = "parts"

P = ParamSpec("P")
T = TypeVar("T")


class Document(Protocol):
    """One parsed text. Every method returns a new text and leaves the document as it is.

    All of them raise EditError when the text cannot take the edit safely.
    """

    text: str

    @property
    def model(self) -> Json | Missing:
        """The plain value of the whole text, by a parser that the edits have no part in."""

    def path(self, key: str) -> Path:
        """Return the steps that a key stands for."""

    def child(self, key: str, name: str) -> str:
        """Return the key of a member of the object at `key`."""

    def raw(self, key: str) -> str:
        """Return the text of the value at `key`, which is there."""

    def render(self, key: str, value: Json) -> str:
        """Write a value in the style of the text, as it would stand at `key`."""

    def load(self, raw: str) -> Json:
        """Return the value that `render` or `raw` wrote."""

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:
        """Put in a key that is not there; return the text and `Change.extra`.

        Args:
            earlier: other changes of ours in this text; containers that they made are ours, too.
        """

    def replace(self, key: str, raw: str) -> str:
        """Put another value's text at a key that is there."""

    def remove(self, key: str, extra: Mapping[str, str]) -> tuple[str, Json | Missing]:
        """Take a key out, and the containers that `extra` calls ours when nothing else is in them.

        The key itself can be absent already. Returns the text, and the model that it must parse to.
        """


def refuses_deep_nesting(function: Callable[P, T]) -> Callable[P, T]:
    """Make a text that is nested too deeply an EditError, not a RecursionError."""

    @functools.wraps(function)
    def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except RecursionError:
            raise EditError("nested too deeply") from None

    return bounded


remembered = functools.lru_cache(maxsize=8)
"""For `parse`: a run of setup looks at the same texts again and again, and documents never change."""


def is_blank(text: str) -> bool:
    """Tell whether there is nothing in a text but white space."""
    return not text.removeprefix(BOM).strip()


@dataclass(frozen=True)
class Editor:
    """The four functions of a format.

    Args:
        parse: reads a text; raises EditError with line and column.
        is_empty: tells whether a text says nothing, so that a file which setup made can go.
    """

    parse: Callable[[str], Document]
    is_empty: Callable[[str], bool] = is_blank

    @refuses_deep_nesting
    def apply(self, text: str, wanted: Mapping[str, Json]) -> tuple[str, tuple[Change, ...]]:
        """Set every key; return the new text and one change per key that is ours now.

        A key that had the wanted value before us yields no change: it is the user's. To do it anew,
        `revert` comes first.

        Raises:
            EditError: the text does not parse or cannot take the edit.
        """
        draft = _Draft(self.parse, text)
        try:
            changes = _set_all(draft, wanted, ())
        except EditError as error:
            self._raise_in_place(text, wanted, error)
        return draft.text, tuple(changes)

    @refuses_deep_nesting
    def revert(self, text: str, changes: Sequence[Change]) -> tuple[str, tuple[str, ...]]:
        """Undo changes; return the new text and the keys that the user has changed meanwhile.

        Raises:
            EditError: the text does not parse.
        """
        draft = _Draft(self.parse, text)
        left = [change.key for change in reversed(changes) if not _undo(draft, change)]
        return draft.text, tuple(reversed(left))

    @refuses_deep_nesting
    def holds(self, text: str, changes: Sequence[Change]) -> tuple[str, ...]:
        """Return the keys that no longer hold our value."""
        document = self.parse(text)
        return tuple(change.key for change in changes if not _is_ours(document, change))

    @refuses_deep_nesting
    def remove(self, text: str, keys: Iterable[str]) -> str:
        """Remove keys of any origin; an absent key is no error."""
        draft = _Draft(self.parse, text)
        for key in keys:
            if draft.find(key) is not MISSING:
                draft.remove(key, {})
        return draft.text

    @refuses_deep_nesting
    def adopt(self, text: str, wanted: Mapping[str, Json], keys: Collection[str]) -> tuple[Change, ...]:
        """Return changes for values of ours that nothing recorded: as if setup had made them from nothing.

        Args:
            wanted: what setup would set; its keys tell which containers are made for them.
            keys: those whose values are ours.

        Raises:
            EditError: the text does not parse.
        """
        document, changes = self.parse(text), []
        for one in self.apply("", wanted)[1]:
            now = lookup(document.model, document.path(one.key))
            if one.key in keys and not isinstance(now, Missing):
                raw = document.raw(one.key) if isinstance(now, str) else document.render(one.key, now)
                changes.append(Change(one.key, None, raw, one.extra))
        return tuple(changes)

    @refuses_deep_nesting
    def value(self, text: str, key: str) -> Json | Missing:
        """Return what is at a key, or MISSING."""
        document = self.parse(text)
        return lookup(document.model, document.path(key))

    def _raise_in_place(self, text: str, wanted: Mapping[str, Json], error: EditError) -> NoReturn:
        """Raise an error with its place in the text as the user has it, not in our half-made one."""
        for key, value in wanted.items():
            _set(_Draft(self.parse, text), key, value, ())
        raise EditError(error.reason) from None


class _Draft:
    """A text on its way to the wanted one; every step is checked against the model."""

    def __init__(self, parse: Callable[[str], Document], text: str) -> None:
        self._parse = parse
        self.document = parse(text)

    @property
    def text(self) -> str:
        return self.document.text

    def find(self, key: str) -> Json | Missing:
        return lookup(self.document.model, self.document.path(key))

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> dict[str, str]:
        text, extra = self.document.insert(key, value, earlier)
        self._become(key, text, put(self.document.model, self.document.path(key), value))
        return extra

    def replace(self, key: str, raw: str) -> None:
        value = self.document.load(raw)
        text = self.document.replace(key, raw)
        self._become(key, text, put(self.document.model, self.document.path(key), value))

    def remove(self, key: str, extra: Mapping[str, str]) -> None:
        self._become(key, *self.document.remove(key, extra))

    def _become(self, key: str, text: str, expected: Json | Missing) -> None:
        try:
            document = self._parse(text)
            right = same(document.model, expected)
        except EditError:
            right = False
        if not right:
            raise EditError(f"{shown(key)} cannot be edited here without touching something else")
        self.document = document


def _set_all(draft: _Draft, wanted: Mapping[str, Json], outer: Iterable[Change]) -> list[Change]:
    changes: list[Change] = []
    for key, value in wanted.items():
        change = _set(draft, key, value, (*outer, *changes))
        if change is not None:
            changes.append(change)
    return changes


def _set(draft: _Draft, key: str, value: Json, earlier: Sequence[Change]) -> Change | None:
    """Bring one key to its value; return its change, or None when it is the user's own value."""
    raw = draft.document.render(key, value)
    value = draft.document.load(raw)
    now = draft.find(key)
    if isinstance(now, Missing):
        return Change(key, None, raw, draft.insert(key, value, earlier))
    before = draft.document.raw(key)
    if isinstance(now, dict) and isinstance(value, dict):
        members = {draft.document.child(key, name): inner for name, inner in value.items()}
        parts = _set_all(draft, members, earlier)
        if not parts:
            return None
        record = json.dumps([part.to_json() for part in parts])
        return Change(key, before, draft.document.render(key, value), {PARTS: record})
    if contains(now, value):
        return None
    draft.replace(key, raw)
    return Change(key, before, raw)


def _undo(draft: _Draft, change: Change) -> bool:
    """Put back what was there before a change; False when the user has changed it meanwhile."""
    now = draft.find(change.key)
    try:
        if now is not MISSING and not _is_ours(draft.document, change):
            return change.before is not None and same(now, draft.document.load(change.before))
        if change.before is None:
            draft.remove(change.key, change.extra)  # or, without it, a container of ours that is left
        elif now is MISSING:
            return False
        elif parts := _parts(change):
            undone = [_undo(draft, part) for part in reversed(parts)]  # each of them, whatever the others say
            return all(undone)
        else:
            draft.replace(change.key, change.before)
    except EditError:
        return False
    return True


def carry_on(changes: Sequence[Change], older: Iterable[Change]) -> tuple[Change, ...]:
    """Return changes that keep the previous values which an older record knew.

    A tool can drop a key of ours between two runs. The second run finds nothing there, but what
    was there before the first is still the value to put back. What is there now always wins.
    """
    known = {change.key: change for change in older if change.before is not None}
    return tuple(_carried(change, known[change.key]) if change.key in known else change for change in changes)


def _carried(change: Change, old: Change) -> Change:
    if change.before is None:
        return Change(change.key, old.before, change.ours, change.extra)
    if PARTS in change.extra and PARTS in old.extra:
        parts = carry_on(_parts(change), _parts(old))
        record = json.dumps([part.to_json() for part in parts])
        return Change(change.key, change.before, change.ours, {PARTS: record})
    return change


def _is_ours(document: Document, change: Change) -> bool:
    now = lookup(document.model, document.path(change.key))
    return not isinstance(now, Missing) and contains(now, document.load(change.ours))


def _parts(change: Change) -> tuple[Change, ...]:
    return tuple(Change.from_json(data) for data in json.loads(change.extra.get(PARTS, "[]")))
