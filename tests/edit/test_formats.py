from __future__ import annotations

import pytest

from thv_llm.edit import Format, editor
from thv_llm.edit.model import MISSING

KEYS = {
    Format.JSON: "/a/b",
    Format.JSONC: "/a/b",
    Format.JSONC_TRAILING: "/a/b",
    Format.TOML: "a.b",
    Format.DOTENV: "AB",
    Format.YAML: "thv-llm",
}


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\r\n\r\n"])
def test_each_format_edits_an_empty_file_and_gives_it_back(format: Format, text: str) -> None:
    key = KEYS[format]
    new, changes = editor(format).apply(text, {key: ["x"] if format is Format.YAML else "x"})

    assert not editor(format).is_empty(new)
    assert editor(format).value(new, key) is not MISSING
    assert editor(format).value(text, key) is MISSING
    assert editor(format).revert(new, changes) == (text, ())
    assert editor(format).is_empty(text)


@pytest.mark.parametrize("format", [Format.JSON, Format.JSONC, Format.JSONC_TRAILING])
@pytest.mark.parametrize("text", ["{}", "[ ]\n", "\ufeff{\r\n}"])
def test_brackets_around_nothing_are_empty_in_json(format: Format, text: str) -> None:
    assert editor(format).is_empty(text)
    assert not editor(format).is_empty(text + "// note")
