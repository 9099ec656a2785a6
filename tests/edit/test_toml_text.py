from __future__ import annotations

import tomllib

import pytest

from thv_llm.edit.change import EditError, Json
from thv_llm.edit.model import Item
from thv_llm.edit.toml_text import dotted, key_of, literal, names_of, steps, table


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
