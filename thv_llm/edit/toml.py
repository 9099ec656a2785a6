"""Set and remove keys in TOML settings, touching nothing else.

Keys are dotted TOML keys: "model_provider", "oidc.issuer", 'models."a.b"'. A name followed by
`[name=value]` stands for the item of an array of tables whose key `name` is the string `value`:
"providers[name=thv-llm]". A dict as value becomes a table with a header of its own, unless the
place it belongs to is written with dotted keys or inline; then it becomes an inline table.

TOML has four ways to write the same table: under a header, under the headers of its sub-tables,
by dotted keys, and inline. A new key must be written in the way that is there; `Places` tells what an
edit asks about that.

What `Change.extra` holds here: `lead`, the white space before a header that we wrote; `made`, the
place of a header that we wrote for single keys; `above` and `after`, the blank line before or
after the first of the top-level keys; `close`, the space before the brace of the inline table
`at`, which had been empty; `array`, the inline array that we wrote around an item.

Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from thv_llm.edit import toml_lex
from thv_llm.edit.document import (
    Editor,
    Entry,
    Node,
    add_entry,
    eol_of,
    indent_at,
    remembered,
    remove_entry,
    splice,
    whole_lines,
)
from thv_llm.edit.model import MISSING, Change, EditError, Item, Json, Missing, Path, drop, lookup
from thv_llm.edit.toml_lex import Pair, Section, TomlPlace, dotted, key_of, literal, steps, table
from thv_llm.errors import shown

_BLANK_LINE = re.compile(r"(?:\A|\n)[ \t]*\r?\n\Z")
Span = tuple[int, int]


@dataclass
class _Written:
    """A value in the text: the pair it belongs to, and the way to it inside brackets."""

    pair: Pair
    trail: list[tuple[Node, Entry]]

    @property
    def node(self) -> Node:
        """The text of the value itself."""
        return self.trail[-1][1].node if self.trail else self.pair.node


class Places(toml_lex.Lexer):
    """One parsed TOML text: what is written where."""

    def __init__(self, text: str) -> None:
        self.model = cast("Json", toml_lex.parse(text))
        super().__init__(text)

    def place(self, path: Path) -> TomlPlace:
        """Return the place of a path; an item that is not there gets the index after the last."""
        place: list[str | int] = []
        for count, step in enumerate(path):
            if isinstance(step, str):
                place.append(step)
                continue
            items = lookup(self.model, path[:count])
            items = items if isinstance(items, list) else []
            ours = [i for i, item in enumerate(items) if step.fits(item)]
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
                raise EditError.at(self.text, found.node.start, reason) if found else EditError(reason)
            if count and isinstance(path[count - 1], Item) and not isinstance(holder, dict):
                raise EditError(f"{name} is not there")

    def find(self, place: TomlPlace) -> _Written | None:
        """Return where a value is written; None for what has headers or dotted keys, or is not there."""
        for pair in self.pairs():
            trail = _descend(pair.place, pair.node, place)
            if trail is not None:
                return _Written(pair, trail)
        return None

    def holder(self, place: TomlPlace) -> tuple[TomlPlace, Node] | None:
        """Return the innermost pair of brackets around a place, and the place that it is."""
        found = None
        for at, node in self._values():
            if len(at) < len(place) and place[: len(at)] == at and (found is None or len(at) > len(found[0])):
                found = at, node
        return found

    def dotted_home(self, place: TomlPlace) -> tuple[Section, Pair] | None:
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

    def section(self, place: TomlPlace) -> Section | None:
        """Return the section with the header of a table; the first section for the top level."""
        return next((section for section in self.sections if section.place == place), None)

    def last_relative(self, place: TomlPlace) -> Section:
        """Return the section that a new header follows best: the last one that is under the same roof."""
        for count in range(len(place) - 1, 0, -1):
            near = [section for section in self.sections if section.place[:count] == place[:count]]
            in_array = isinstance(place[count - 1], int) or isinstance(place[count], int)
            if near and (in_array or any(section.place == place[:count] for section in near)):
                return near[-1]
        return self.sections[-1]

    def lines_of(self, place: TomlPlace) -> list[Span]:
        """Return the lines of a table: its sections (one span where nothing is between), its pairs."""
        spans: list[Span] = []
        for section in self.sections:
            if section.place[: len(place)] == place:
                joined = spans and not self.text[spans[-1][1] : section.start].strip()
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

    def vanishing(self, path: Path, gone: Collection[TomlPlace]) -> Path:
        """Return how much of a path the parsed text loses with it: tables without other keys go, too.

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

    def _values(self) -> Iterator[tuple[TomlPlace, Node]]:
        for pair in self.pairs():
            pending: list[tuple[TomlPlace, Node]] = [(pair.place, pair.node)]
            while pending:
                at, node = pending.pop()
                yield at, node
                pending += [
                    ((*at, *(entry.names or (i,))), entry.node) for i, entry in enumerate(node.entries)
                ]

    def _written(self) -> Iterator[TomlPlace]:
        yield from (section.place for section in self.sections)
        yield from (at for at, _ in self._values())


def _descend(at: TomlPlace, node: Node, place: TomlPlace) -> list[tuple[Node, Entry]] | None:
    if at == place:
        return []
    if place[: len(at)] != at:
        return None
    for i, entry in enumerate(node.entries):
        rest = _descend((*at, *(entry.names or (i,))), entry.node, place)
        if rest is not None:
            return [(node, entry), *rest]
    return None


class TomlDocument:
    """One parsed TOML text; see `document.Document`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._places = Places(text)
        self._eol = eol_of(text)

    @property
    def model(self) -> Json:
        """The plain value of the whole text."""
        return self._places.model

    def path(self, key: str) -> Path:
        """Return the steps of a dotted key."""
        return steps(key)

    def child(self, key: str, name: str) -> str:
        """Return the key of a member."""
        return f"{key}.{dotted([name])}"

    def raw(self, key: str) -> str:
        """Return the text of a value; of a table with headers, all of its lines."""
        place = self._places.place(steps(key))
        found = self._places.find(place)
        spans = [(found.node.start, found.node.end)] if found else self._places.lines_of(place)
        return "".join(self.text[start:end] for start, end in spans)

    def load(self, raw: str) -> Json:
        """Return the value of a piece of TOML."""
        value: Json = toml_lex.parse(f"value = {raw}\n")["value"]  # type: ignore[assignment]
        return value

    def render(self, key: str, value: Json) -> str:  # noqa: ARG002 - it looks the same at every key
        """Write a value on one line."""
        return literal(value)

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:
        """Put in a key the way its table is written: inline, dotted, as a line, or with a new header."""
        path = steps(key)
        _check_item(path, value)
        self._places.check_parents(path)
        place = self._places.place(path)
        inline, home = self._places.holder(place), self._places.dotted_home(place)
        if (inline or home) and isinstance(path[-1], Item) and lookup(self.model, path[:-1]) is MISSING:
            array = key_of(path[:-1])
            text, extra = self.insert(array, [value], earlier)
            return text, {**extra, "array": array}
        if inline is not None:
            return self._insert_inline(*inline, path, value, earlier)
        if home is not None:
            return self._insert_line(*home, _names(place[len(home[0].place) :]), value), {}
        if isinstance(value, dict):
            text, lead = self._insert_table(place, value)
            return text, {"lead": lead}
        return self._insert_scalar(path, value, earlier)

    def replace(self, key: str, raw: str) -> str:
        """Put another value in the place of one."""
        found = self._places.find(self._places.place(steps(key)))
        if found is None:
            raise EditError(f"{shown(key)} is a table")
        return splice(self.text, [(found.node.start, found.node.end, raw)])

    def remove(self, key: str, extra: Mapping[str, str]) -> tuple[str, Json | Missing]:
        """Take out a value or a table, and the header of ours that has nothing else under it."""
        path = steps(key)
        place = self._places.place(path)
        found = self._places.find(place)
        if "array" in extra and self._holds_only(extra["array"], found):
            return self.remove(extra["array"], {name: extra[name] for name in extra if name != "array"})
        if found is not None and found.trail:
            return self._remove_inline(found, path, extra), self._without(path, ())
        made = self._made(found, extra)
        if made is not None:
            spans = [(self._without_lead(made.start, extra), made.end)]
            return self._cut(spans), self._without(path, (made.place,))
        if found is not None:
            spans = [self._line(found.pair, extra)]
        else:
            spans = self._places.lines_of(place)
            spans[:1] = [(self._without_lead(start, extra), end) for start, end in spans[:1]]
        return self._cut(spans), self._without(path, ())

    def _without(self, path: Path, gone: Collection[TomlPlace]) -> Json | Missing:
        return drop(self.model, self._places.vanishing(path, gone))

    def _insert_inline(
        self, at: TomlPlace, node: Node, path: Path, value: Json, earlier: Sequence[Change]
    ) -> tuple[str, dict[str, str]]:
        names = _names(self._places.place(path)[len(at) :])  # none for an item of an array
        body = f"{dotted(names)} = {literal(value)}" if names else literal(value)
        holder = key_of(path[: len(at)])
        extra: dict[str, str] = {}
        for change in earlier:
            if change.extra.get("at") == holder:
                extra |= {name: change.extra[name] for name in ("at", "close")}
            if change.extra.get("array") == holder:
                extra["array"] = holder
        lead, close = self._spot(node)
        if close:
            extra = {"at": holder, "close": close}
        return add_entry(self.text, node, body, lead=lead, close=close), extra

    def _spot(self, node: Node) -> tuple[str, str]:
        """Return the white space before and after an entry at the end of brackets."""
        if not node.entries:
            if node.tail in self._line_comments():
                return self._eol, ""
            if node.kind == "array" or node.end - node.tail > 1:
                return " " * (node.kind == "object"), ""
            return " ", " "
        last = node.entries[-1]
        if node.tail in self._line_comments():
            return self._eol + indent_at(self.text, last.start), ""
        if len(node.entries) > 1 or "\n" in self.text[last.lead : last.start]:
            return self.text[last.lead : last.start], ""
        return " ", ""

    def _line_comments(self) -> set[int]:
        return {end for _, end in self._places.comments}

    def _insert_scalar(
        self, path: Path, value: Json, earlier: Sequence[Change]
    ) -> tuple[str, dict[str, str]]:
        """Put in a key as a line of its table, with a header if there is none."""
        place = self._places.place(path)
        names = _names(place[-1:])
        made = key_of(path[:-1])
        section = self._places.section(place[:-1])
        if section is None:
            text, lead = self._insert_table(place[:-1], {names[0]: value})
            return text, {"lead": lead, "made": made}
        extra: dict[str, str] = {}
        for change in earlier:
            if made and change.extra.get("made") == made:
                extra |= {"made": made, "lead": change.extra.get("lead", "")}
            if not section.place:
                extra |= {name: change.extra[name] for name in ("above", "after") if name in change.extra}
        if not section.place and not section.pairs and len(self._places.sections) > 1:
            return self._insert_first(f"{dotted(names)} = {literal(value)}{self._eol}")
        last = section.pairs[-1] if section.pairs else None
        return self._insert_line(section, last, names, value), extra

    def _insert_first(self, line: str) -> tuple[str, dict[str, str]]:
        """Put the first top-level pair above the first header, and a blank line between the two."""
        position = self._above(self._places.sections[1], self._places.start)
        comment = self.text[self._places.start : position].rstrip()
        if not comment:
            return splice(self.text, [(position, position, line + self._eol)]), {"after": self._eol}
        position = self.text.index("\n", self._places.start + len(comment)) + 1
        return splice(self.text, [(position, position, self._eol + line)]), {"above": self._eol}

    def _insert_line(self, section: Section, last: Pair | None, names: tuple[str, ...], value: Json) -> str:
        """Put a pair after another one, or after the header."""
        indent = indent_at(self.text, last.start) if last else ""
        line = f"{indent}{dotted(names)} = {literal(value)}"
        position = last.end if last else section.end
        if last is None and not section.place:
            position = len(self.text)
        before = self.text[self._places.start : position]
        line = line + self._eol if not before or before.endswith("\n") else self._eol + line
        return splice(self.text, [(position, position, line)])

    def _insert_table(self, place: TomlPlace, value: dict[str, Json]) -> tuple[str, str]:
        """Put in a table with its header; return the text and the white space before the header."""
        anchor = self._places.sections.index(self._places.last_relative(place))
        position = len(self.text)
        if anchor + 1 < len(self._places.sections):
            position = self._gap_after(anchor)
        before = self.text[self._places.start : position]
        block = table(_names(place), value, is_item=isinstance(place[-1], int)).replace("\n", self._eol)
        lead = self._eol
        if not before or _BLANK_LINE.search(before):
            lead = ""
        elif not before.endswith("\n"):
            lead, block = self._eol * 2, block.removesuffix(self._eol)
        return splice(self.text, [(position, position, lead + block)]), lead

    def _gap_after(self, anchor: int) -> int:
        """Return where a section ends for a reader: comments right above a header belong to that."""
        end = self._places.sections[anchor].end
        position = self._above(self._places.sections[anchor + 1], end)
        while position > end and not self._line_before(position).strip():
            position -= len(self._line_before(position))
        return position

    def _above(self, section: Section, floor: int) -> int:
        """Return where the comment right above a header begins, or the header itself."""
        position = section.start
        while position > floor and self._line_before(position).lstrip(" \t\ufeff").startswith("#"):
            position = max(position - len(self._line_before(position)), floor)
        return position

    def _line_before(self, position: int) -> str:
        return self.text[self.text.rfind("\n", 0, position - 1) + 1 : position]

    def _remove_inline(self, found: _Written, path: Path, extra: Mapping[str, str]) -> str:
        node, entry = found.trail[-1]
        count = len(path) - max(len(entry.names), 1)
        close = extra.get("close", "") if extra.get("at") == key_of(path[:count]) else ""
        return remove_entry(self.text, node, entry, close=close, line_comments=self._line_comments())

    def _holds_only(self, array: str, item: _Written | None) -> bool:
        """Tell whether an array that we wrote has nothing in it but one item, or nothing."""
        found = self._places.find(self._places.place(steps(array)))
        entry = item.trail[-1][1] if item and item.trail else None
        return found is not None and all(other is entry for other in found.node.entries)

    def _made(self, found: _Written | None, extra: Mapping[str, str]) -> Section | None:
        """Return the section that we made for a key and that has nothing else in it."""
        if "made" not in extra:
            return None
        section = self._places.section(self._places.place(steps(extra["made"])))
        pair = found.pair if found else None
        return section if section and self._places.is_bare(section, pair) else None

    def _line(self, pair: Pair, extra: Mapping[str, str]) -> Span:
        """Return the line of a pair, with the blank line that we put after it."""
        start, end = whole_lines(self.text, pair.start, pair.node.end)
        above, after = extra.get("above", ""), extra.get("after", "")
        if len(self._places.sections[0].pairs) == 1:
            start = self._begin(above, start) or start
            end += next((len(one) for one in _spellings(after) if self.text.startswith(one, end)), 0)
        return start, end

    def _without_lead(self, start: int, extra: Mapping[str, str]) -> int:
        """Return where a header begins with the white space that we, or else people, put before it."""
        lead = extra.get("lead", self._eol if _BLANK_LINE.search(self.text[:start]) else "")
        while (begin := self._begin(lead, start)) is None:
            lead = lead[:-1]  # the user, or another undo of ours, has taken some of it
        return begin

    def _begin(self, space: str, end: int) -> int | None:
        """Return where the white space that we put before a place begins, also with other line ends."""
        for one in _spellings(space):
            begin = end - len(one)
            is_half = self.text[max(begin - 1, 0) : begin + 1] == "\r\n"
            if self.text.endswith(one, self._places.start, end) and not is_half:
                return begin
        return None

    def _cut(self, spans: Sequence[Span]) -> str:
        """Take lines out; what follows stays on its own line, and no final line end stays none."""
        cuts = []
        for start, end in spans:
            inside = self._places.start < start and end < len(self.text)
            joins = inside and self.text[start - 1] != "\n" and self.text[end] not in "\r\n"
            cuts.append((start, end, self._eol if joins else ""))
        left = splice(self.text, cuts)
        at_end = bool(spans) and spans[-1][1] == len(self.text) and not self.text.endswith("\n")
        return left.rstrip("\r\n") if at_end else left


def _spellings(space: str) -> tuple[str, ...]:
    """Return white space of a record with each kind of line ends: an editor can have changed the file's."""
    plain = space.replace("\r\n", "\n")
    return space, plain, plain.replace("\n", "\r\n")


def _names(place: TomlPlace) -> tuple[str, ...]:
    return tuple(name for name in place if isinstance(name, str))


def _check_item(path: Path, value: Json) -> None:
    step = path[-1]
    if isinstance(step, Item) and not step.fits(value):
        raise EditError(f"an item found by {shown(step.name)} needs that member")


EDITOR = Editor(remembered(TomlDocument))
