"""Bracketed lists in text (objects, arrays, inline tables): put an entry in, take an entry out.

An entry goes in at the end, right behind the last token or comment, so that white space before
the closing bracket stays what it was. It goes out with the white space before it and the comma
that is then one too many; comments of the user stay. One is the exact inverse of the other.

Pure: text and positions in, text out. Positions are 0-based offsets in characters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from thv_llm.edit.model import BOM


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
    entries of a container that the parser has passed over, when somebody wants them.
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
    start = max(start, text.rfind("\r", start, position) + 1)  # from there: there may be none in all the text
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
