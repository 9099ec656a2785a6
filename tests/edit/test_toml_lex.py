from __future__ import annotations

import tomllib

import pytest

from thv_llm.edit.model import EditError, Item, Json
from thv_llm.edit.toml_lex import Lexer, dotted, key_of, literal, names_of, parse, steps, table


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a", ("a",)),
        ("a.b-c.1", ("a", "b-c", "1")),
        ('a."b.c".\'d"\'', ("a", "b.c", 'd"')),
        ('""', ("",)),
        ("l[name=x.y/z]", ("l", Item("name", "x.y/z"))),
        ('a.l[id="]\\""].b', ("a", "l", Item("id", ']"'), "b")),
    ],
)
def test_a_key_is_read_in_steps_and_written_again(key: str, path: tuple[str | Item, ...]) -> None:
    assert steps(key) == path
    assert steps(key_of(path)) == path


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a b", "a[", "[n=x]", "a[n]", "é", "a.b\n"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(EditError):
        steps(key)


@pytest.mark.parametrize(
    "value",
    [
        "",
        'q"\\\n\x7fé\U0001f600',
        1,
        -1.5,
        True,
        [],
        {},
        ["a", [1]],
        {"a b": {"c": [{"d": 1}]}},
        [{}, {"x": False}],
    ],
)
def test_a_value_is_written_on_one_line_and_means_the_same(value: Json) -> None:
    text = literal(value)

    assert "\n" not in text
    assert tomllib.loads(f"v = {text}") == {"v": value}


@pytest.mark.parametrize("value", [None, [None], {"a": None}, "\ud800"])
def test_what_toml_cannot_say_is_refused(value: Json) -> None:
    with pytest.raises(EditError, match="TOML has no"):
        literal(value)


def test_a_table_is_written_with_headers_for_its_sub_tables() -> None:
    text = table(("p", "a.b"), {"sub": {"x": 1, "y": {}}, "k": "v"})

    assert text == '[p."a.b"]\nk = "v"\n\n[p."a.b".sub]\nx = 1\n\n[p."a.b".sub.y]\n'
    assert table(("p",), {"k": 1}, is_item=True) == "[[p]]\nk = 1\n"


def test_names_are_read_as_toml_writes_them() -> None:
    assert names_of("a . 'b.c'\t.\"\\u0064\"") == ("a", "b.c", "d")
    assert dotted(["a", "", "é"]) == 'a."".' + '"é"'


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
