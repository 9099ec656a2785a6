"""README.md says what the program says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import thv_llm
from tests import readme
from thv_llm import cli, errors

TEXT = readme.README.read_text()
COMMANDS = re.findall(r"^\S*\$ .*?\bthv-llm ([a-z][^|&()#\n]*)", TEXT, re.MULTILINE) + re.findall(
    r"`thv-llm (?!is )([a-z][^`…]*)`", TEXT
)
TROUBLE = TEXT.partition("## When something is wrong")[2].partition("\n## ")[0]
EXPLAINED = [
    quoted
    for row in re.findall(r"^\| (`.*?) \|", TROUBLE, re.MULTILINE)
    for quoted in re.findall(r"`([^`]*)`", row)
]


def test_what_the_program_knows_is_as_the_program_has_it() -> None:
    assert readme.rewritten(TEXT) == TEXT, "run: python -m tests.readme"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_in_the_readme_can_be_typed(line: str) -> None:
    words = shlex.split(line.replace('"', ""))

    assert cli.build_parser(words[0]).parse_args(words).verb == words[0]


@pytest.mark.parametrize("quoted", EXPLAINED)
def test_every_text_that_is_explained_is_one_of_the_programs(quoted: str) -> None:
    sources = "".join(path.read_text() for path in Path(thv_llm.__file__).parent.rglob("*.py"))

    for part in quoted.split("…"):
        assert part.strip(" :") in sources


def test_every_exit_code_is_explained() -> None:
    for code in errors.ExitCode:
        assert re.search(rf"^\| {code.value} \|", TEXT, re.MULTILINE), code
