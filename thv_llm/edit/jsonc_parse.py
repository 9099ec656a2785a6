"""JSON (RFC 8259), with or without comments and trailing commas: where everything stands.

The parser accepts what the dialect's owner accepts and nothing more; it keeps positions, not
values. Values come from the standard library's parser, which gets the text with comments and
trailing commas blanked out. What lies inside of a container that it takes as it is (strict JSON)
is read when somebody asks for it: an edit looks at few places of a large file.

Pure: text in, positions out.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import NoReturn

from thv_llm.edit.model import BOM, MISSING, EditError, Json, Missing
from thv_llm.edit.splice import Entry, Node

KINDS = {"{": ("object", "}"), "[": ("array", "]")}
MAX_DEPTH = 128  # levels; no settings file comes near it, and Python's own stack is far from its end

_BLANK = re.compile(r"[ \t\r\n]*")
_SKIPPED = frozenset(" \t\r\n/")
_LINE_COMMENT = re.compile(r"//[^\r\n]*")
_PLAIN_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\r\n]*:')
_STRING_BODY = re.compile(r'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Dialect(Enum):
    """What the program that owns a file takes."""

    STRICT = "json"
    COMMENTS = "jsonc"
    TRAILING = "jsonc-trailing"  # comments and trailing commas


class Parsed:
    """A JSON text with the positions of its parts.

    Args:
        root: the top value; None for a text of white space and comments only.
        lead: where the token (or comment, or byte order mark) before the root ends.
        comments: where each comment starts and ends.
        line_comments: where each `//` comment ends.
    """

    def __init__(self, text: str, dialect: Dialect) -> None:
        parser = _Parser(text, dialect)
        self.text = text
        self.root = parser.document()
        self.lead = parser.root_lead
        self.line_comments = frozenset(parser.line_comments)
        self.comments = parser.comments
        self._blanks = sorted(parser.comments + parser.trailing_commas)

    def plain(self) -> Json | Missing:
        """Return the value of the whole text, as the standard library reads it."""
        if self.root is None:
            return MISSING
        pieces = []
        position = len(BOM) if self.text.startswith(BOM) else 0
        for start, end in self._blanks:
            pieces += [self.text[position:start], " "]
            position = end
        text = "".join(pieces) + self.text[position:]
        try:
            value: Json = _STRICT.decode(text)
        except ValueError:
            value = json.loads(text, parse_int=_number, parse_constant=_no_constant)
        return value


class _Parser:
    """Recursive descent; `last` is where the last token or comment ended."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.position = self.last = len(BOM) if text.startswith(BOM) else 0
        self.root_lead = self.last
        self.line_comments: list[int] = []
        self.comments: list[tuple[int, int]] = []
        self.trailing_commas: list[tuple[int, int]] = []
        self.unread = self.entries_of

    def document(self) -> Node | None:
        self.skip()
        self.root_lead = self.last
        if self.position == len(self.text):
            return None
        root = self.value(0)
        self.skip()
        if self.position < len(self.text):
            self.fail("expected the end of the file")
        return root

    def skip(self) -> None:
        """Pass white space and comments."""
        while self.text[self.position : self.position + 1] in _SKIPPED:
            blank = _BLANK.match(self.text, self.position)
            assert blank is not None
            self.position = blank.end()
            if not self.text.startswith("/", self.position):
                return
            self.comment()

    def comment(self) -> None:
        start = self.position
        if not self.text.startswith(("//", "/*"), start):
            self.fail("expected a value")
        if self.dialect is Dialect.STRICT:
            self.fail("the program that owns this file takes no comments")
        line = _LINE_COMMENT.match(self.text, start)
        if line is not None:
            self.last = line.end()
            self.line_comments.append(self.last)
        else:
            stop = self.text.find("*/", start + 2)
            if stop < 0:
                self.fail("this comment has no end")
            self.last = stop + 2
        self.position = self.last
        self.comments.append((start, self.last))

    def value(self, depth: int) -> Node:
        character = self.text[self.position : self.position + 1]
        if character in KINDS:
            return (self.passed_over(depth) if depth else None) or self.container(depth)
        start = self.position
        if character == '"':
            self.string()
        else:
            scalar = _SCALAR.match(self.text, start)
            if scalar is None:
                self.fail("expected a value")
            self.take(scalar.end() - start)
        return Node("scalar", start, self.last)

    def passed_over(self, depth: int) -> Node | None:
        """Pass a container without a look at its entries, if it is strict JSON and not too deep."""
        start = self.position
        try:
            value, end = _STRICT.raw_decode(self.text, start)
        except (ValueError, RecursionError):
            return None
        brackets = self.text.count("{", start, end) + self.text.count("[", start, end)
        if depth + brackets > MAX_DEPTH and depth + _depth(value) > MAX_DEPTH:
            return None
        self.position = self.last = end
        tail = end - 1
        while self.text[tail - 1] in " \t\r\n":
            tail -= 1
        return Node(KINDS[self.text[start]][0], start, end, tail, self.unread)

    def entries_of(self, node: Node) -> list[Entry]:
        """Read the entries of a container that was passed over; how deep it is has been looked at."""
        self.position = self.last = node.start
        return self.container(0).entries

    def container(self, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            self.fail("nested too deeply")
        kind, closing = KINDS[self.text[self.position]]
        node = Node(kind, self.position, 0)
        self.take(1)
        while True:
            self.skip()
            if self.text.startswith(closing, self.position):
                return self.closed(node)
            if node.entries and node.entries[-1].comma is None:
                self.fail(f"expected ',' or '{closing}'")
            node.entries.append(self.entry(kind, depth))
            self.skip()
            if self.text.startswith(",", self.position):
                node.entries[-1].comma = self.position
                self.take(1)

    def closed(self, node: Node) -> Node:
        comma = node.entries[-1].comma if node.entries else None
        if comma is not None:
            if self.dialect is not Dialect.TRAILING:
                self.position = comma
                self.fail("the program that owns this file takes no trailing comma")
            self.trailing_commas.append((comma, comma + 1))
        node.tail = self.last
        self.take(1)
        node.end = self.last
        return node

    def entry(self, kind: str, depth: int) -> Entry:
        lead, start = self.last, self.position
        names: tuple[str, ...] = ()
        if kind == "object":
            plain = _PLAIN_NAME.match(self.text, start)
            names = (plain[1] if plain else self.name(),)
            if plain:
                self.take(plain.end() - start)
            self.skip()
        return Entry(names, lead, start, self.value(depth + 1))

    def name(self) -> str:
        """Pass a name and its colon; return the name."""
        start = self.position
        if not self.text.startswith('"', start):
            self.fail("expected a key in double quotes")
        self.string()
        name: str = json.loads(self.text[start : self.last])
        self.skip()
        if not self.text.startswith(":", self.position):
            self.fail("expected ':'")
        self.take(1)
        return name

    def string(self) -> None:
        body = _STRING_BODY.match(self.text, self.position + 1)
        assert body is not None
        if not self.text.startswith('"', body.end()):
            self.position = body.end()
            wrong = self.text[self.position : self.position + 1]
            self.fail("invalid escape" if wrong == "\\" else "this string has no end on its line")
        self.take(body.end() + 1 - self.position)

    def take(self, length: int) -> None:
        self.position += length
        self.last = self.position

    def fail(self, reason: str) -> NoReturn:
        if self.position >= len(self.text):
            reason += ", found the end of the file"
        raise EditError.at(self.text, self.position, reason)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # Python refuses integers of more than 4,300 digits
        return float(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


_STRICT = json.JSONDecoder(parse_constant=_no_constant)


def _depth(value: Json) -> int:
    """Return how many containers lie in one another."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
