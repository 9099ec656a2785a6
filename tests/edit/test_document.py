"""The rules that hold for every format, seen through the JSON editor."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import pytest

from thv_llm.edit import Format, editor, jsonc
from thv_llm.edit.document import Editor, refuses_deep_nesting
from thv_llm.edit.model import Change, EditError, Json

EDITOR = editor(Format.JSON)


def test_a_value_that_was_there_before_us_stays_the_users() -> None:
    text = '{"a": 1, "env": {"B": "x"}}'

    assert EDITOR.apply(text, {"/a": 1, "/env": {"B": "x"}}) == (text, ())


def test_null_and_absent_come_back_as_what_they_were() -> None:
    for text in ('{"a": null}', "{}"):
        new, changes = EDITOR.apply(text, {"/a": 1})
        assert changes[0].before == ("null" if "null" in text else None)
        assert EDITOR.revert(new, changes) == (text, ())


def test_a_key_that_the_user_changed_is_left_alone_and_reported() -> None:
    new, changes = EDITOR.apply('{"a": 0, "b": 0}', {"/a": 1, "/b": 1})
    edited = new.replace('"a": 1', '"a": 2')

    assert EDITOR.holds(edited, changes) == ("/a",)
    assert EDITOR.revert(edited, changes) == ('{"a": 2, "b": 0}', ("/a",))


def test_a_key_that_the_user_put_back_by_hand_is_no_complaint() -> None:
    _, changes = EDITOR.apply('{"a": 0}', {"/a": 1, "/n": 1})

    assert EDITOR.revert('{"a":  0}', changes) == ('{"a":  0}', ())


def test_a_key_that_the_user_removed_is_reported_only_when_something_was_there_before() -> None:
    _, changes = EDITOR.apply('{"a": 0}', {"/a": 1, "/n": 1})

    assert EDITOR.revert("{}", changes) == ("{}", ("/a",))


def test_our_value_in_another_spelling_is_still_ours() -> None:
    _, changes = EDITOR.apply("{}", {"/a": {"b": "é", "c": [1]}})
    rewritten = '{"x":0,"a":{"c":[ 1 ],"b":"\\u00e9"}}'

    assert EDITOR.holds(rewritten, changes) == ()
    assert EDITOR.revert(rewritten, changes) == ('{"x":0}', ())


def test_members_that_a_program_adds_to_our_object_do_not_make_it_the_users() -> None:
    new, changes = EDITOR.apply("{}", {"/p/ours": {"a": 1}})
    rewritten = new.replace('"a": 1', '"a": 1, "id": 7')

    assert EDITOR.holds(rewritten, changes) == ()
    assert EDITOR.revert(rewritten, changes) == ("{}", ())


def test_an_object_of_the_users_gets_our_members_and_keeps_its_own() -> None:
    text = '{"p": {"a": "user", "z": 1}}'

    new, changes = EDITOR.apply(text, {"/p": {"a": "ours", "b": {"c": 1}}})

    assert EDITOR.value(new, "/p") == {"a": "ours", "z": 1, "b": {"c": 1}}
    assert EDITOR.revert(new, changes) == (text, ())


def test_an_error_has_its_place_in_the_users_text_not_in_our_draft() -> None:
    with pytest.raises(EditError) as caught:
        EDITOR.apply('{\n  "x": 1,\n  "env": 5\n}', {"/x": {"many": {"lines": 1}}, "/env/A": "1"})

    assert (caught.value.line, caught.value.column) == (3, 10)
    assert "'/env' is not an object" in caught.value.reason


def test_a_step_that_would_change_something_else_is_refused() -> None:
    class Careless(jsonc.JsonDocument):
        def insert(self, key: str, value: Json, earlier: Sequence[Change]) -> tuple[str, dict[str, str]]:
            text, extra = super().insert(key, value, earlier)
            return text.replace("precious", "gone"), extra

    editor = Editor(lambda text: Careless(text, Format.JSON), jsonc.is_empty)

    with pytest.raises(EditError, match="touching something else"):
        editor.apply('{"a": "precious"}', {"/b": 1})


def test_a_damaged_record_leaves_the_key_alone() -> None:
    new, changes = EDITOR.apply('{"a": 0}', {"/a": 1})
    damaged = [dataclasses.replace(changes[0], before="{")]

    assert EDITOR.revert(new, damaged) == (new, ("/a",))


def test_remove_takes_keys_out_of_any_origin() -> None:
    assert EDITOR.remove('{"a": 1, "b": 2}', ["/a", "/none"]) == '{ "b": 2}'


def test_too_deep_is_an_error_like_any_other() -> None:
    @refuses_deep_nesting
    def dive() -> None:
        dive()

    with pytest.raises(EditError, match="nested too deeply"):
        dive()


SMALL, TIMES = 1000, 8
LONG = "x" * 250
LARGE: dict[str, tuple[Format, Callable[[int], str], str]] = {
    "JSON in one line": (
        Format.JSON,
        lambda count: json.dumps({f"k{i}": {"a": [LONG]} for i in range(count)}),
        "/k",
    ),
    "JSON in lines": (Format.JSON, lambda count: json.dumps([{"a": LONG}] * count, indent=1), "/[name=k]"),
    "one object": (
        Format.JSONC,
        lambda count: json.dumps({"k": {f"{i}": {LONG: 1} for i in range(count)}}),
        "/k/x",
    ),
    "comments": (Format.JSONC_TRAILING, lambda count: "{" + f'"k": {{}}, // {LONG}\n' * count + "}", "/x"),
    "TOML": (Format.TOML, lambda count: "".join(f"[t{i}]\nk = '{LONG}'\n" for i in range(count)), "k"),
    "a map in YAML": (Format.YAML, lambda count: "".join(f"k{i}: {LONG * 4}\n" for i in range(count)), "k"),
    "a list in YAML": (
        Format.YAML,
        lambda count: "".join(f"- k{i}: {LONG * 4}\n" for i in range(count)),
        "k",
    ),
    "dotenv": (Format.DOTENV, lambda count: "".join(f"K{i}='{LONG}'\n" for i in range(count)), "K"),
}


@pytest.mark.parametrize("name", LARGE)
def test_eight_times_as_large_takes_about_eight_times_as_long(name: str) -> None:
    kind, text_of, key = LARGE[name]
    edit = editor(kind)

    def seconds(count: int) -> float:
        text = text_of(count)
        value: Json = "y" if kind in (Format.DOTENV, Format.TOML) else {"x": "y", "name": "k"}
        value = [value] if "list" in name else value
        begin = time.process_time()
        new, changes = edit.apply(text, {key: value})
        assert edit.revert(new, changes) == (text, ())
        return time.process_time() - begin

    small = min(seconds(SMALL + i) for i in range(3))
    assert min(seconds(SMALL * TIMES + i) for i in range(2)) < small * TIMES * 3
