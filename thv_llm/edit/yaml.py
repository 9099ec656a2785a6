"""A marked block of ours at the end of a YAML document whose top level is a list or a map.

The key is the block's id; its lines stand between `# >>> ID` and `# <<< ID`. A list becomes one
`- …` line for each item, a dict one `key: …` line for each member, each value in JSON, which is
YAML. What the file's shape does not take safely is refused. The block is ours when its lines are
the ones that we wrote; the lines of others are never read for meaning.

There is no YAML parser at run time, and we only append; so `Scan` reads just enough to know that
the end of the file is outside of everything. It follows quotes, brackets, blocks of text and
indentation, and refuses what it does not know. Refusing is always safe.

Pure: text in, text out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NoReturn

from thv_llm.edit.document import Editor, eol_of, remembered, splice, whole_lines
from thv_llm.edit.model import BOM, Change, EditError, Json, Missing, Path, drop
from thv_llm.errors import shown

_ODD = re.compile(
    r"\r(?!\n)|[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_DOCUMENT_MARK = re.compile(r"^(?:---|\.\.\.)(?=\s|\Z)|^%", re.MULTILINE)
_SPACES = re.compile(r" *")
_END = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\n]*)?\r?(?:\n|\Z)")
_PROPERTY = re.compile(r"[&!][^\s,\[\]{}]*")
_QUOTED = re.compile(r'"[^"\\]*(?:\\[\s\S][^"\\]*)*"' + r"|'[^']*(?:''[^']*)*'(?!')")
_TEXT_HEADER = re.compile(r"[|>][-+0-9]{0,2}")
_ALIAS = re.compile(r"\*[^\s,\[\]{}]+")
_PLAIN = re.compile(
    r"(?:[^\s\[\]{}?:,#&*!|>%@`\"'-]|[-?:](?=\S))(?:[^\s:#]|:(?!\s|\Z)|(?<!\s)#|[ \t]+(?=[^\s#]))*"
)
_FLOW_PLAIN = re.compile(
    r"(?:[^\s\[\]{}?:,#&*!|>%@`\"'-]|[-?](?=[^\s,\[\]{}]))"
    r"(?:[^\s\[\]{},:#]|:(?![\s,\[\]{}])|(?<!\s)#|[ \t]+(?=[^\s#]))*"
)
_IN_BRACKETS = (_QUOTED, _PROPERTY, _ALIAS, _FLOW_PLAIN)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([\s\S]))")
_ID = re.compile(r"[A-Za-z0-9_.-]+")
_MARK = re.compile(r"(?:^|(?<=\ufeff)) *# (?P<mark>>>>|<<<) (?P<id>[A-Za-z0-9_.-]+)[ \t]*\r?$", re.MULTILINE)
_PLAIN_KEY = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z_][A-Za-z0-9_-]*", re.IGNORECASE)
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Shape(Enum):
    """What the top level is."""

    EMPTY = "empty"
    LIST = "a list"
    MAP = "a map"


class Scan:
    """Read a text.

    Attributes:
        shape, indent: what the top level is, and how an entry of it begins.
        keys: the keys of a map at the top level, without their quotes.
        end: where the document ends: at its end mark (`...`), else at the end of the text.

    Raises:
        EditError: there is something that could reach beyond the end of the file, or that is not
            known here.
    """

    def __init__(self, text: str) -> None:
        self.shape = Shape.EMPTY
        self.indent: int | None = None
        self.keys: list[str] = []
        self.end = len(text)
        self._text = text
        self._position = self._line_start = len(BOM) if text.startswith(BOM) else 0
        self._deeper: int | None = None  # lines with more indentation than this are text
        self._in_block_text = False
        self._check_characters()
        while self._position < len(text):
            self._line()
        if self._in_block_text and not text.endswith("\n"):
            self._fail("the block of text at the end has no line end")

    def _check_characters(self) -> None:
        odd = _ODD.search(self._text, self._position)
        if odd is not None:
            self._position = odd.start()
            self._fail("a character that YAML does not take, or takes for a line end")

    def _line(self) -> None:
        self._line_start = self._position
        self._take(_SPACES)
        indent = self._position - self._line_start
        if self._ends_line():
            return
        if self._deeper is not None and indent > self._deeper:
            self._next_line()
            return
        self._deeper, self._in_block_text = None, False
        if self._at("#"):
            self._next_line()
        elif self._at("\t"):
            self._fail("a tab for indentation")
        elif indent == 0 and _DOCUMENT_MARK.match(self._text, self._position):
            self._document_mark()
        else:
            self._entry(indent)

    def _document_mark(self) -> None:
        mark = self._text[self._position : self._position + 3]
        if mark == "..." and not self._has_ended:
            self.end, self._has_ended = self._position, True
        elif mark == "---" and self.indent is None and not (self._has_begun or self._has_ended):
            self._has_begun = True
        else:
            self._fail("more than one document in the file")
        self._position += 3
        if not self._ends_line():
            self._fail(f"something after {mark!r}")

    _has_begun = _has_ended = False

    def _entry(self, indent: int) -> None:
        if self._has_ended:
            self._fail("more than one document in the file")
        if self.indent is None:
            self.indent = indent
        if indent < self.indent:
            self._fail("less indentation than at the top")
        at_top = indent == self.indent
        column = indent
        while self._at("- ", "-\n", "-\r\n") or self._is_last("-"):
            self._found(Shape.LIST, at_top)
            at_top = False
            self._position += 1
            self._take(_SPACES)
            if self._ends_line():
                return
            column = self._position - self._line_start
        start = self._position
        if self._key():
            if at_top:
                self.keys.append(_unquoted(self._text[start : self._position - 1].rstrip(" ")))
            self._found(Shape.MAP, at_top)
            self._take(_SPACES)
            if not self._ends_line():
                self._value(column)
        elif at_top:
            self._fail("the top level is neither a list nor a map in block style")
        else:
            self._value(indent if column > indent else indent - 1)

    def _found(self, shape: Shape, at_top: bool) -> None:
        if not at_top or self.shape is shape:
            return
        if self.shape is Shape.LIST:
            self._position = self._line_start + (self.indent or 0)
            self._fail("a key in a list")
        if self.shape is Shape.EMPTY:  # else a list under a key, with the key's indentation
            self.shape = shape

    def _key(self) -> bool:
        """Pass a key and its colon, if there is one."""
        start = self._position
        if self._take(_QUOTED) or self._take(_PLAIN):
            if "\n" not in self._text[start : self._position]:
                self._take(_SPACES)
                if self._at(": ", ":\n", ":\r\n") or self._is_last(":"):
                    self._position += 1
                    return True
            self._position = start
        return False

    def _value(self, parent: int) -> None:
        """Pass a value to the end of its last line; `parent` is the indentation of what it belongs to."""
        while self._take(_PROPERTY):
            self._take(_SPACES)
            if self._ends_line():
                return
        if self._take(_TEXT_HEADER):
            self._deeper, self._in_block_text = parent, True
        elif self._at("[", "{"):
            self._flow()
        elif not (self._take(_QUOTED) or self._take(_ALIAS)):
            if not self._take(_PLAIN):
                self._fail("a value that cannot be told")
            self._deeper = parent
        if not self._ends_line():
            self._fail("something after a value")

    def _flow(self) -> None:
        start = self._position
        closing: list[str] = []
        while True:
            if self._at("[", "{"):
                closing.append("]" if self._at("[") else "}")
                self._position += 1
            elif closing and self._at(closing[-1]):
                closing.pop()
                self._position += 1
                if not closing:
                    return
            elif self._at(",", ":"):
                self._position += 1
            elif not (self._ends_line() or any(map(self._take, _IN_BRACKETS))):
                odd = self._at("]", "}")
                self._fail("brackets that do not match" if odd else "a value that cannot be told")
            self._take(_SPACES)
            if self._position >= len(self._text):
                self._position = start
                self._fail("brackets that are not closed")

    def _ends_line(self) -> bool:
        """Pass blanks, a comment and the line end, if there is nothing else on the line."""
        before = self._text[self._position - 1 : self._position]
        if self._at("#") and before not in (" ", "\n", ""):
            return False
        return self._take(_END)

    def _next_line(self) -> None:
        stop = self._text.find("\n", self._position)
        self._position = len(self._text) if stop < 0 else stop + 1

    def _at(self, *starts: str) -> bool:
        return self._text.startswith(starts, self._position)

    def _is_last(self, character: str) -> bool:
        return self._position == len(self._text) - 1 and self._at(character)

    def _take(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._position)
        if found is None:
            return False
        self._position = found.end()
        return True

    def _fail(self, reason: str) -> NoReturn:
        raise EditError.at(self._text, self._position, reason)


def _unquoted(key: str) -> str:
    """Return a key's text; an escape that stands for a control character gives its letter."""
    if key.startswith("'"):
        return key[1:-1].replace("''", "'")
    if not key.startswith('"'):
        return key
    return _ESCAPE.sub(
        lambda found: found[4] or chr(min(int(found[1] or found[2] or found[3], 16), 0x10FFFF)), key[1:-1]
    )


_scan = remembered(Scan)


def has_member(text: str, name: str) -> bool:
    """Tell whether the top level has a member of that name, or can have one by a merge key (`<<`)."""
    return not {name, "<<"}.isdisjoint(_scan(text).keys)


class YamlDocument:
    """One YAML text and the marked blocks in it; see `document.Document`.

    A block's value is its text, without indentation: "- {…}\\n- {…}".
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._eol = eol_of(text)
        self._scan = _scan(text)
        self._blocks = _blocks(text)

    @property
    def model(self) -> dict[str, Json]:
        """The text of each block."""
        return {name: _inside(self.text[start:end]) for name, (start, end) in self._blocks.items()}

    def path(self, key: str) -> Path:
        """Return the one step of a block."""
        return (key,)

    def child(self, key: str, name: str) -> str:
        """Refuse: a block is whole."""
        raise EditError(f"{shown(key)} has no {shown(name)}")

    def raw(self, key: str) -> str:
        """Return the lines of a block."""
        return _inside(self.text[slice(*self._blocks[key])])

    def load(self, raw: str) -> Json:
        """Return a block's text as it is."""
        return raw

    def render(self, key: str, value: Json) -> str:
        """Write the lines of a block."""
        if not _ID.fullmatch(key):
            raise EditError(f"{shown(key)} is not the name of a block")
        if isinstance(value, list) and value:
            return "\n".join(f"- {_flow(item)}" for item in value)
        if isinstance(value, dict) and value:
            return "\n".join(f"{_key(name)}: {_flow(inner)}" for name, inner in value.items())
        raise EditError("a block takes a list or a map with something in it")

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:  # noqa: ARG002
        """Append a block; its value is its text."""
        _check_shape(self._scan, str(value))
        block = self._block(key, str(value))
        before, after = self.text[: self._scan.end], self.text[self._scan.end :]
        if not before.removeprefix(BOM) or before.endswith("\n"):
            return before + block + self._eol + after, {}
        return before + self._eol + block, {}

    def replace(self, key: str, raw: str) -> str:
        """Put other lines in a block."""
        start, end = self._blocks[key]
        _check_shape(_scan(self.remove(key, {})[0]), raw)
        return splice(self.text, [(start, end, self._block(key, raw).strip(" "))])

    def remove(self, key: str, extra: Mapping[str, str]) -> tuple[str, Json | Missing]:  # noqa: ARG002
        """Take a block out."""
        if key not in self._blocks:
            return self.text, self.model
        text = splice(self.text, [(*whole_lines(self.text, *self._blocks[key]), "")])
        return text, drop(self.model, (key,))

    def _block(self, key: str, lines: str) -> str:
        indent = " " * (self._scan.indent or 0)
        whole = [f"# >>> {key}", *lines.split("\n"), f"# <<< {key}"]
        return self._eol.join(indent + line for line in whole)


def _check_shape(around: Scan, lines: str) -> None:
    shape = Shape.LIST if lines.startswith("- ") else Shape.MAP
    if around.shape not in (Shape.EMPTY, shape):
        raise EditError(f"the top level is {around.shape.value}, not {shape.value}")


def _blocks(text: str) -> dict[str, tuple[int, int]]:
    """Return where each block is, from its first mark up to the end of its last."""
    blocks: dict[str, tuple[int, int]] = {}
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        fits = mark["mark"] == (">>>" if opened is None else "<<<")
        if not fits or (opened and opened["id"] != mark["id"]) or mark["id"] in blocks:
            raise EditError.at(text, mark.start(), f"the marks of {shown(mark['id'])} do not pair up")
        if opened is not None:
            blocks[mark["id"]] = opened.start("mark") - len("# "), mark.end("id")
        opened = mark if opened is None else None
    if opened is not None:
        raise EditError.at(text, opened.start(), f"the marks of {shown(opened['id'])} do not pair up")
    return blocks


def _inside(block: str) -> str:
    return "\n".join(line.strip(" \t\r") for line in block.split("\n")[1:-1])


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else _flow(name)


def _flow(value: Json) -> str:
    """Write a value in JSON as YAML 1.1 reads it, too."""
    if isinstance(value, float):
        raise EditError("a number with a fraction is not written alike in JSON and YAML")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    if _SURROGATE.search(text):
        raise EditError("YAML has no lone surrogates")
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


EDITOR = Editor(remembered(YamlDocument))
