from __future__ import annotations

import json
import math

import pytest

from thv_llm.edit.model import MISSING, Change, EditError, Item, Json, contains, drop, lookup, put, same


@pytest.mark.parametrize("before", [None, "null", "", '"é\ud800"'])
def test_a_change_comes_back_from_a_state_file_as_it_was(before: str | None) -> None:
    change = Change("/a", before, "1", {"made": '["/"]'})

    assert Change.from_json(json.loads(json.dumps(change.to_json()))) == change


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"key": "/a", "before": None, "ours": None, "extra": {}},
        {"key": "/a", "before": 1, "ours": "1", "extra": {}},
        {"key": "/a", "before": None, "ours": "1", "extra": {"made": 1}},
        {"key": "/a", "before": None, "ours": "1"},
    ],
)
def test_data_of_another_shape_is_no_change(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the record"):
        Change.from_json(data)


@pytest.mark.parametrize(
    ("text", "position", "line", "column"),
    [("x", 0, 1, 1), ("ab\ncd", 4, 2, 2), ("\ufeffx", 1, 1, 1), ("\ufeff\r\nx", 3, 2, 1), ("", 0, 1, 1)],
)
def test_an_error_points_to_line_and_column_from_one(
    text: str, position: int, line: int, column: int
) -> None:
    error = EditError.at(text, position, "expected ':'")

    assert (error.line, error.column) == (line, column)
    assert str(error) == f"line {line}, column {column}: expected ':'"


def test_an_error_without_place_says_only_the_reason() -> None:
    assert str(EditError("nested too deeply")) == "nested too deeply"


MODEL: Json = {"a": {"b": 1}, "l": [{"id": "x", "v": 1}, 5, {"id": "y"}]}
X = Item("id", "x")


def test_lookup_walks_members_and_named_items() -> None:
    assert lookup(MODEL, ("a", "b")) == 1
    assert lookup(MODEL, ("l", X, "v")) == 1
    assert lookup(MODEL, ()) == MODEL


@pytest.mark.parametrize("path", [("z",), ("a", "b", "c"), ("l", Item("id", "z")), ("l", "0"), ("a", X)])
def test_lookup_tells_absent_from_null(path: tuple[str | Item, ...]) -> None:
    assert lookup(MODEL, path) is MISSING
    assert lookup({"a": None}, ("a",)) is None


def test_put_makes_what_is_missing_and_leaves_the_model_alone() -> None:
    before = repr(MODEL)

    assert put(MODEL, ("a", "c", "d"), 2) == {**MODEL, "a": {"b": 1, "c": {"d": 2}}}  # type: ignore[dict-item]
    assert put(MISSING, ("l", X, "v"), 2) == {"l": [{"id": "x", "v": 2}]}
    assert lookup(put(MODEL, ("l", X), {"id": "x"}), ("l",)) == [{"id": "x"}, 5, {"id": "y"}]
    assert repr(MODEL) == before


def test_drop_is_the_inverse_of_put() -> None:
    assert drop(put(MODEL, ("n",), 1), ("n",)) == MODEL
    assert lookup(drop(MODEL, ("l", X)), ("l",)) == [5, {"id": "y"}]
    assert drop(MODEL, ("a", "b")) == {**MODEL, "a": {}}  # type: ignore[dict-item]
    assert drop(MODEL, ("z", "z")) == MODEL
    assert drop(MODEL, ()) is MISSING


@pytest.mark.parametrize(
    ("left", "right"), [(True, 1), (0, False), (None, 0), ("1", 1), ([], {}), ({"a": 1}, {})]
)
def test_values_of_other_kinds_are_not_the_same(left: Json, right: Json) -> None:
    assert not same(left, right)
    assert not contains(left, right) or right == {}


def test_nan_is_the_same_as_nan() -> None:
    assert same([math.nan], [math.nan])


def test_an_object_of_ours_may_have_got_members_of_others_at_any_depth() -> None:
    assert contains({"a": [{"b": 1, "theirs": 2}], "c": 3}, {"a": [{"b": 1}]})
    assert not contains({"a": [{"b": 1}, 2]}, {"a": [{"b": 1}]})
    assert not contains({"a": [{"theirs": 1}]}, {"a": [{"b": 1}]})
