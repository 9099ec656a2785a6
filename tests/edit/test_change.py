from __future__ import annotations

import json

import pytest

from thv_llm.edit.change import Change, EditError


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
