from __future__ import annotations

import shlex

import pytest

from thv_llm.edit import dotenv
from thv_llm.edit.model import EditError, Json


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "K=v\n"),
        ("A=1\n", "A=1\nK=v\n"),
        ("A=1", "A=1\nK=v"),
        ("# c\r\nA=1\r\n", "# c\r\nA=1\r\nK=v\r\n"),
        ("export K = 'old' # c\n", "export K = v # c\n"),
        ('K="two\nlines"\nA=1\n', "K=v\nA=1\n"),
        ("K=\nA=1\n", "K=v\nA=1\n"),
        ("K= # c\n", "K=v # c\n"),
        ("K: old\n", "K: v\n"),
        ("K=1\nA=1\nK=2\n", "K=1\nA=1\nK=v\n"),
        ("#K=1\nXK=1\n", "#K=1\nXK=1\nK=v\n"),
    ],
)
def test_a_variable_is_set_where_it_counts(before: str, after: str) -> None:
    new, changes = dotenv.EDITOR.apply(before, {"K": "v"})

    assert new == after
    assert dotenv.EDITOR.revert(new, changes) == (before, ())


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=a b # c", "a b"),
        ("K='a # b' # c", "a # b"),
        ('K="a\\nb"', "a\nb"),
        ("K='a\\nb'", "a\\nb"),
        ("K=`a`", "a"),
        ("K=a#b", "a"),
        ("K=it's", "it's"),
        ("  export  K=x", "x"),
    ],
)
def test_values_are_read_as_the_tools_read_them(line: str, value: str) -> None:
    assert dotenv.EDITOR.value(line, "K") == value


@pytest.mark.parametrize(
    "value", ["v", "", "a b", "#", "it's", "a=b", "http://127.0.0.1:14000", "$HOME", "é"]
)
def test_a_written_value_means_the_same_to_a_shell(value: str) -> None:
    new, _ = dotenv.EDITOR.apply("", {"K": value})

    assert dotenv.EDITOR.value(new, "K") == value
    assert shlex.split(new) == [f"K={value}"]


@pytest.mark.parametrize("value", ["a\nb", "\x00", "it's $5", "'\"", None, True, 1.5, []])
def test_a_value_that_cannot_be_written_safely_is_refused(value: Json) -> None:
    with pytest.raises(EditError):
        dotenv.EDITOR.apply("", {"K": value})


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "é"])
def test_a_name_that_a_shell_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(EditError, match="not the name of a variable"):
        dotenv.EDITOR.apply("", {name: "v"})


def test_a_line_of_the_users_above_ours_counts_again_after_the_undo() -> None:
    new, changes = dotenv.EDITOR.apply("", {"K": "ours"})

    assert dotenv.EDITOR.revert("K=theirs\n" + new, changes) == ("K=theirs\n", ())


def test_a_line_of_the_users_below_ours_is_theirs() -> None:
    new, changes = dotenv.EDITOR.apply("", {"K": "ours"})

    assert dotenv.EDITOR.revert(new + "K=theirs\n", changes) == (new + "K=theirs\n", ("K",))


def test_old_line_ends_of_a_carriage_return_are_refused() -> None:
    with pytest.raises(EditError) as caught:
        dotenv.EDITOR.apply("A=1\rB=2\r", {"K": "v"})

    assert (caught.value.line, caught.value.column) == (1, 4)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("A=1\nX='never closed\n", 2, 3),
        ('A=1\n export X = "never closed # c\nK=1\n', 2, 13),
        ("X=`\n", 1, 3),
        ('X="C:\\dir\\"\n', 1, 3),
        ("A=1\n X:\n", 2, 2),
        ("A=1\r\nX:", 2, 1),
        ("X=\n'v'\n", 1, 1),
        ("X\n=v\n", 1, 1),
    ],
)
def test_a_value_that_could_take_our_line_in_is_refused(text: str, line: int, column: int) -> None:
    with pytest.raises(EditError) as caught:
        dotenv.EDITOR.apply(text, {"K": "# it's"})

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "text", ["X=\n", "X: \n", "# X:\n", "X='a' b\n", "X=it's\n", 'X="a\\"\nb"\n', "X='\"'\n", "X='' # it's\n"]
)
def test_a_value_that_ends_on_its_own_is_no_hindrance(text: str) -> None:
    new, changes = dotenv.EDITOR.apply(text, {"K": "# it's"})

    assert new == text + 'K="# it\'s"\n'
    assert dotenv.EDITOR.revert(new, changes) == (text, ())


@pytest.mark.parametrize("text", ["", "K=theirs\n"])
def test_undo_is_done_though_the_user_has_left_a_quote_open_since(text: str) -> None:
    new, changes = dotenv.EDITOR.apply(text, {"K": "ours"})

    assert dotenv.EDITOR.revert(new + "X='open\n", changes) == (text + "X='open\n", ())
