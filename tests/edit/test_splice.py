from __future__ import annotations

import pytest

from thv_llm.edit import Format
from thv_llm.edit.document import add_entry, eol_of, indent_at, remove_entry, splice, whole_lines
from thv_llm.edit.jsonc import Parsed


def test_splice_replaces_each_span_and_keeps_the_order_of_two_at_one_place() -> None:
    assert splice("abcdef", [(4, 5, "E"), (1, 1, "1"), (1, 1, "2"), (2, 4, "")]) == "a12bEf"


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "[1, // c\n]", '{"a": 1 /* c */\n}', "[1 // c\n]", "[ 1 , 2 , ]"]
)
def test_an_entry_that_was_put_in_goes_out_without_trace(text: str) -> None:
    root = Parsed(text, Format.JSONC_TRAILING).root
    assert root is not None
    body = "9" if text.startswith("[") else '"z": 9'

    longer = add_entry(text, root, body, lead="\n  ", close="\n" if not root.entries else "")
    parsed = Parsed(longer, Format.JSONC_TRAILING)
    assert parsed.root is not None
    back = remove_entry(
        longer, parsed.root, parsed.root.entries[-1], close="\n", line_comments=parsed.line_comments
    )

    assert back == text


def test_what_follows_an_entry_never_slips_into_a_comment() -> None:
    text = "[1, // c\n 2, 3]"
    parsed = Parsed(text, Format.JSONC)
    assert parsed.root is not None

    left = remove_entry(text, parsed.root, parsed.root.entries[1], line_comments=parsed.line_comments)

    assert left == "[1, // c\n  3]"


@pytest.mark.parametrize(
    ("text", "span", "lines"),
    [
        ("a\nbc\nd", (3, 4), (2, 5)),
        ("a\nbc", (3, 4), (1, 4)),
        ("a\r\nbc", (3, 4), (1, 5)),
        ("\ufeffbc\n", (2, 3), (1, 4)),
        ("bc", (0, 1), (0, 2)),
    ],
)
def test_whole_lines_take_the_line_end_that_came_with_them(
    text: str, span: tuple[int, int], lines: tuple[int, int]
) -> None:
    assert whole_lines(text, *span) == lines


def test_indentation_and_line_end_are_read_from_the_text() -> None:
    assert indent_at("a\n \tb", 4) == " \t"
    assert (eol_of("a\r\nb\n"), eol_of("a\nb\r\n"), eol_of("a\r"), eol_of("")) == ("\r\n", "\n", "\n", "\n")
