"""A marked block of ours at the end of a YAML document whose top level is a list or a map.

The key is the block's id; its lines stand between `# >>> ID` and `# <<< ID`. A list becomes one
`- …` line for each item, a dict one `key: …` line for each member, each value in JSON, which is
YAML. What the file's shape does not take safely is refused. The block is ours when its lines are
the ones that we wrote; the lines of others are never read for meaning.

Pure: text in, text out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from thv_llm.edit.document import Editor, remembered
from thv_llm.edit.model import BOM, Change, EditError, Json, Missing, Path
from thv_llm.edit.splice import eol_of, splice, whole_lines
from thv_llm.edit.yaml_scan import Scan, Shape
from thv_llm.errors import shown

_ID = re.compile(r"[A-Za-z0-9_.-]+")
_MARK = re.compile(r"(?:^|(?<=\ufeff)) *# (?P<mark>>>>|<<<) (?P<id>[A-Za-z0-9_.-]+)[ \t]*\r?$", re.MULTILINE)
_PLAIN_KEY = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z_][A-Za-z0-9_-]*", re.IGNORECASE)
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


_scan = remembered(Scan)


def is_empty(text: str) -> bool:
    """Tell whether there is nothing in a text but white space."""
    return not text.removeprefix(BOM).strip()


def has_member(text: str, name: str) -> bool:
    """Tell whether the top level has a member of that name, or may have one by a merge key (`<<`)."""
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
        rest: dict[str, Json] = {name: value for name, value in self.model.items() if name != key}
        if key not in self._blocks:
            return self.text, rest
        return splice(self.text, [(*whole_lines(self.text, *self._blocks[key]), "")]), rest

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


EDITOR = Editor(remembered(YamlDocument), is_empty)
apply = EDITOR.apply
revert = EDITOR.revert
holds = EDITOR.holds
value = EDITOR.value
