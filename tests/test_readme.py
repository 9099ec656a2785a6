"""README.md and the manual say what the program says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import thv_llm
from tests import readme
from thv_llm import cli, errors
from thv_llm.commands import help

EVERY_TEXT = "\n".join(document.read_text() for document in readme.DOCUMENTS)
COMMANDS = re.findall(
    r"^\S*\$ .*?\bthv-llm ([a-z](?:[^|&()#\n]|(?<=\S)#)*)", EVERY_TEXT, re.MULTILINE
) + re.findall(r"`thv-llm (?!is )([a-z][^`…]*)`", EVERY_TEXT)
TOPICS = (
    "ai-tools decisions gateways json providers remote rollout scripts security settings troubleshooting"
    " windows"
)
TROUBLE = (
    (readme.MANUAL / "troubleshooting.md").read_text().partition("## By the text")[2].partition("\n## ")[0]
)
EXPLAINED = [
    quoted
    for row in re.findall(r"^\| (`.*?) \|", TROUBLE, re.MULTILINE)
    for quoted in re.findall(r"`([^`]*)`", row)
]


@pytest.mark.parametrize("document", readme.DOCUMENTS, ids=lambda path: path.stem)
def test_what_the_program_knows_is_as_the_program_has_it(document: Path) -> None:
    text = document.read_text()

    assert readme.rewritten(text) == text, "run: python -m tests.readme"


def test_each_part_that_the_program_knows_stands_in_one_document() -> None:
    assert sorted(readme.parts(EVERY_TEXT)) == sorted(readme.PARTS)


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(readme.README.read_text().splitlines()) <= 220


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in readme.DOCUMENTS:
        for target in re.findall(r"\]\(([^):#]+)[^)]*\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_manual_has_a_page_for_each_topic() -> None:
    assert " ".join(help.topics()) == TOPICS


@pytest.mark.parametrize("line", dict.fromkeys(COMMANDS))
def test_every_command_line_in_the_documents_can_be_typed(line: str) -> None:
    words = shlex.split(line if line.count('"') % 2 == 0 else line.replace('"', ""))

    assert cli.build_parser(words[0]).parse_args(words).verb == words[0]


@pytest.mark.parametrize("quoted", EXPLAINED)
def test_every_text_that_is_explained_is_one_of_the_programs(quoted: str) -> None:
    sources = "".join(path.read_text() for path in Path(thv_llm.__file__).parent.rglob("*.py"))

    for part in quoted.split("…"):
        assert part.strip(" :") in sources


def test_every_exit_code_is_explained() -> None:
    for code in errors.ExitCode:
        assert re.search(rf"^\| {code.value} \|", EVERY_TEXT, re.MULTILINE), code
