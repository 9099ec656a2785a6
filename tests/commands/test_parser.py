"""The command-line parser: examples first, errors as everywhere else."""

from __future__ import annotations

import pytest

from thv_llm import system
from thv_llm.commands import parser
from thv_llm.commands.parser import Parser, add_format
from thv_llm.errors import UsageError


def made() -> Parser:
    one = Parser(prog="thv-llm verb", description="do it", examples="thv-llm verb NAME   with a name")
    one.add_argument("name", nargs="?", metavar="NAME")
    one.add_argument("rest", nargs="*", metavar="REST")
    one.add_argument("--quick", action="store_true")
    add_format(one)
    return one


def test_help_leads_with_what_it_is_and_examples() -> None:
    lines = made().format_help().splitlines()

    assert lines[:5] == [
        "thv-llm verb: do it",
        "",
        "  thv-llm verb NAME   with a name",
        "",
        "usage: thv-llm verb [OPTION]... [NAME] [REST]...",
    ]


@pytest.mark.parametrize("words", [["--qui"], ["--format", "xml"], ["--unknown"]])
def test_errors_are_raised_not_printed_and_name_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        made().parse_args(words)

    assert caught.value.next_step == "thv-llm verb --help"
    assert capsys.readouterr() == ("", "")


def test_an_example_can_be_typed_in_the_usual_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "NAME", "linux")
    example = "thv-llm verb \\\n  --quick\nthv-llm stop && thv-llm start"
    assert parser.lines(example) == ["thv-llm verb \\", "  --quick", "thv-llm stop && thv-llm start"]
    monkeypatch.setattr(system, "NAME", "win32")
    assert parser.lines(example) == ["thv-llm verb `", "  --quick", "thv-llm stop; thv-llm start"]
