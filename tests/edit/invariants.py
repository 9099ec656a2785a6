"""What must hold for every text, whatever is in it: one check for each format.

A check takes any text at all. It returns True when the editor took the text, False when it
refused it; it fails when an invariant is broken or anything but EditError is raised.
"""

from __future__ import annotations

import functools
import json
import random
import tomllib
from collections.abc import Callable, Mapping

from thv_llm import edit
from thv_llm.edit import Format
from thv_llm.edit.document import Editor
from thv_llm.edit.jsonc import pointer, steps
from thv_llm.edit.model import Change, EditError, Item, Json, Missing, contains, lookup, put, same
from thv_llm.edit.toml_lex import key_of
from thv_llm.edit.toml_lex import steps as toml_steps

Check = Callable[[str, random.Random], bool]
Wanted = dict[str, Json]

NAMES = ("a", "b", "env", "x.y", "é", "", "models", "thv-llm", 'q"/~', "1")
TOML_NAMES = ("a", "b", "env", "x.y", "é", "", "models", "thv-llm", 'q"', "1")
SCALARS: tuple[Json, ...] = ("v", "", 'é"\\\n\U0001f600', 0, -7, 1.5, True, False)
VALUES: tuple[Json, ...] = (*SCALARS, {}, [], ["m", "n"], {"a": 1, "b": {"c": "d"}}, {"b": {"e": []}})
JSON_VALUES: tuple[Json, ...] = (*VALUES, None)
TOML_VALUES: tuple[Json, ...] = (*VALUES, [{"a": 1}])


def check(editor: Editor, text: str, wanted: Wanted, foreign: Wanted) -> bool:
    """Check the invariants that are the same in each format.

    Args:
        wanted: what we set.
        foreign: what the user sets in between; no key of it is in `wanted`.
    """
    try:
        assert editor.apply(text, {}) == (text, ()), "no edit changed bytes"
        new, changes = editor.apply(text, wanted)
    except EditError as error:
        _points_into(text, error)
        _not_by_the_net(error)
        return False
    assert editor.apply(new, wanted) == (new, ()), "the second time changed bytes"
    assert editor.holds(new, changes) == ()
    assert editor.revert(new, changes) == (text, ())
    assert editor.revert(new, changes[::-1]) == (text, ()), "the order of undo counts"
    assert editor.revert(text, changes)[0] == text, "undo of what is undone changed bytes"
    if all(change.before is None for change in changes):
        assert _is_subsequence("".join(text.split()), new), "something of the user's was changed"
    assert tuple(Change.from_json(json.loads(json.dumps(change.to_json()))) for change in changes) == changes
    _check_user_edit(editor, text, new, changes, foreign)
    return True


def _points_into(text: str, error: EditError) -> None:
    assert error.reason
    lines = text.split("\n")
    if error.line:
        assert error.line <= len(lines) + 1
        assert 1 <= error.column <= max(map(len, lines)) + 2


def _not_by_the_net(error: EditError) -> None:
    """Fail when only the last check stopped an edit."""
    assert "touching something else" not in error.reason, "the net caught what should not have fallen"


def _check_user_edit(
    editor: Editor, text: str, new: str, changes: tuple[Change, ...], foreign: Wanted
) -> None:
    try:
        edited, theirs = editor.apply(new, foreign)
    except EditError:
        return
    back, left = editor.revert(edited, changes)
    assert left == ()
    assert editor.holds(back, theirs) == (), "undo took an edit of the user's"


def _is_subsequence(part: str, whole: str) -> bool:
    characters = iter(whole)
    return all(character in characters for character in part)


def check_json(text: str, rng: random.Random, format: Format = Format.JSON) -> bool:
    """Check the JSON editor."""
    editor = edit.editor(format)
    keys = _separate([_json_key(rng) for _ in range(rng.randint(1, 4))])
    wanted = {key: _json_value(key, rng) for key in keys}
    accepted = check(editor, text, wanted, {"/user's own": [1, {"x": None}]})
    if accepted:
        new, _ = editor.apply(text, wanted)
        _check_model(
            editor.value(text, ""),
            editor.value(new, ""),
            {steps(key): value for key, value in wanted.items()},
        )
        if format is Format.JSON:
            assert same(json.loads(new.removeprefix("\ufeff")), editor.value(new, ""))
    return accepted


def _check_model(before: Json | Missing, after: Json | Missing, wanted: Mapping[object, Json]) -> None:
    """Check that the parsed text is what plain values come to."""
    expected = before
    for path, value in wanted.items():
        assert isinstance(path, tuple)
        old = lookup(expected, path)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        if not contains(old, value):
            expected = put(expected, path, value)
    assert same(after, expected)


def _merged(old: dict[str, Json], new: dict[str, Json]) -> dict[str, Json]:
    merged = dict(old)
    for name, value in new.items():
        inner = old.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            merged[name] = _merged(inner, value)
        elif name not in old or not contains(inner, value):
            merged[name] = value
    return merged


def _json_key(rng: random.Random) -> str:
    path: list[str | Item] = [rng.choice(NAMES) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.2:
        path[-1:] = ["models", Item("id", "x/y")]
    return pointer(*path)


def _json_value(key: str, rng: random.Random) -> Json:
    if "[id=" in key:
        return {"id": "x/y", rng.choice(NAMES[:3]): rng.choice(SCALARS), "l": [1, {"a": None}]}
    return rng.choice(JSON_VALUES)


def _separate(keys: list[str]) -> list[str]:
    """Leave out keys that are inside of others, or there twice."""
    kept: list[str] = []
    for key in keys:
        if not any(f"{key}/".startswith(f"{other}/") or f"{other}/".startswith(f"{key}/") for other in kept):
            kept.append(key)
    return kept


def check_toml(text: str, rng: random.Random) -> bool:
    """Check the TOML editor."""
    editor = edit.editor(Format.TOML)
    keys = _separate_paths([_toml_path(rng) for _ in range(rng.randint(1, 4))])
    wanted = {key_of(path): _toml_value(path, rng) for path in keys}
    accepted = check(editor, text, wanted, {"users": 1, "user.own": {"x": [1, 2]}})
    if accepted:
        new, _ = editor.apply(text, wanted)
        before, after = (tomllib.loads(each.removeprefix("\ufeff")) for each in (text, new))
        _check_model(before, after, {toml_steps(key): value for key, value in wanted.items()})
    return accepted


def _toml_path(rng: random.Random) -> tuple[str | Item, ...]:
    path: list[str | Item] = [rng.choice(TOML_NAMES) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.2:
        path[-1:] = ["models", Item("id", 'x"]y')]
    return tuple(path)


def _toml_value(path: tuple[str | Item, ...], rng: random.Random) -> Json:
    if isinstance(path[-1], Item):
        return {"id": 'x"]y', rng.choice(TOML_NAMES[:3]): rng.choice(SCALARS), "sub": {"a": [1, {"b": 2}]}}
    return rng.choice(TOML_VALUES)


def _separate_paths(paths: list[tuple[str | Item, ...]]) -> list[tuple[str | Item, ...]]:
    kept: list[tuple[str | Item, ...]] = []
    for path in paths:
        if not any(path[: len(other)] == other or other[: len(path)] == path for other in kept):
            kept.append(path)
    return kept


def check_dotenv(text: str, rng: random.Random) -> bool:
    """Check the editor of `.env` files."""
    values = ("k", "", "http://127.0.0.1:1/", "it's", "a b#c", "$x")
    names = ("A", "B", "GEMINI_API_KEY", "C_1")
    wanted: Wanted = {name: rng.choice(values) for name in rng.sample(names, rng.randint(1, 3))}
    return check(edit.editor(Format.DOTENV), text, wanted, {"USERS_OWN": "1"})


def check_yaml(text: str, rng: random.Random) -> bool:
    """Check the editor of marked blocks in YAML."""
    blocks: tuple[Json, ...] = (
        [{"model_id": "é\u2028\U0001f600", "headers": {"Authorization": "Bearer k"}}, "x"],
        [[1, None, True]],
        {"openai-api-base": "http://127.0.0.1:1/v1", "yes": "no", "1": {"a": []}},
        {"k": "#'\"\\\n"},
    )
    block = rng.choice(blocks)
    return check(edit.editor(Format.YAML), text, {"thv-llm": block}, {"user": block})


CHECKS: dict[Format, Check] = {
    Format.JSON: functools.partial(check_json, format=Format.JSON),
    Format.JSONC: functools.partial(check_json, format=Format.JSONC),
    Format.JSONC_TRAILING: functools.partial(check_json, format=Format.JSONC_TRAILING),
    Format.TOML: check_toml,
    Format.DOTENV: check_dotenv,
    Format.YAML: check_yaml,
}


def check_invariants(format: Format, text: str, rng: random.Random) -> bool:
    """Check every invariant of a format on any text; True when the editor took it."""
    return CHECKS[format](text, rng)
