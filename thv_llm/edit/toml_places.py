"""Where the values and tables of a TOML text are written, and where a new one belongs.

TOML has four ways to write the same table: under a header, under the headers of its sub-tables,
by dotted keys, and inline. A new key has to join the way that is there; these are the questions
an edit asks about that.

Pure: text in, positions out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import cast

from thv_llm.edit import toml_lex
from thv_llm.edit.model import MISSING, EditError, Item, Json, Path, lookup
from thv_llm.edit.splice import Entry, Node
from thv_llm.edit.toml_lex import Pair, Place, Section, key_of
from thv_llm.errors import shown

Span = tuple[int, int]


@dataclass
class Value:
    """A value in the text: the pair it belongs to, and the way to it inside brackets."""

    pair: Pair
    trail: list[tuple[Node, Entry]]

    @property
    def node(self) -> Node:
        """The text of the value itself."""
        return self.trail[-1][1].node if self.trail else self.pair.node


class Places:
    """One parsed TOML text.

    Args:
        start: where the text begins, behind a byte order mark.
    """

    def __init__(self, text: str) -> None:
        self.model = cast("Json", toml_lex.parse(text))
        lexer = toml_lex.Lexer(text)
        self.start = lexer.start
        self.sections = lexer.sections
        self.comments = lexer.comments
        self._text = text

    def place(self, path: Path) -> Place:
        """Return the place of a path; an item that is not there gets the index after the last."""
        place: list[str | int] = []
        for count, step in enumerate(path):
            if isinstance(step, str):
                place.append(step)
                continue
            items = lookup(self.model, path[:count])
            items = items if isinstance(items, list) else []
            ours = [i for i, item in enumerate(items) if _is_item(item, step)]
            if len(ours) > 1:
                raise EditError(f"{shown(key_of(path))} is there more than once")
            place.append(ours[0] if ours else len(items))
        return tuple(place)

    def check_parents(self, path: Path) -> None:
        """Refuse a path through something that is no table (or no array, before an item)."""
        for count, step in enumerate(path):
            holder = lookup(self.model, path[:count])
            kind = dict if isinstance(step, str) else list
            name = shown(key_of(path[:count]))
            if holder is not MISSING and not isinstance(holder, kind):
                found = self.find(self.place(path[:count]))
                reason = f"{name} is not {'a table' if kind is dict else 'an array of tables'}"
                raise EditError.at(self._text, found.node.start, reason) if found else EditError(reason)
            if count and isinstance(path[count - 1], Item) and not isinstance(holder, dict):
                raise EditError(f"{name} is not there")

    def find(self, place: Place) -> Value | None:
        """Return where a value is written; None for what has headers or dotted keys, or is not there."""
        for pair in self.pairs():
            trail = _descend(pair.place, pair.node, place)
            if trail is not None:
                return Value(pair, trail)
        return None

    def holder(self, place: Place) -> tuple[Place, Node] | None:
        """Return the innermost pair of brackets around a place, and the place that it is."""
        found = None
        for at, node in self._values():
            if len(at) < len(place) and place[: len(at)] == at and (found is None or len(at) > len(found[0])):
                found = at, node
        return found

    def dotted_home(self, place: Place) -> tuple[Section, Pair] | None:
        """Return the section, and the last pair in it, by whose dotted key a table around a place exists."""
        for count in range(len(place) - 1, 0, -1):
            table = place[:count]
            for section in self.sections:
                if len(section.place) < count and table[: len(section.place)] == section.place:
                    pairs = [pair for pair in section.pairs if pair.place[:count] == table]
                    if pairs:
                        return section, pairs[-1]
            if any(section.place[:count] == table for section in self.sections):
                return None
        return None

    def section(self, place: Place) -> Section | None:
        """Return the section with the header of a table; the first section for the top level."""
        return next((section for section in self.sections if section.place == place), None)

    def last_relative(self, place: Place) -> Section:
        """Return the section that a new header follows best: the last one that is under the same roof."""
        for count in range(len(place) - 1, 0, -1):
            near = [section for section in self.sections if section.place[:count] == place[:count]]
            in_array = isinstance(place[count - 1], int) or isinstance(place[count], int)
            if near and (in_array or any(section.place == place[:count] for section in near)):
                return near[-1]
        return self.sections[-1]

    def lines_of(self, place: Place) -> list[Span]:
        """Return the lines of a table: its sections (one span where nothing is between), its pairs."""
        spans: list[Span] = []
        for section in self.sections:
            if section.place[: len(place)] == place:
                joined = spans and not self._text[spans[-1][1] : section.start].strip()
                start = spans.pop()[0] if joined else section.start
                spans.append((start, section.end))
            else:
                spans += [
                    (pair.start, pair.end) for pair in section.pairs if pair.place[: len(place)] == place
                ]
        return spans

    def is_bare(self, section: Section, but: Pair | None) -> bool:
        """Tell whether there is nothing under a header but one pair, not even a comment."""
        return all(pair is but for pair in section.pairs) and not any(
            section.start <= start < section.end for start, _ in self.comments
        )

    def vanishing(self, path: Path, gone: Collection[Place]) -> Path:
        """Return how much of a path the parsed text loses with it: tables nobody else writes go, too.

        Args:
            gone: places of headers that go with it.
        """
        place = self.place(path)
        left = [at for at in self._written() if at[: len(place)] != place and at not in gone]
        for count in range(1, len(place)):
            if not any(at[:count] == place[:count] for at in left):
                return path[:count]
        return path

    def pairs(self) -> Iterator[Pair]:
        """Yield every pair of the text."""
        for section in self.sections:
            yield from section.pairs

    def _values(self) -> Iterator[tuple[Place, Node]]:
        for pair in self.pairs():
            pending: list[tuple[Place, Node]] = [(pair.place, pair.node)]
            while pending:
                at, node = pending.pop()
                yield at, node
                pending += [
                    ((*at, *(entry.names or (i,))), entry.node) for i, entry in enumerate(node.entries)
                ]

    def _written(self) -> Iterator[Place]:
        yield from (section.place for section in self.sections)
        yield from (at for at, _ in self._values())


def _is_item(value: Json, step: Item) -> bool:
    return isinstance(value, dict) and value.get(step.name) == step.value


def _descend(at: Place, node: Node, place: Place) -> list[tuple[Node, Entry]] | None:
    if at == place:
        return []
    if place[: len(at)] != at:
        return None
    for i, entry in enumerate(node.entries):
        rest = _descend((*at, *(entry.names or (i,))), entry.node, place)
        if rest is not None:
            return [(node, entry), *rest]
    return None
