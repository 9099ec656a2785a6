from __future__ import annotations

import random

import pytest
import yaml

from tests.edit import generate
from thv_llm.edit import Format
from thv_llm.edit import yaml as yaml_block
from thv_llm.edit.model import EditError, Json

MODELS: list[Json] = [
    {"model_id": "thv-m", "api_base": "http://127.0.0.1:1/v1", "headers": {"Authorization": "Bearer k"}},
    {"model_id": "é\U0001f600\u2028\x85\ufeff", "n": [None, True, -1, "yes", "1e3", ""]},
]
KEYS: dict[str, Json] = {
    "openai-api-base": "http://127.0.0.1:1/v1",
    "yes": "no",
    "7": {"a b": []},
    "null": None,
}


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("", ["x"], '# >>> thv-llm\n- "x"\n# <<< thv-llm\n'),
        ("- a: 1\n", ["x"], '- a: 1\n# >>> thv-llm\n- "x"\n# <<< thv-llm\n'),
        ("- a: 1", ["x"], '- a: 1\n# >>> thv-llm\n- "x"\n# <<< thv-llm'),
        ("  - a\r\n", ["x"], '  - a\r\n  # >>> thv-llm\r\n  - "x"\r\n  # <<< thv-llm\r\n'),
        ("a: 1\n", {"b-c": 2}, "a: 1\n# >>> thv-llm\nb-c: 2\n# <<< thv-llm\n"),
        ("a: 1\n...\n", {"b": 2}, "a: 1\n# >>> thv-llm\nb: 2\n# <<< thv-llm\n...\n"),
        ("---\n...", {"b": 2}, "---\n# >>> thv-llm\nb: 2\n# <<< thv-llm\n..."),
    ],
)
def test_a_block_goes_to_the_end_between_marks(before: str, value: Json, after: str) -> None:
    new, changes = yaml_block.EDITOR.apply(before, {"thv-llm": value})

    assert new == after
    assert yaml_block.EDITOR.revert(new, changes) == (before, ())


@pytest.mark.parametrize("value", [MODELS, KEYS])
def test_what_we_write_is_what_a_yaml_parser_reads(value: Json) -> None:
    new, _ = yaml_block.EDITOR.apply("", {"thv-llm": value})

    assert yaml.safe_load(new) == value


def test_every_file_that_is_taken_means_the_same_with_the_block_added() -> None:
    taken = 0
    for seed in range(400):
        rng = random.Random(seed)
        text = generate.text(Format.YAML, rng)
        try:
            before = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        for value in (MODELS, KEYS):
            try:
                new, _ = yaml_block.EDITOR.apply(text, {"thv-llm": value})
            except EditError:
                continue
            taken += 1
            if isinstance(value, list):
                assert yaml.safe_load(new) == [*(before or []), *value]
            else:
                assert yaml.safe_load(new) == {**(before or {}), **value}
    assert taken > 200


def test_a_block_that_the_user_edited_is_left_alone_and_reported() -> None:
    new, changes = yaml_block.EDITOR.apply("", {"thv-llm": {"a": 1}})
    edited = new.replace("a: 1\n", "a: 1\nb: 2\n")

    assert yaml_block.EDITOR.holds(edited, changes) == ("thv-llm",)
    assert yaml_block.EDITOR.revert(edited, changes) == (edited, ("thv-llm",))


def test_the_users_indentation_and_line_ends_do_not_make_a_block_theirs() -> None:
    new, changes = yaml_block.EDITOR.apply("- a\n", {"thv-llm": ["x"]})
    moved = new.replace("- ", "  - ").replace("\n", "\r\n")

    assert yaml_block.EDITOR.revert(moved, changes) == ("  - a\r\n", ())


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("a: 1\n", ["x"], "the top level is a map, not a list"),
        ("- a\n", {"b": 1}, "the top level is a list, not a map"),
        ("[]\n", ["x"], "neither a list nor a map in block style"),
        ("# >>> thv-llm\n- a\n", ["x"], "do not pair up"),
        ("# <<< thv-llm\n", ["x"], "do not pair up"),
        ("# >>> thv-llm\n# >>> thv-llm\n", ["x"], "do not pair up"),
        ("# >>> thv-llm\n# >>> x\n# <<< x\n# <<< thv-llm\n", ["x"], "do not pair up"),
        ("", [], "something in it"),
        ("", "x", "a list or a map"),
        ("", [1.5], "fraction"),
        ("", ["\ud800"], "surrogates"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_the_reason(text: str, value: Json, reason: str) -> None:
    with pytest.raises(EditError) as caught:
        yaml_block.EDITOR.apply(text, {"thv-llm": value})

    assert reason in caught.value.reason


@pytest.mark.parametrize("name", ["", "a b", "x\n- y"])
def test_a_name_that_would_break_the_marks_is_refused(name: str) -> None:
    with pytest.raises(EditError, match="not the name of a block"):
        yaml_block.EDITOR.apply("", {name: ["x"]})
