"""The words of the table: what they promise to writers of entries."""

from __future__ import annotations

import dataclasses

import pytest

from thv_llm.secret import Secret
from thv_llm.tools.model import Text, Tool, Value, Values


def test_an_entry_cannot_be_changed() -> None:
    tool = Tool("x", "X", "2026-01-01")
    with pytest.raises(dataclasses.FrozenInstanceError):
        tool.id = "y"  # type: ignore[misc]


def test_a_text_is_its_parts() -> None:
    assert Text("Bearer ", Value.LOCAL_KEY).parts == ("Bearer ", Value.LOCAL_KEY)
    assert Text("a") == Text("a")


def test_each_value_says_what_it_stands_for() -> None:
    assert len({value.value for value in Value}) == len(Value)


def test_the_values_of_a_setup_do_not_print_the_local_key() -> None:
    assert "s3cret" not in repr(Values("https://g", 1, Secret("s3cret"), "/h"))
