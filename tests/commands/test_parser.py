"""The command-line parser: examples first, errors as everywhere else."""

from __future__ import annotations

import pytest

from thv_llm import system
from thv_llm.commands import parser
from thv_llm.commands.parser import Parser, add_format
from thv_llm.errors import UsageError


def made() -> Parser:
    one = Parser(prog="thv-llm uninstall", description="do it")
    one.add_argument("name", nargs="?", metavar="NAME")
    one.add_argument("rest", nargs="*", metavar="REST")
    one.add_argument("--quick", action="store_true")
    add_format(one)
    return one


def test_help_leads_with_what_it_is_and_examples() -> None:
    lines = made().format_help().splitlines()

    assert lines[:6] == [
        "thv-llm uninstall: do it",
        "",
        "  thv-llm uninstall          asks first",
        "  thv-llm uninstall --yes    without a question",
        "",
        "usage: thv-llm uninstall [OPTION]... [NAME] [REST]...",
    ]


@pytest.mark.parametrize("words", [["--qui"], ["--format", "xml"], ["--unknown"]])
def test_errors_are_raised_not_printed_and_name_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        made().parse_args(words)

    assert caught.value.next_step == "thv-llm uninstall --help"
    assert capsys.readouterr() == ("", "")


def test_an_example_can_be_typed_in_the_usual_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "NAME", "linux")
    assert parser.examples("thv-llm")[1].endswith(" \\")
    assert "thv-llm proxy stop && thv-llm proxy start" in parser.examples("thv-llm proxy")
    monkeypatch.setattr(system, "NAME", "win32")
    assert parser.examples("thv-llm")[1].endswith(" `")
    assert "thv-llm proxy stop; thv-llm proxy start" in parser.examples("thv-llm proxy")
