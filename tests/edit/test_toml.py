from __future__ import annotations

import tomllib

import pytest

from thv_llm.edit import toml
from thv_llm.edit.model import MISSING, EditError, Json
from thv_llm.edit.toml_lex import literal

CODEX: dict[str, Json] = {
    "model_provider": "thv-llm",
    "model_providers.thv-llm": {"name": "gateway", "auth": {"command": "/h", "timeout_ms": 20000}},
}
CODEX_TABLES = """\
[model_providers.thv-llm]
name = "gateway"

[model_providers.thv-llm.auth]
command = "/h"
timeout_ms = 20000
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f'model_provider = "thv-llm"\n\n{CODEX_TABLES}'),
        ('model = "x" # c\n', f'model = "x" # c\nmodel_provider = "thv-llm"\n\n{CODEX_TABLES}'),
        (
            "# about t\n[t]\nx = 1\n",
            f'model_provider = "thv-llm"\n\n# about t\n[t]\nx = 1\n\n{CODEX_TABLES}',
        ),
        (
            "# file\n\n[t]\nx = 1\n",
            f'# file\n\nmodel_provider = "thv-llm"\n\n[t]\nx = 1\n\n{CODEX_TABLES}',
        ),
        ('model_provider = "old" # mine\n', f'model_provider = "thv-llm" # mine\n\n{CODEX_TABLES}'),
        (
            's = """\n[no]\n"""\r\n[t]',
            's = """\n[no]\n"""\r\nmodel_provider = "thv-llm"\r\n[t]\r\n\r\n'.replace('"""\n[no]\n"""', "X")
            + CODEX_TABLES.rstrip().replace("\n", "\r\n"),
        ),
    ],
)
def test_top_level_keys_go_above_the_first_table_and_tables_to_the_end(before: str, after: str) -> None:
    before, after = (text.replace('"""\n[no]\n"""', '"""\r\n[no]\r\n"""') for text in (before, after))
    after = after.replace("s = X", 's = """\r\n[no]\r\n"""')
    new, changes = toml.EDITOR.apply(before, CODEX)

    assert new == after
    assert toml.EDITOR.revert(new, changes) == (before, ())


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("[oidc]\n# note\n", "oidc.issuer", "i", '[oidc]\nissuer = "i"\n# note\n'),
        ("[oidc]\n  a = 1\n\n[z]\n", "oidc.b", 2, "[oidc]\n  a = 1\n  b = 2\n\n[z]\n"),
        ("oidc.a = 1\n[z]\n", "oidc.b.c", 2, "oidc.a = 1\noidc.b.c = 2\n[z]\n"),
        ("o.a = 1\n\n[o.t]\nx = 1\n", "o.t.y.z", 2, "o.a = 1\n\n[o.t]\nx = 1\n\n[o.t.y]\nz = 2\n"),
        ("oidc = {}\n", "oidc.b", 2, "oidc = { b = 2 }\n"),
        ("oidc = {a=1} # c\n", "oidc.b.c", 2, "oidc = {a=1, b.c = 2} # c\n"),
        ("oidc = { x = { y = 1 } }\n", "oidc.x.z", {"q": 1}, "oidc = { x = { y = 1, z = { q = 1 } } }\n"),
        ("[oidc.sub]\na = 1\n", "oidc.b", 2, "[oidc.sub]\na = 1\n\n[oidc]\nb = 2\n"),
        ("[oidc]\nb.c = 1\n[z]\n", "oidc.b.d", 2, "[oidc]\nb.c = 1\nb.d = 2\n[z]\n"),
        ("'o' = {\"a\" = 1}\n", "o.a", 2, "'o' = {\"a\" = 2}\n"),
        ("a = [\n 1, # one\n]\n", "a", [2], "a = [2]\n"),
        ("[p]\nx = 1\n[q]\n", "p.t", {"k": 1}, "[p]\nx = 1\n\n[p.t]\nk = 1\n[q]\n"),
    ],
)
def test_a_key_joins_its_table_the_way_it_is_written(before: str, key: str, value: Json, after: str) -> None:
    new, changes = toml.EDITOR.apply(before, {key: value})

    assert new == after
    assert toml.EDITOR.revert(new, changes) == (before, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[[l]]\nid = "x"\nn = 1\n'),
        ('[[l]]\nid = "a"\n\n[z]\n', '[[l]]\nid = "a"\n\n[[l]]\nid = "x"\nn = 1\n\n[z]\n'),
        ("l = []\n", 'l = [{ id = "x", n = 1 }]\n'),
        ("l = [\n  { id = 'a' }, # c\n]\n", "l = [\n  { id = 'a' }, # c\n  { id = \"x\", n = 1 },\n]\n"),
        ("l = [{ id = 'a' } # c\n]\n", "l = [{ id = 'a' }, # c\n{ id = \"x\", n = 1 }\n]\n"),
        ("[[l]]\nid = 'x'\nmine = 1\n", "[[l]]\nid = 'x'\nmine = 1\nn = 1\n"),
    ],
)
def test_an_item_joins_its_array_the_way_it_is_written(before: str, after: str) -> None:
    new, changes = toml.EDITOR.apply(before, {"l[id=x]": {"id": "x", "n": 1}})

    assert new == after
    assert toml.EDITOR.revert(new, changes) == (before, ())


def test_settings_are_set_one_by_one_under_one_header() -> None:
    new, _ = toml.EDITOR.apply(
        "", {"gateway_url": "https://g", "oidc.issuer": "i", "oidc.client_id": "c", "proxy.port": 1}
    )

    assert new == 'gateway_url = "https://g"\n\n[oidc]\nissuer = "i"\nclient_id = "c"\n\n[proxy]\nport = 1\n'


@pytest.mark.parametrize("text", ["#", "[m]\nx = 1", "a = 1"])
def test_a_missing_final_line_end_is_missing_again_whatever_goes_first(text: str) -> None:
    new, changes = toml.EDITOR.apply(text, {"z.k": 1, "top": 1, "m.t": {}})

    assert not new.endswith("\n")
    assert toml.EDITOR.revert(new, changes[::-1]) == (text, ())


def test_remove_takes_out_a_key_or_a_table_and_nothing_else() -> None:
    text = "# top\na = 1 # gone\nb.c = 1\nb.d = 2\n\n# t\n[t]\nx = { y = 1, z = 2 }\n\n[t.u]\nk = 1\n\n[v]\n"

    left = toml.EDITOR.remove(text, ["a", "b", "t.x.y", "t.u", "none"])

    assert left == "# top\n\n# t\n[t]\nx = { z = 2 }\n\n[v]\n"


def test_a_key_that_the_user_adds_under_our_header_keeps_it() -> None:
    new, changes = toml.EDITOR.apply("a = 1\n", {"oidc.issuer": "i"})
    edited = new + "theirs = 1\n"

    assert toml.EDITOR.revert(edited, changes) == ("a = 1\n\n[oidc]\ntheirs = 1\n", ())


def test_tables_that_the_user_adds_after_ours_stay_on_lines_of_their_own() -> None:
    new, changes = toml.EDITOR.apply("a = 1", {"oidc": {"issuer": "i"}})
    edited = new + "\n[theirs]\n"

    assert toml.EDITOR.revert(edited, changes) == ("a = 1\n[theirs]\n", ())


def test_a_program_that_rewrites_the_file_without_comments_does_not_stop_the_undo() -> None:
    new, changes = toml.EDITOR.apply("# c\nx = 1\n", CODEX)
    parsed = tomllib.loads(new)
    rewritten = 'x = 1\nmodel_provider = "thv-llm"\nmodel_providers = ' + literal(parsed["model_providers"])

    assert toml.EDITOR.holds(rewritten, changes) == ()
    assert tomllib.loads(toml.EDITOR.revert(rewritten, changes)[0]) == {"x": 1, "model_providers": {}}


@pytest.mark.parametrize(
    ("text", "key", "value", "reason"),
    [
        ("a = 1\n", "a.b", 1, "'a' is not a table"),
        ("[[a]]\n", "a.b", 1, "'a' is not a table"),
        ("[a]\n", "a", 1, "'a' is a table"),
        ("[[a]]\n", "a", [], "'a' is a table"),
        ("a = {}\n", "a[id=x]", {"id": "x"}, "not an array"),
        ("", "a[id=x]", {"id": "y"}, "needs that member"),
        ("", "a[id=x]", 1, "needs that member"),
        ("", "a[id=x].b", 1, "is not there"),
        ("", "a", None, "no null"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_the_reason(
    text: str, key: str, value: Json, reason: str
) -> None:
    with pytest.raises(EditError) as caught:
        toml.EDITOR.apply(text, {key: value})

    assert reason in caught.value.reason


def test_deep_nesting_is_refused_without_a_crash() -> None:
    with pytest.raises(EditError):
        toml.EDITOR.apply("a = " + "[" * 20_000 + "]" * 20_000, {"b": 1})


def test_value_tells_absent_from_empty() -> None:
    assert toml.EDITOR.value("[a]\n", "a") == {}
    assert toml.EDITOR.value("[a]\n", "b") is MISSING
