from __future__ import annotations

import pytest

from thv_llm.edit.model import EditError, Item
from thv_llm.edit.toml import Places
from thv_llm.edit.toml_lex import TomlPlace

TEXT = """\
top.dotted.a = 1
inline = { x = { y = 1 }, z.w = 2 }

[table]
k = 1

[[l]]
id = "x"
[l.sub]
n = 1
[[l]]
id = "y"

[super.sub]

[z]
"""


def test_a_value_is_found_however_it_is_written() -> None:
    places = Places(TEXT)

    there: list[TomlPlace] = [
        ("top", "dotted", "a"),
        ("inline", "x", "y"),
        ("inline", "z", "w"),
        ("l", 0, "sub", "n"),
    ]
    assert all(places.find(place) is not None for place in there)
    elsewhere: list[TomlPlace] = [("table",), ("super",), ("top", "dotted"), ("no",)]
    assert all(places.find(place) is None for place in elsewhere)


def test_the_forms_of_a_table_are_told_apart() -> None:
    places = Places(TEXT)

    assert places.holder(("inline", "x", "new")) is not None
    assert places.holder(("table", "new")) is None
    assert places.dotted_home(("top", "dotted", "new")) is not None
    assert places.dotted_home(("table", "new")) is None
    assert places.section(("table",)) is not None
    assert places.section(("super",)) is None


def test_items_have_indices_and_a_new_one_comes_last() -> None:
    places = Places(TEXT)

    assert places.place(("l", Item("id", "y"))) == ("l", 1)
    assert places.place(("l", Item("id", "z"))) == ("l", 2)
    assert places.last_relative(("l", 0, "new")).place == ("l", 0, "sub")
    assert places.last_relative(("l", 2)).place == ("l", 1)
    assert places.last_relative(("table", "new")).place == ("table",)
    assert places.last_relative(("super", "new")).place == ("z",)
    assert places.last_relative(("unheard", "of")).place == ("z",)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (("table", "k", "x"), "'table.k' is not a table"),
        (("l", "x"), "'l' is not a table"),
        (("table", Item("id", "x")), "'table' is not an array"),
        (("l", Item("id", "z"), "x"), "is not there"),
    ],
)
def test_a_way_through_something_else_is_refused(path: tuple[str | Item, ...], reason: str) -> None:
    with pytest.raises(EditError, match=reason):
        Places(TEXT).check_parents(path)


def test_two_items_of_one_name_are_refused() -> None:
    with pytest.raises(EditError, match="more than once"):
        Places('[[l]]\nid = "x"\n[[l]]\nid = "x"\n').place(("l", Item("id", "x")))
