"""Set and remove variables in a `.env` file, touching nothing else.

Lines are read as the `dotenv` package of npm reads them, which is what the tools use: an optional
`export`, values bare or in one of three quotes (then over several lines, too), comments after
` #`. What is not an assignment is passed over. Of several lines for one variable the last one
counts, so that is the one we change. A text in which a quote is not closed, or a value begins on
another line than its name, takes no value of ours: such a value reaches as far as the lines after it
let it. Undo goes on in such a text, as far as each step changes nothing else.

Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from thv_llm.edit.document import Editor, eol_of, remembered, splice, whole_lines
from thv_llm.edit.model import BOM, Change, EditError, Json, Missing, Path, drop, put
from thv_llm.errors import shown

_ASSIGNMENT = re.compile(
    r"""(?<![^\r\n\ufeff])\s*(?:export\s+)?(?P<name>[\w.-]+)(?P<sign>\s*=\s*?|:\s+?)
    (?P<value>\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`(?:\\`|[^`])*`|[^\#\r\n]+)?
    \s*(?:\#[^\r\n]*)?(?=[\r\n]|\Z)""",
    re.VERBOSE | re.ASCII,
)
# A quote behind a backslash belongs to the value; each character can be read in one way only.
_CLOSED = re.compile("|".join(rf"{q}[^{q}\\]*(?:\\(?:{q}|(?!{q}))[^{q}\\]*)*{q}" for q in "'\"`"))
_LONE_CR = re.compile(r"\r(?!\n)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*")


class DotenvDocument:
    """One parsed `.env` text; see `document.Document`."""

    def __init__(self, text: str) -> None:
        lone = _LONE_CR.search(text)
        if lone is not None:
            raise EditError.at(text, lone.start(), "a carriage return alone as a line end")
        self.text = text
        self._found = list(_ASSIGNMENT.finditer(text))
        self._eol = eol_of(text)

    @property
    def model(self) -> dict[str, Json]:
        """The variables and their values."""
        return {found["name"]: _value(found["value"] or "") for found in self._found}

    def path(self, key: str) -> Path:
        """Return the one step of a variable."""
        return (key,)

    def child(self, key: str, name: str) -> str:
        """Refuse: a variable has no members."""
        raise EditError(f"{shown(key)} has no {shown(name)}")

    def raw(self, key: str) -> str:
        """Return the text of the value that counts."""
        start, end = _span(self._last(key))
        return self.text[start:end]

    def load(self, raw: str) -> Json:
        """Return the value of a piece of text as it would stand after `=`."""
        return _value(raw)

    def render(self, key: str, value: Json) -> str:
        """Write a value so that every reader of such files, and a shell, takes it for the same."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise EditError(f"{shown(key)} takes a text only")
        _check(self.text + self._eol)  # here and not in `replace`, which undo needs, too
        text = str(value)
        if _BARE.fullmatch(text):
            return text
        if _PRINTABLE.fullmatch(text) and "'" not in text:
            return f"'{text}'"
        if _PRINTABLE.fullmatch(text) and not set(text) & set('"\\$`'):
            return f'"{text}"'
        raise EditError(f"the value of {shown(key)} cannot be quoted safely")

    def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:  # noqa: ARG002
        """Put a line at the end."""
        if not _NAME.fullmatch(key):
            raise EditError(f"{shown(key)} is not the name of a variable")
        line = f"{key}={self.render(key, value)}"
        if not self.text.removeprefix(BOM) or self.text.endswith("\n"):
            return self.text + line + self._eol, {}
        return self.text + self._eol + line, {}

    def replace(self, key: str, raw: str) -> str:
        """Put another value in the line that counts."""
        return splice(self.text, [(*_span(self._last(key)), raw)])

    def remove(self, key: str, extra: Mapping[str, str]) -> tuple[str, Json | Missing]:  # noqa: ARG002
        """Remove the line that counts; an earlier line can count then."""
        values = [_value(found["value"] or "") for found in self._found if found["name"] == key]
        if not values:
            return self.text, self.model
        rest = put(self.model, (key,), values[-2]) if len(values) > 1 else drop(self.model, (key,))
        found = self._last(key)
        start, end = whole_lines(self.text, found.start("name"), _span(found)[1])
        return splice(self.text, [(start, end, "")]), rest

    def _last(self, key: str) -> re.Match[str]:
        return next(found for found in reversed(self._found) if found["name"] == key)


def _check(text: str) -> None:
    """Refuse a text with a value that could take in lines that it does not own."""
    for found in _ASSIGNMENT.finditer(text):
        start, end = _span(found)
        if text.startswith(("'", '"', "`"), start) and not _CLOSED.match(text, start, end):
            raise EditError.at(text, start, "a quote that is not closed")
        if set("\r\n") & set(text[found.start("name") : start]):
            raise EditError.at(text, found.start("name"), "a name without a value on its line")


def _span(found: re.Match[str]) -> tuple[int, int]:
    """Return where the value of an assignment stands."""
    raw = found["value"] or ""
    if not raw.strip():
        return found.end("sign"), found.end("sign")
    return found.end("value") - len(raw.lstrip()), found.start("value") + len(raw.rstrip())


def _value(raw: str) -> str:
    text = raw.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"`":
        quote, text = text[0], text[1:-1]
        if quote == '"':
            text = text.replace("\\n", "\n").replace("\\r", "\r")
    return text


EDITOR = Editor(remembered(DotenvDocument))
