from __future__ import annotations

import json

import pytest

from thv_llm.edit import Format, editor, jsonc
from thv_llm.edit.model import EditError, Item, Json

CASES = {
    "an empty file": ("", '{\n  "k": "v"\n}\n'),
    "a blank file": ("\n\n", '{\n  "k": "v"\n}\n'),
    "an empty object": ("{}", '{\n  "k": "v"\n}'),
    "an empty object over two lines": ("{\n}\n", '{\n  "k": "v"\n}\n'),
    "one line": ('{"a": 1}\n', '{"a": 1, "k": "v"}\n'),
    "one line without spaces": ('{"a":1}', '{"a":1,"k":"v"}'),
    "four spaces": ('{\n    "a": 1\n}', '{\n    "a": 1,\n    "k": "v"\n}'),
    "tabs": ('{\n\t"a": 1\n}', '{\n\t"a": 1,\n\t"k": "v"\n}'),
    "CRLF and a byte order mark": (
        '\ufeff{\r\n "a": 1\r\n}\r\n',
        '\ufeff{\r\n "a": 1,\r\n "k": "v"\r\n}\r\n',
    ),
    "no final line end": ('{\n  "a": 1}', '{\n  "a": 1,\n  "k": "v"}'),
}
COMMENT_CASES = {
    "a comment after the last value": ('{\n  "a": 1 // c\n}', '{\n  "a": 1, // c\n  "k": "v"\n}'),
    "a comment before the brace": ('{\n  "a": 1\n  /* c */\n}', '{\n  "a": 1,\n  /* c */\n  "k": "v"\n}'),
    "a comment in an empty object": ("{\n  // c\n}", '{\n  // c\n  "k": "v"\n}'),
    "a comment and nothing else": ("// c", '// c\n{\n  "k": "v"\n}\n'),
    "a comment in one line": ('{"a": 1 /* , */}', '{"a": 1, /* , */ "k": "v"}'),
}
TRAILING_CASES = {
    "a trailing comma": ('{\n  "a": 1,\n}', '{\n  "a": 1,\n  "k": "v",\n}'),
    "a comment after it": ('{\n  "a": 1, // c\n}', '{\n  "a": 1, // c\n  "k": "v",\n}'),
}


@pytest.mark.parametrize(
    ("before", "after", "format"),
    [(*case, Format.JSON) for case in CASES.values()]
    + [(*case, Format.JSONC) for case in COMMENT_CASES.values()]
    + [(*case, Format.JSONC_TRAILING) for case in (*COMMENT_CASES.values(), *TRAILING_CASES.values())],
)
def test_a_member_goes_in_in_the_style_of_the_file(before: str, after: str, format: Format) -> None:
    new, changes = editor(format).apply(before, {"/k": "v"})

    assert new == after
    assert editor(format).revert(new, changes) == (before, ())


def test_a_trailing_comma_is_never_left_for_a_program_that_takes_none() -> None:
    new, changes = editor(Format.JSONC).apply('{\n  "a": 1\n}', {"/k": "v"})
    without_first = new.replace('  "a": 1,\n', "")

    assert json.loads(editor(Format.JSONC).revert(without_first, changes)[0]) == {}
    assert json.loads(editor(Format.JSONC).revert(new, changes)[0]) == {"a": 1}


def test_nested_values_are_laid_out_with_the_indentation_of_the_file() -> None:
    new, _ = editor(Format.JSON).apply('{\n    "a": 1\n}', {"/p/q": {"r": [1]}})

    assert new == json.dumps({"a": 1, "p": {"q": {"r": [1]}}}, indent=4)


def test_containers_that_we_made_go_with_the_last_thing_in_them() -> None:
    new, changes = editor(Format.JSON).apply("{}", {"/env/A": "1", "/env/B": "2"})
    theirs = new.replace('"B": "2"', '"B": "theirs"')

    assert editor(Format.JSON).revert(new, changes) == ("{}", ())
    assert editor(Format.JSON).revert(theirs, changes)[1] == ("/env/B",)
    emptied = '{\n  "env": {}\n}'
    assert editor(Format.JSON).revert(emptied, changes) == ("{}", ())


def test_a_container_that_was_there_before_stays_even_when_empty() -> None:
    text = '{"env": {}}'
    new, changes = editor(Format.JSON).apply(text, {"/env/A": "1"})

    assert editor(Format.JSON).revert(new, changes) == (text, ())


def test_a_comment_of_the_user_keeps_a_container_of_ours() -> None:
    new, changes = editor(Format.JSONC).apply("{}", {"/env/A": "1"})
    noted = new.replace('"1"', '"1" // mine')

    assert "// mine" in editor(Format.JSONC).revert(noted, changes)[0]


def test_an_item_is_found_by_its_name_and_its_neighbors_stay() -> None:
    text = '[\n  {"name": "a"},\n  {"name": "b"}\n]\n'
    item: Json = {"name": "thv-llm", "models": [{"id": "m"}]}
    key = jsonc.pointer(Item("name", "thv-llm"))

    new, changes = editor(Format.JSONC_TRAILING).apply(text, {key: item})

    assert json.loads(new) == [{"name": "a"}, {"name": "b"}, item]
    moved = json.dumps([{**item, "vendor": "added"}, {"name": "a"}])  # type: ignore[dict-item]
    assert editor(Format.JSONC_TRAILING).holds(moved, changes) == ()
    assert json.loads(editor(Format.JSONC_TRAILING).revert(moved, changes)[0]) == [{"name": "a"}]


def test_a_key_below_an_item_that_is_not_there_makes_the_item() -> None:
    new, changes = editor(Format.JSON).apply("{}", {"/l/[id=x]/v": 1})

    assert json.loads(new) == {"l": [{"id": "x", "v": 1}]}
    assert editor(Format.JSON).revert(new, changes) == ("{}", ())


@pytest.mark.parametrize(
    ("text", "key", "value", "reason"),
    [
        ('{"env": 5}', "/env/A", "1", "'/env' is not an object"),
        ('{"env": null}', "/env/A", "1", "'/env' is not an object"),
        ("[]", "/a", 1, "the top level is not an object"),
        ("5", "/a", 1, "the top level is not an object"),
        ('{"l": {}}', "/l/[id=x]", {"id": "x"}, "'/l' is not an array"),
        ('{"a": 1, "a": 2}', "/a", 3, "more than once"),
        ('{"a": {"b": 1}, "\\u0061": {}}', "/a/b", 3, "more than once"),
        ('{"l": [{"id": "x"}, {"id": "x"}]}', "/l/[id=x]", {"id": "x", "v": 1}, "more than once"),
        ("{}", "/l/[id=x]", {"id": "y"}, "needs that member"),
        ("{}", "a", 1, "not a JSON pointer"),
        ("{}", "/a", float("nan"), "no words for this number"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_the_reason(
    text: str, key: str, value: Json, reason: str
) -> None:
    with pytest.raises(EditError) as caught:
        editor(Format.JSON).apply(text, {key: value})

    assert reason in caught.value.reason


def test_a_duplicate_elsewhere_is_none_of_our_business() -> None:
    text = '{"x": 1, "x": 2, "a": {"y": 1, "y": 1}}'
    new, changes = editor(Format.JSON).apply(text, {"/a/k": 1})

    assert new == '{"x": 1, "x": 2, "a": {"y": 1, "y": 1, "k": 1}}'
    assert editor(Format.JSON).revert(new, changes) == (text, ())


def test_a_lone_surrogate_is_written_as_an_escape() -> None:
    new, _ = editor(Format.JSON).apply("{}", {"/a": "é\ud800"})

    assert json.loads(new.encode()) == {"a": "é\ud800"}


@pytest.mark.parametrize("name", ["a/b", "m~n", "", "é", 'q"'])
def test_a_pointer_carries_any_name(name: str) -> None:
    key = jsonc.pointer("l", Item("id", name), name)

    assert jsonc.steps(key) == ("l", Item("id", name), name)
    new, _ = editor(Format.JSON).apply("{}", {jsonc.pointer(name): 1})
    assert json.loads(new) == {name: 1}


def test_holds_and_value_see_what_is_there() -> None:
    text = '{"a": {"b": null}}'

    assert editor(Format.JSON).value(text, "/a/b") is None
    assert editor(Format.JSON).value(text, "") == {"a": {"b": None}}
