"""README.md says what the program says."""

from __future__ import annotations

import re

from tests import readme
from thv_llm import cli, errors
from thv_llm.tools import engine


def test_tables_and_help_are_those_of_the_program() -> None:
    text = readme.README.read_text()

    assert readme.rewritten(text) == text, "run: python -m tests.readme"


def test_every_command_line_in_the_readme_can_be_typed() -> None:
    typed = re.findall(r"^\$ .*?\bthv-llm ([a-z]+)", readme.README.read_text(), re.MULTILINE)

    assert len(typed) > 4
    assert set(typed) <= set(cli.VERBS)


def test_every_exit_code_is_explained() -> None:
    text = readme.README.read_text()

    for code in errors.ExitCode:
        assert re.search(rf"^\| {code.value} \|", text, re.MULTILINE), code


def test_every_tool_stands_in_the_readme() -> None:
    text = readme.README.read_text()

    for tool in engine.TOOLS:
        assert tool.title in text
