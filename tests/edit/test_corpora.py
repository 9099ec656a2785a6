"""The editors on public corpora: JSONTestSuite and toml-test."""

from __future__ import annotations

import json
import random
import re
import tomllib

import pytest

from tests.corpora import Sample, json_suite, toml_suite
from tests.edit.invariants import check_invariants
from thv_llm import edit
from thv_llm.edit import Format, toml
from thv_llm.edit.model import EditError, Json

JSON_FORMATS = (Format.JSON, Format.JSONC, Format.JSONC_TRAILING)

# Invalid for JSON, but nothing worse than what the dialect allows: a comment, a comma at the end.
ONLY_COMMENTS = {
    "n_object_trailing_comment.json",
    "n_object_trailing_comment_slash_open.json",
    "n_structure_object_with_comment.json",
}
ONLY_TRAILING_COMMA = {
    "n_array_extra_comma.json",
    "n_array_number_and_comma.json",
    "n_object_trailing_comma.json",
}
NOTHING_IN_IT = {"n_single_space.json", "n_structure_no_data.json", "n_structure_UTF8_BOM_no_data.json"}


def _accepts(format: Format, text: str) -> bool:
    try:
        assert edit.editor(format).apply(text, {}) == (text, ())
    except EditError:
        return False
    return True


def test_the_corpora_are_there() -> None:
    assert len(json_suite()) > 300
    assert len(toml_suite()) > 600


@pytest.mark.parametrize("sample", json_suite(), ids=lambda sample: sample.name.removesuffix(".json"))
def test_json_is_taken_and_refused_as_the_suite_says(sample: Sample) -> None:
    text = sample.text
    if text is None:
        assert not sample.name.startswith("y_")
        return
    taken = {format for format in JSON_FORMATS if _accepts(format, text)}
    if sample.name.startswith("y_"):
        assert taken == set(JSON_FORMATS)
    elif sample.name in NOTHING_IN_IT:
        assert taken == set(JSON_FORMATS)  # an empty settings file has no settings
    elif sample.name in ONLY_COMMENTS:
        assert taken == {Format.JSONC, Format.JSONC_TRAILING}
    elif sample.name in ONLY_TRAILING_COMMA:
        assert taken == {Format.JSONC_TRAILING}
    elif sample.name.startswith("n_"):
        assert taken == set()


@pytest.mark.parametrize("format", JSON_FORMATS)
def test_every_json_file_of_the_suite_keeps_the_invariants(format: Format) -> None:
    for sample in json_suite():
        text = sample.text
        if text is not None:
            check_invariants(format, text, random.Random(sample.name))


def test_every_object_of_the_json_suite_takes_a_member_and_gives_it_back() -> None:
    edited = 0
    for sample in json_suite():
        text = sample.text
        if text is None or not sample.name.startswith("y_") or not text.strip().startswith("{"):
            continue
        new, changes = edit.editor(Format.JSON).apply(text, {"/env/OUR": "v"})
        assert json.loads(new) == {**json.loads(text), "env": {"OUR": "v"}}
        assert edit.editor(Format.JSON).revert(new, changes) == (text, ())
        edited += 1
    assert edited >= 10


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_toml_is_taken_exactly_when_the_standard_library_takes_it(kind: str) -> None:
    for sample in toml_suite():
        text = sample.text
        if text is None or f"/{kind}/" not in sample.path:
            continue
        try:
            tomllib.loads(text.removeprefix("\ufeff"))
            valid = True
        except tomllib.TOMLDecodeError:
            valid = False
        assert _accepts(Format.TOML, text) is valid, sample.name
        assert check_invariants(Format.TOML, text, random.Random(sample.name)) <= valid


def test_every_valid_toml_file_takes_a_key_a_table_and_an_item_and_gives_them_back() -> None:
    wanted: dict[str, Json] = {
        "our_key": "v",
        "our_table": {"a": 1, "sub": {"b": [2]}},
        "ours[name=x]": {"name": "x"},
        "o.u.r": True,
    }
    edited = 0
    for sample in toml_suite():
        text = sample.text
        if text is None or "/valid/" not in sample.path:
            continue
        new, changes = toml.EDITOR.apply(text, wanted)
        model = tomllib.loads(new.removeprefix("\ufeff"))
        rest = {
            name: value for name, value in model.items() if name not in ("our_key", "our_table", "ours", "o")
        }
        assert repr(rest) == repr(tomllib.loads(text.removeprefix("\ufeff")))
        assert (model["our_key"], model["o"]) == ("v", {"u": {"r": True}})
        assert (model["our_table"], model["ours"]) == ({"a": 1, "sub": {"b": [2]}}, [{"name": "x"}])
        assert toml.EDITOR.revert(new, changes) == (text, ())
        edited += 1
    assert edited > 200


def test_every_value_of_every_valid_toml_file_can_be_set_and_put_back() -> None:
    names = re.compile(r"[A-Za-z0-9_-]+")
    for sample in toml_suite():
        text = sample.text
        if text is None or "/valid/" not in sample.path:
            continue
        for name, value in tomllib.loads(text.removeprefix("\ufeff")).items():
            if isinstance(value, dict) or not names.fullmatch(name):
                continue
            if re.search(rf"^\s*\[\[\s*{name}\b", text, re.MULTILINE):
                continue  # an array of tables
            new, changes = toml.EDITOR.apply(text, {name: "ours"})
            assert tomllib.loads(new.removeprefix("\ufeff"))[name] == "ours"
            assert toml.EDITOR.revert(new, changes) == (text, ())
