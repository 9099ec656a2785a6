from __future__ import annotations

import pytest

from thv_llm.edit.change import EditError
from thv_llm.edit.toml_lex import Lexer, parse

TEXT = '''# top
a.b = 1 # c
s = """
[no]
x = 1 \\""""" # after
[[t]] # one
k = [ # ]
  "]", { y = 1979-05-27 07:32:00 },
]
[[t]]
[t.u."v.w"]
z = '''


def test_every_header_and_pair_has_its_place() -> None:
    lexer = Lexer(TEXT + "''")

    assert [section.place for section in lexer.sections] == [(), ("t", 0), ("t", 1), ("t", 1, "u", "v.w")]
    assert [[pair.place for pair in section.pairs] for section in lexer.sections] == [
        [("a", "b"), ("s",)],
        [("t", 0, "k")],
        [],
        [("t", 1, "u", "v.w", "z")],
    ]


def test_spans_are_exact() -> None:
    text = TEXT + "''"
    lexer = Lexer(text)
    pairs = [pair for section in lexer.sections for pair in section.pairs]

    values = [text[pair.node.start : pair.node.end] for pair in pairs]
    assert values[0] == "1"
    assert (values[1][:5], values[1][-6:]) == ('"""\n[', '\\"""""'[-6:])
    assert (values[2][:3], values[2][-1], values[3]) == ("[ #", "]", "''")
    assert text[pairs[0].start : pairs[0].end] == "a.b = 1 # c\n"
    entries = pairs[2].node.entries
    assert [text[entry.start : entry.node.end] for entry in entries] == ['"]"', "{ y = 1979-05-27 07:32:00 }"]
    assert [text[start:end] for start, end in lexer.comments] == ["# top", "# c", "# after", "# one", "# ]"]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = ", 1, 5),
        ("\ufeffa = 1\r\nb", 2, 2),
        ("a = 1\na = 2\n", 2, 6),
        ("[x", 1, 3),
        ("a = 1\rb = 2", 1, 6),
    ],
)
def test_what_does_not_parse_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(EditError) as caught:
        parse(text)

    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_number_too_long_for_python_is_refused() -> None:
    with pytest.raises(EditError):
        parse("a = " + "9" * 5000)
