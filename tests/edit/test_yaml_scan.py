from __future__ import annotations

import pytest
import yaml

from tests.edit.generate import YAML_LIST, YAML_MAP
from thv_llm.edit.model import EditError
from thv_llm.edit.yaml import Scan, Shape


@pytest.mark.parametrize("text", YAML_LIST[3:])
def test_lists_in_block_style_are_known(text: str) -> None:
    assert Scan(text + "\n").shape is Shape.LIST


@pytest.mark.parametrize("text", YAML_MAP[3:])
def test_maps_in_block_style_are_known(text: str) -> None:
    assert Scan(text + "\n").shape is Shape.MAP


@pytest.mark.parametrize("text", ["", "\n \n", "# c", "\ufeff# c\n", "---\n# c\n"])
def test_a_file_of_comments_is_empty(text: str) -> None:
    assert Scan(text).shape is Shape.EMPTY


@pytest.mark.parametrize(
    "value",
    ["[!!str \"]\", &a ']', *a]", '{a: b c, "c":[-1, ?x, it\'s, -b]}', "[a#b, x:y, 'q'\n  , # c ]\n  z]"],
)
def test_values_in_brackets_are_passed_as_a_yaml_parser_reads_them(value: str) -> None:
    text = f"- {value}\n- end\n"

    assert yaml.safe_load(text)[1] == "end"
    assert Scan(text).shape is Shape.LIST


def test_the_indentation_of_the_top_level_is_known() -> None:
    assert Scan("# c\n  - a\n  - b: |\n     text\n").indent == 2


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[]", 1, 1),
        ("{a: 1}\n", 1, 1),
        ("text\n", 1, 1),
        ("'text'\n", 1, 1),
        ("|\n text\n", 1, 1),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("--- a\n", 1, 4),
        ("a: 1\n...\nb: 2\n", 3, 1),
        ("a: 1\n...\n---\nb: 2\n", 3, 1),
        ("...\n...\n", 2, 1),
        ("a: 1\n... b\n", 2, 4),
        ("%YAML 1.2\n---\n", 1, 1),
        ("\ta: 1\n", 1, 1),
        ("a:\n\tb: 1\n", 2, 1),
        ("- a\nb: 1\n", 2, 1),
        ("a: 1\ntext\n", 2, 1),
        ("  a: 1\nb: 2\n", 2, 1),
        ("a: 'x\n", 1, 4),
        ('a: "x\\"\n', 1, 4),
        ("a: [1,\n 2\n", 1, 4),
        ("a: [1, 2}\n", 1, 9),
        ("a: {b: [}]\n", 1, 9),
        ('a: [1, "x]\n', 1, 8),
        ("a: {b: 'x}\n", 1, 8),
        ('a: [!!str "x]\n', 1, 11),
        ("a: [1,\t2]\n", 1, 7),
        ("a: [|\n x]\n", 1, 5),
        ("a: 'x' y\n", 1, 7),
        ("a: b: c\n", 1, 5),
        ("? a\n: b\n", 1, 1),
        ("a: @x\n", 1, 4),
        ("a: |\n  text", 2, 7),
        ("a: b\u2028c: d\n", 1, 5),
        ("a: 1\rb: 2\n", 1, 5),
        ("a: \x00\n", 1, 4),
    ],
)
def test_what_could_reach_beyond_the_end_or_is_not_known_is_refused(
    text: str, line: int, column: int
) -> None:
    with pytest.raises(EditError) as caught:
        Scan(text)

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('"model": x\n', ["model"]),
        ("'mo''del': x\n", ["mo'del"]),
        ("model : x\n", ["model"]),
        ('"m\\x6f\\u0064el" : x\n', ["model"]),
        ("  a: 1\n  model:\n    inner: 2\n", ["a", "model"]),
        ("\ufeffa: &x {b: 1}\n<<: *x\n", ["a", "<<"]),
        ("- a: 1\n", []),
    ],
)
def test_the_keys_of_the_top_level_are_known_however_they_are_written(text: str, keys: list[str]) -> None:
    assert Scan(text).keys == keys


@pytest.mark.parametrize("rest", ["...\n", "...", "... # c\n", "...\n# c\n\n"])
def test_the_end_mark_ends_the_document(rest: str) -> None:
    assert Scan("a: 1\n" + rest).end == len("a: 1\n")
