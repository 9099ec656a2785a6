"""TOML 1.0: where every header, pair and value of a valid text stands.

The standard library's parser goes first and decides what is valid; so this one must only find
its way, and can take shortcuts that would be wrong for an invalid text.

Pure: text in, positions out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import tomli_w

from thv_llm.edit.document import Entry, Node
from thv_llm.edit.model import BOM, EditError, Item, Json, Path, Step
from thv_llm.errors import shown

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(
    r"""(?P<name>"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
    r"""(?:\[(?P<id>[A-Za-z0-9_-]+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\]"]*)\])?(?:\.(?=.)|\Z)"""
)


def steps(key: str) -> Path:
    """Read the steps of a key of ours: a dotted key, with `[name=value]` after an array's name."""
    path: list[Step] = []
    position = 0
    while position < len(key):
        found = _STEP.match(key, position)
        if found is None:
            raise EditError(f"{shown(key)} is not a dotted key")
        path += names_of(found["name"])
        if found["id"]:
            raw = found["value"]
            path.append(Item(found["id"], json.loads(raw) if raw.startswith('"') else raw))
        position = found.end()
    if not path:
        raise EditError("a TOML key needs a name")
    return tuple(path)


def key_of(path: Path) -> str:
    """Write the key that stands for some steps."""
    key = ""
    for step in path:
        if isinstance(step, Item):
            key += f"[{step.name}={json.dumps(step.value)}]"
        else:
            key += ("." if key else "") + dotted([step])
    return key


def names_of(key: str) -> tuple[str, ...]:
    """Return the names in a dotted key as TOML writes it."""
    if '"' not in key and "'" not in key:
        return tuple(name.strip(" \t") for name in key.split("."))
    names: list[str] = []
    value: object = tomllib.loads(f"{key} = 0")
    while isinstance(value, dict):
        ((name, value),) = value.items()
        names.append(name)
    return tuple(names)


def dotted(names: Iterable[str]) -> str:
    """Write a dotted key, with quotes where a name needs them."""
    return ".".join(name if _BARE_KEY.fullmatch(name) else literal(name) for name in names)


def literal(value: Json) -> str:
    """Write a value on one line; a dict becomes an inline table."""
    if value is None:
        raise EditError("TOML has no null")
    if isinstance(value, dict):
        pairs = ", ".join(f"{dotted([name])} = {literal(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    text = tomli_w.dumps({"k": value})[len("k = ") : -1]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EditError("TOML has no lone surrogates") from None
    return text


def table(names: tuple[str, ...], value: dict[str, Json], *, is_item: bool = False) -> str:
    """Write a table with its header, and its sub-tables with theirs; lines end in "\n".

    Args:
        is_item: it is an item of an array of tables.
    """
    key = dotted(names)
    lines = [f"[[{key}]]\n" if is_item else f"[{key}]\n"]
    lines += [
        f"{dotted([name])} = {literal(inner)}\n"
        for name, inner in value.items()
        if not isinstance(inner, dict)
    ]
    tables = ["\n" + table((*names, name), inner) for name, inner in value.items() if isinstance(inner, dict)]
    return "".join(lines + tables)


TomlPlace: TypeAlias = tuple[str | int, ...]
"""Where a value is in the parsed text: names of tables, and indices of array items."""

# Each character can be read in one way only, so that a failing match does not try others.
_KEY = re.compile(r"""(?:"[^"\\]*(?:\\.[^"\\]*)*"|'[^']*'|[A-Za-z0-9_-]+|[ \t]*\.[ \t]*)+""")
_STRING = re.compile(
    r'"""[^"\\]*(?:(?:\\[\s\S]|"(?!""))[^"\\]*)*"""(?:"{0,2})'
    r"|'''[^']*(?:'(?!'')[^']*)*'''(?:'{0,2})"
    r'|"[^"\\]*(?:\\.[^"\\]*)*"'
    r"|'[^']*'"
)
_BARE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:[^\s,\]}#]*)?|[^\s,\]}#]+")
_SPACE = re.compile(r"[ \t]*")
_COMMENT = re.compile(r"#[^\r\n]*")
_BLANK = re.compile(r"[ \t\r\n]+")
_PLACE = re.compile(r"(.*?) *\(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(eq=False)
class Pair:
    """A line `key = value`; from the start of its line to behind the line end."""

    place: TomlPlace
    names: tuple[str, ...]
    start: int
    node: Node
    end: int = 0


@dataclass(eq=False)
class Section:
    """A header and the pairs under it; the first section has none and holds the top-level pairs.

    `end` is behind the last line of the section that says something.
    """

    place: TomlPlace
    start: int
    end: int
    pairs: list[Pair] = field(default_factory=list)


def parse(text: str) -> dict[str, object]:
    """Return the value of a text by the standard library.

    Raises:
        EditError: it is not valid.
    """
    try:
        return tomllib.loads(text.removeprefix(BOM))
    except ValueError as error:
        raise _located(text, str(error)) from None


class Lexer:
    """Read the sections of a valid text, and where its comments are.

    Attributes:
        start: where the text begins, behind a byte order mark.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.start = self._position = len(BOM) if text.startswith(BOM) else 0
        self._last = 0
        self._counts: dict[TomlPlace, int] = {}
        self.comments: list[tuple[int, int]] = []
        self.sections = [Section((), self._position, self._position)]
        while self._position < len(text):
            self._line()

    def _line(self) -> None:
        start = self._position
        self._take(_SPACE)
        if self._at("["):
            self.sections.append(Section(self._header(), start, 0))
        elif not self._at("#", "\r", "\n") and self._position < len(self.text):
            self._pair(start)
        else:
            self._rest_of_line()
            return
        self._rest_of_line()
        section = self.sections[-1]
        section.end = self._position
        if section.pairs:
            section.pairs[-1].end = self._position

    def _rest_of_line(self) -> None:
        self._take(_SPACE)
        self._comment()
        stop = self.text.find("\n", self._position)
        self._position = len(self.text) if stop < 0 else stop + 1

    def _header(self) -> TomlPlace:
        is_array = self._at("[[")
        self._position += 2 if is_array else 1
        names = self._key()
        self._take(_SPACE)
        self._position += 2 if is_array else 1
        place: TomlPlace = ()
        for name in names[:-1]:
            place = self._entered((*place, name))
        place = (*place, names[-1])
        if not is_array:
            return place
        self._counts[place] = self._counts.get(place, 0) + 1
        return self._entered(place)

    def _entered(self, place: TomlPlace) -> TomlPlace:
        """Return the last item of an array of tables, or the table itself."""
        return (*place, self._counts[place] - 1) if place in self._counts else place

    def _pair(self, start: int) -> None:
        names = self._key()
        self._equals()
        section = self.sections[-1]
        section.pairs.append(Pair(section.place + names, names, start, self._value()))

    def _key(self) -> tuple[str, ...]:
        self._take(_SPACE)
        start = self._position
        self._take(_KEY)
        return names_of(self.text[start : self._position])

    def _equals(self) -> None:
        self._take(_SPACE)
        self._position += 1
        self._take(_SPACE)

    def _value(self) -> Node:
        if self._at("["):
            return self._container("array", "]")
        if self._at("{"):
            return self._container("object", "}")
        start = self._position
        self._take(_STRING if self._at('"', "'") else _BARE)
        self._last = self._position
        return Node("scalar", start, self._position)

    def _container(self, kind: str, closing: str) -> Node:
        node = Node(kind, self._position, 0)
        self._token()
        self._skip()
        while not self._at(closing):
            entry = Entry((), self._last, self._position, node)
            if kind == "object":
                entry.names = self._key()
                self._equals()
            entry.node = self._value()
            node.entries.append(entry)
            self._skip()
            if self._at(","):
                entry.comma = self._position
                self._token()
                self._skip()
        node.tail = self._last
        self._token()
        node.end = self._position
        return node

    def _skip(self) -> None:
        """Pass white space, line ends and comments inside brackets."""
        while self._take(_BLANK) or self._comment():
            pass

    def _comment(self) -> bool:
        start = self._position
        if not self._take(_COMMENT):
            return False
        self._last = self._position
        self.comments.append((start, self._position))
        return True

    def _token(self) -> None:
        self._position += 1
        self._last = self._position

    def _at(self, *starts: str) -> bool:
        return self.text.startswith(starts, self._position)

    def _take(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self._position)
        if match is None:
            return False
        self._position = match.end()
        return True


def _located(text: str, message: str) -> EditError:
    found = _PLACE.fullmatch(message)
    if found is None:
        return EditError(message)
    reason = found[1][:1].lower() + found[1][1:]
    if found[2]:
        return EditError(reason, line=int(found[2]), column=int(found[3]))
    return EditError.at(text, len(text), reason)
