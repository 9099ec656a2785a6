"""Set and remove members of JSON settings (RFC 8259, perhaps with comments), touching nothing else.

Keys are JSON pointers (RFC 6901). A segment `[name=value]` stands for the item of an array whose
member `name` is the string `value`: "/models/[id=thv-llm]", "/[name=thv-llm]" for a top-level
array; a member that is itself named like that cannot be addressed. Missing containers on the way
are made, and go again with the last thing in them. A text of nothing but white space and comments
counts as an empty document.

The parser accepts what the format's owner accepts and nothing more; it keeps positions, not
values. Values come from the standard library's parser, which gets the text with comments and
trailing commas blanked out. What lies inside of a container that it takes as it is (strict JSON)
is read on demand: an edit looks at few places of a large file.

What `Change.extra` holds here: `made`, the pointers of the containers that we made; `close`, the
white space we put before the closing bracket of the container `at`, which had been empty; `blank`,
the white space a whole document took the place of.

Pure: text in, text out.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

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
)
from thv_llm.edit.model import BOM, MISSING, Change, EditError, Format, Item, Json, Missing, Path, Step, drop
from thv_llm.errors import shown

KINDS = {"{": ("object", "}"), "[": ("array", "]")}
MAX_DEPTH = 128  # levels; no settings file comes near it, and Python's own stack is far from its end

_BLANK = re.compile(r"[ \t\r\n]*")
_SKIPPED = frozenset(" \t\r\n/")
_LINE_COMMENT = re.compile(r"//[^\r\n]*")
_PLAIN_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\r\n]*:')
_STRING_BODY = re.compile(r'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
LOOKED_AT = 1000
"""How many entries show a file's style; a large file of one line would show none in all of it."""

_ITEM = re.compile(r"\[([^=\]]+)=(.*)\]", re.DOTALL)
_NOTHING = re.compile(r"\s*(?:\{\s*\}|\[\s*\])?\s*")


class Parsed:
    """A JSON text with the positions of its parts, by recursive descent.

    Attributes:
        root: the top value; None for a text of white space and comments only.
        lead: where the token (or comment, or byte order mark) before the root ends.
        comments: where each comment starts and ends.
        line_comments: where each `//` comment ends.
    """

    def __init__(self, text: str, format: Format) -> None:
        self.text = text
        self._format = format
        self._position = len(BOM) if text.startswith(BOM) else 0
        self._last = self._position  # where the last token or comment ended
        self.line_comments: set[int] = set()
        self.comments: list[tuple[int, int]] = []
        self._trailing_commas: list[tuple[int, int]] = []
        self._skip()
        self.lead = self._last
        self.root: Node | None = None
        if self._position < len(text):
            self.root = self._value(0)
            self._skip()
        if self._position < len(text):
            self._fail("expected the end of the file")

    def plain(self) -> Json | Missing:
        """Return the value of the whole text, as the standard library reads it."""
        if self.root is None:
            return MISSING
        blanked = splice(self.text, [(*span, " ") for span in (*self.comments, *self._trailing_commas)])
        text = blanked.removeprefix(BOM)
        try:
            value: Json = _STRICT.decode(text)
        except ValueError:
            value = json.loads(text, parse_int=_number, parse_constant=_no_constant)
        return value

    def _skip(self) -> None:
        """Pass white space and comments."""
        while self.text[self._position : self._position + 1] in _SKIPPED:
            blank = _BLANK.match(self.text, self._position)
            assert blank is not None
            self._position = blank.end()
            if not self.text.startswith("/", self._position):
                return
            self._comment()

    def _comment(self) -> None:
        start = self._position
        if not self.text.startswith(("//", "/*"), start):
            self._fail("expected a value")
        if self._format is Format.JSON:
            self._fail("the program that owns this file takes no comments")
        line = _LINE_COMMENT.match(self.text, start)
        if line is not None:
            self._last = line.end()
            self.line_comments.add(self._last)
        else:
            stop = self.text.find("*/", start + 2)
            if stop < 0:
                self._fail("this comment has no end")
            self._last = stop + 2
        self._position = self._last
        self.comments.append((start, self._last))

    def _value(self, depth: int) -> Node:
        character = self.text[self._position : self._position + 1]
        if character in KINDS:
            return (self._passed_over(depth) if depth else None) or self._container(depth)
        start = self._position
        if character == '"':
            self._string()
        else:
            scalar = _SCALAR.match(self.text, start)
            if scalar is None:
                self._fail("expected a value")
            self._take(scalar.end() - start)
        return Node("scalar", start, self._last)

    def _passed_over(self, depth: int) -> Node | None:
        """Pass a container without a look at its entries, if it is strict JSON and not too deep."""
        start = self._position
        try:
            value, end = _STRICT.raw_decode(self.text, start)
        except (ValueError, RecursionError):
            return None
        brackets = self.text.count("{", start, end) + self.text.count("[", start, end)
        if depth + brackets > MAX_DEPTH and depth + _depth(value) > MAX_DEPTH:
            return None
        self._position = self._last = end
        tail = end - 1
        while self.text[tail - 1] in " \t\r\n":
            tail -= 1
        return Node(KINDS[self.text[start]][0], start, end, tail, self._entries_of)

    def _entries_of(self, node: Node) -> list[Entry]:
        """Read the entries of a container that was passed over; how deep it is has been looked at."""
        self._position = self._last = node.start
        return self._container(0).entries

    def _container(self, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            self._fail("nested too deeply")
        kind, closing = KINDS[self.text[self._position]]
        node = Node(kind, self._position, 0)
        self._take(1)
        while True:
            self._skip()
            if self.text.startswith(closing, self._position):
                return self._closed(node)
            if node.entries and node.entries[-1].comma is None:
                self._fail(f"expected ',' or '{closing}'")
            node.entries.append(self._entry(kind, depth))
            self._skip()
            if self.text.startswith(",", self._position):
                node.entries[-1].comma = self._position
                self._take(1)

    def _closed(self, node: Node) -> Node:
        comma = node.entries[-1].comma if node.entries else None
        if comma is not None:
            if self._format is not Format.JSONC_TRAILING:
                self._position = comma
                self._fail("the program that owns this file takes no trailing comma")
            self._trailing_commas.append((comma, comma + 1))
        node.tail = self._last
        self._take(1)
        node.end = self._last
        return node

    def _entry(self, kind: str, depth: int) -> Entry:
        lead, start = self._last, self._position
        names: tuple[str, ...] = ()
        if kind == "object":
            plain = _PLAIN_NAME.match(self.text, start)
            names = (plain[1] if plain else self._name(),)
            if plain:
                self._take(plain.end() - start)
            self._skip()
        return Entry(names, lead, start, self._value(depth + 1))

    def _name(self) -> str:
        """Pass a name and its colon; return the name."""
        start = self._position
        if not self.text.startswith('"', start):
            self._fail("expected a key in double quotes")
        self._string()
        name: str = json.loads(self.text[start : self._last])
        self._skip()
        if not self.text.startswith(":", self._position):
            self._fail("expected ':'")
        self._take(1)
        return name

    def _string(self) -> None:
        body = _STRING_BODY.match(self.text, self._position + 1)
        assert body is not None
        if not self.text.startswith('"', body.end()):
            self._position = body.end()
            wrong = self.text[self._position : self._position + 1]
            self._fail("invalid escape" if wrong == "\\" else "this string has no end on its line")
        self._take(body.end() + 1 - self._position)

    def _take(self, length: int) -> None:
        self._position += length
        self._last = self._position

    def _fail(self, reason: str) -> NoReturn:
        if self._position >= len(self.text):
            reason += ", found the end of the file"
        raise EditError.at(self.text, self._position, reason)


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


def pointer(*steps: str | Item) -> str:
    """Write a key from its steps: pointer("models", Item("id", "a/b")) is "/models/[id=a~1b]"."""
    names = [f"[{step.name}={step.value}]" if isinstance(step, Item) else step for step in steps]
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def steps(key: str) -> Path:
    """Read the steps of a key."""
    if key and not key.startswith("/"):
        raise EditError(f"{shown(key)} is not a JSON pointer")
    return tuple(_step(segment) for segment in key.split("/")[1:])


def is_empty(text: str) -> bool:
    """Tell whether there is nothing in a text but white space and one pair of brackets."""
    return _NOTHING.fullmatch(text.removeprefix(BOM)) is not None


class JsonDocument:
    """One parsed JSON text; see `document.Document`."""

    def __init__(self, text: str, format: Format) -> None:
        self.text = text
        self._format = format
        self._parsed = Parsed(text, format)
        self._eol = eol_of(text)

    @functools.cached_property
    def model(self) -> Json | Missing:
        """The plain value of the whole text."""
        return self._parsed.plain()

    def path(self, key: str) -> Path:
        """Return the steps of a pointer."""
        return steps(key)

    def child(self, key: str, name: str) -> str:
        """Return the pointer of a member."""
        return key + pointer(name)

    def raw(self, key: str) -> str:
        """Return the text of the value at a pointer."""
        node = self._trail(key)[-1].node
        return self.text[node.start : node.end]

    def load(self, raw: str) -> Json:
        """Return the value of a piece of JSON."""
        value = Parsed(raw, self._format).plain()
        if isinstance(value, Missing):
            raise EditError("the record of this change is damaged")
        return value

    def render(self, key: str, value: Json) -> str:
        """Write a value with the indentation that it has, or would have, at a pointer."""
        trail = self._trail(key)
        depth = len(steps(key))
        if len(trail) == depth + 1:
            return self._dump(value, indent_at(self.text, trail[-1].start), lines=self._has_lines)
        return self._dump(value, self._unit * depth, lines=self._has_lines)

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:
        """Put in a member or an item, and the containers that it needs."""
        path = steps(key)
        trail = self._trail(key)
        extra = _inherited(key, earlier)
        made = [_prefix(key, count) for count in range(len(trail), len(path))]
        if made:
            extra["made"] = json.dumps([*json.loads(extra.get("made", "[]")), *made])
        if not trail:
            extra["blank"] = self.text[self._parsed.lead :]
            return self._with_root(_nested(path, value)), extra
        there = len(trail) - 1
        node, at, step = trail[-1].node, _prefix(key, there), path[there]
        self._check_kind(node, step, at)
        lead, indent, close = self._spot(node)
        if close:
            extra |= {"at": at, "close": close}
        body = self._dump(_nested(path[there + 1 :], value, step), indent, lines="\n" in lead)
        if isinstance(step, str):
            body = _dumps(step) + self._colon + body
        return add_entry(self.text, node, body, lead=lead, close=close), extra

    def replace(self, key: str, raw: str) -> str:
        """Put another value in the place of the one at a pointer."""
        node = self._trail(key)[-1].node
        return splice(self.text, [(node.start, node.end, raw)])

    def remove(self, key: str, extra: Mapping[str, str]) -> tuple[str, Json | Missing]:
        """Take out a member or an item, and the containers of ours that hold nothing else."""
        path = steps(key)
        made = json.loads(extra.get("made", "[]"))
        trail = self._trail(key)
        if len(trail) <= len(path):  # the user removed it: only a container of ours can be left
            step = path[len(trail) - 2] if len(trail) > 1 else None
            at = _prefix(key, len(trail) - 1)
            if not trail or at not in made or not self._holds_only(trail[-1].node, None, step):
                return self.text, self.model
        while len(trail) > 1 and _prefix(key, len(trail) - 2) in made:
            step = path[len(trail) - 3] if len(trail) > 2 else None
            if not self._holds_only(trail[-2].node, trail[-1], step):
                break
            trail.pop()
        if len(trail) == 1:
            return self._without_root(extra.get("blank", "")), MISSING
        at = _prefix(key, len(trail) - 2)
        text = remove_entry(
            self.text,
            trail[-2].node,
            trail[-1],
            close=extra.get("close", "") if extra.get("at") == at else "",
            line_comments=self._parsed.line_comments,
        )
        return text, drop(self.model, path[: len(trail) - 1])

    def _trail(self, key: str) -> list[Entry]:
        """Return the entries on the way to a key, the whole document first, as far as they are there."""
        root = self._parsed.root
        if root is None:
            return []
        trail = [Entry((), self._parsed.lead, root.start, root)]
        for step in steps(key):
            found = [entry for entry in trail[-1].node.entries if self._is(entry, step)]
            if len(found) > 1:
                raise EditError.at(self.text, found[1].start, f"{shown(key)} is there more than once")
            if not found or trail[-1].node.kind != _kind(step):
                break
            trail += found
        return trail

    def _is(self, entry: Entry, step: Step) -> bool:
        if isinstance(step, str):
            return entry.names == (step,)
        return any(
            inner.names == (step.name,) and self._string(inner.node) == step.value
            for inner in entry.node.entries
        )

    def _string(self, node: Node) -> str | None:
        raw = self.text[node.start : node.end]
        return json.loads(raw) if raw.startswith('"') else None

    def _check_kind(self, node: Node, step: Step, at: str) -> None:
        if node.kind != _kind(step):
            name = shown(at) if at else "the top level"
            raise EditError.at(self.text, node.start, f"{name} is not an {_kind(step)}")

    def _holds_only(self, node: Node, entry: Entry | None, step: Step | None) -> bool:
        """Tell whether a container of ours, reached by `step`, has nothing in it but an entry."""
        marks = (step.name,) if isinstance(step, Item) else None
        if any(other is not entry and other.names != marks for other in node.entries):
            return False
        inside = (entry.start, entry.node.end) if entry else (node.start, node.start)
        return not any(
            node.start < start < node.end and not inside[0] <= start < inside[1]
            for start, _ in self._parsed.comments
        )

    def _with_root(self, value: Json) -> str:
        head = self.text[: self._parsed.lead]
        if self._parsed.comments:
            head += self._eol
        return head + self._dump(value, "", lines=True) + self._eol

    def _without_root(self, blank: str) -> str:
        root = self._parsed.root
        assert root is not None
        if self.text[root.end :].strip():
            return self.text[: root.start] + self.text[root.end :]
        return self.text[: self._parsed.lead] + blank

    def _spot(self, node: Node) -> tuple[str, str, str]:
        """Return what goes with an entry at a container's end: lead, indentation, white space after."""
        if not node.entries:
            if not self._has_lines and node is not self._parsed.root:
                return "", "", ""
            base = indent_at(self.text, node.start)
            close = "" if "\n" in self.text[node.tail : node.end] else self._eol + base
            return self._eol + base + self._unit, base + self._unit, close
        last = node.entries[-1]
        before = node.entries[-2].comma if len(node.entries) > 1 else node.start
        indent = indent_at(self.text, last.start)
        if "\n" in self.text[before : last.start] or node.tail in self._parsed.line_comments:
            return self._eol + indent, indent, ""
        if len(node.entries) > 1:
            return self.text[last.lead : last.start], indent, ""
        return self._colon[1:], indent, ""

    def _dump(self, value: Json, indent: str, *, lines: bool) -> str:
        if not lines:
            return _dumps(value, separators=("," + self._colon[1:], self._colon))
        return _dumps(value, indent=self._unit, separators=(",", self._colon)).replace(
            "\n", self._eol + indent
        )

    @functools.cached_property
    def _has_lines(self) -> bool:
        """Whether the document is laid out in lines, or could be."""
        root = self._parsed.root
        return root is None or not root.entries or "\n" in self.text[root.start : root.end]

    @functools.cached_property
    def _unit(self) -> str:
        """The white space of one level: what an entry has more than the line of its container."""
        root = self._parsed.root
        for node, entry in itertools.islice(root.walk(), LOOKED_AT) if root else ():
            if "\n" not in self.text[entry.lead : entry.start]:
                continue
            own, base = indent_at(self.text, entry.start), indent_at(self.text, node.start)
            starts_line = self.text.endswith("\n" + own, 0, entry.start)
            if starts_line and own != base and own.startswith(base):
                return own[len(base) :]
        return "  "

    @functools.cached_property
    def _colon(self) -> str:
        """The colon after a key, with a space unless the text is written without."""
        root = self._parsed.root
        for _, entry in itertools.islice(root.walk(), LOOKED_AT) if root else ():
            if entry.names:
                return ":" if self.text[entry.start : entry.node.start].endswith('":') else ": "
        return ": "


def _step(segment: str) -> Step:
    name = segment.replace("~1", "/").replace("~0", "~")
    item = _ITEM.fullmatch(name)
    return Item(item[1], item[2]) if item else name


def _kind(step: Step) -> str:
    return "object" if isinstance(step, str) else "array"


def _prefix(key: str, count: int) -> str:
    """Return the pointer of the first `count` steps of a key."""
    return "/".join(key.split("/")[: count + 1])


def _nested(path: Path, value: Json, holder: Step | None = None) -> Json:
    """Return a value inside the containers that a path asks for; `holder` is the step before it."""
    if path and isinstance(path[0], str):
        value = {path[0]: _nested(path[1:], value, path[0])}
        return {holder.name: holder.value, **value} if isinstance(holder, Item) else value
    if path:
        return [_nested(path[1:], value, path[0])]
    if isinstance(holder, Item) and not holder.fits(value):
        raise EditError(f"an item found by {shown(holder.name)} needs that member")
    return value


def _inherited(key: str, earlier: Sequence[Change]) -> dict[str, str]:
    """Return what earlier changes say of the containers on the way to a key."""
    above = {_prefix(key, count) for count in range(len(steps(key)))}
    extra: dict[str, str] = {}
    made: dict[str, None] = {}
    for change in earlier:
        pointers = [name for name in json.loads(change.extra.get("made", "[]")) if name in above]
        made |= dict.fromkeys(pointers)
        if change.extra.get("at") in above:
            extra |= {name: change.extra[name] for name in ("at", "close")}
        if "" in pointers and "blank" in change.extra:
            extra["blank"] = change.extra["blank"]
    if made:
        extra["made"] = json.dumps(list(made))
    return extra


def _dumps(value: Json, *, indent: str | None = None, separators: tuple[str, str] | None = None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        return json.dumps(value, indent=indent, separators=separators)
    except ValueError:
        raise EditError("JSON has no words for this number") from None
    return text


def editor(format: Format) -> Editor:
    """Return the editor for files whose owner takes JSON like this."""
    return Editor(remembered(functools.partial(JsonDocument, format=format)), is_empty)
