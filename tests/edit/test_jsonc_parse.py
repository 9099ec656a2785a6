from __future__ import annotations

import pytest

from thv_llm.edit import Format
from thv_llm.edit.jsonc import MAX_DEPTH, Parsed
from thv_llm.edit.model import MISSING, EditError


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('{"a" 1}', 1, 6, "expected ':'"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "expected ',' or '}'"),
        ('\ufeff{"a": nope}', 1, 7, "expected a value"),
        ('{"a": "x\n"}', 1, 9, "no end on its line"),
        ('{"a": "\\q"}', 1, 8, "invalid escape"),
        ('{"a": "\\u12G4"}', 1, 8, "invalid escape"),
        ("{'a': 1}", 1, 2, "double quotes"),
        ("[1] 2", 1, 5, "end of the file"),
        ("[1", 1, 3, "found the end of the file"),
        ("[01]", 1, 3, "expected ',' or ']'"),
        ("[NaN]", 1, 2, "expected a value"),
        ("[\n1,\n]", 2, 2, "no trailing comma"),
        ("[1, /* x */ 2]", 1, 5, "no comments"),
        ("[,]", 1, 2, "expected a value"),
        ("[\u00a01]", 1, 2, "expected a value"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_place(
    text: str, line: int, column: int, reason: str
) -> None:
    with pytest.raises(EditError) as caught:
        Parsed(text, Format.JSON)

    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason


@pytest.mark.parametrize("text", ["[1 / 2]", "[1 /* x", "/", "[1,,]", "{,}", "# c\n{}"])
def test_no_dialect_takes_what_only_looks_like_a_comment_or_a_comma(text: str) -> None:
    with pytest.raises(EditError):
        Parsed(text, Format.JSONC_TRAILING)


def test_values_are_those_of_the_standard_library() -> None:
    text = '\ufeff// c\n{"a": [1, 2.5, "// no", null,], /* , */ "b": {"\\u0061": true,},}'

    assert Parsed(text, Format.JSONC_TRAILING).plain() == {"a": [1, 2.5, "// no", None], "b": {"a": True}}


@pytest.mark.parametrize("text", ["", " \n", "\ufeff"])
def test_a_blank_text_is_an_empty_document_in_every_dialect(text: str) -> None:
    assert Parsed(text, Format.JSON).plain() is MISSING


def test_a_number_too_long_for_python_is_no_obstacle() -> None:
    assert Parsed("9" * 5000, Format.JSON).plain() == float("inf")


def test_depth_has_a_limit_that_is_told() -> None:
    Parsed("[" * MAX_DEPTH + "]" * MAX_DEPTH, Format.JSON)

    with pytest.raises(EditError, match="nested too deeply"):
        Parsed("[" * 100_000, Format.JSON)


def test_a_long_unclosed_string_is_refused_quickly() -> None:
    with pytest.raises(EditError):
        Parsed('"' + "a\\n" * 100_000, Format.JSON)
