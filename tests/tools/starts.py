"""What a tool's files can look like before setup: the starting points that every entry must survive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.tools.machines import Machine
from thv_llm.edit import Format
from thv_llm.tools.model import EachModel, Edit, Tool

OBJECT = """{
  "theirs": {"token": "sk-theirs-0123456789abcdef", "list": [1, 2.50, 1e3]},
  "env": {"THEIRS": "a\\u0041/\\/"}%s
}
"""
ARRAY = '[\n    {"name": "theirs", "vendor": "ollama"}\n]\n'
TOML = """model = "theirs"

[theirs]
token = 'sk-theirs-0123456789abcdef'
inline = { a = 1, b = [1, 2] }
"""
YAML_LIST = "- model_id: theirs\n  model_name: gpt-theirs\n"
YAML_MAP = "model: theirs\ndark-mode: true\n"
DOTENV = "THEIRS='one two'\nexport OTHER=x\n"


def is_array(edit: Edit) -> bool:
    return next(iter(edit.set)).startswith("/[")


def is_list(edit: Edit) -> bool:
    return isinstance(next(iter(edit.set.values())), EachModel)


def typical(edit: Edit) -> str:
    """Return what such a file usually holds, where it is edited at all."""
    if edit.new_only:
        return "\n"
    match edit.format:
        case Format.TOML:
            return TOML
        case Format.YAML:
            return YAML_LIST if is_list(edit) else YAML_MAP
        case Format.DOTENV:
            return DOTENV
    if is_array(edit):
        return ARRAY
    members = {"/version": '"version": 1', "/providers": '"providers": {}'}
    return OBJECT % "".join(f",\n  {members[key]}" for key in edit.requires)


def full_of_comments(edit: Edit) -> str:
    """Return the same with comments wherever the format has them."""
    text = typical(edit)
    if edit.format in (Format.JSONC, Format.JSONC_TRAILING):
        text = text.replace("\n", " // one\n", 1).replace(",", ", /* two { */", 1)
        return "// three }\n" + text + "/* four */\n"
    if edit.format is Format.JSON or edit.new_only:
        return text
    return "# one\n" + text.replace("\n", "  # two\n", 1) + "# three\n"


def with_crlf_and_bom(edit: Edit) -> str:
    return "\ufeff" + typical(edit).replace("\n", "\r\n")


def without_final_newline(edit: Edit) -> str:
    return typical(edit).rstrip("\n")


STARTS: dict[str, Callable[[Edit], str | None]] = {
    "absent": lambda edit: None,
    "empty": lambda edit: "",
    "typical": typical,
    "full of comments": full_of_comments,
    "CRLF and BOM": with_crlf_and_bom,
    "no final newline": without_final_newline,
}


def begin(machine: Machine, tool: Tool, start: str) -> None:
    """Lay out a tool's files as they are at that starting point."""
    for edit in tool.edits:
        text = STARTS[start](edit)
        if text is not None:
            machine.write({Path(path): text for path in machine.place.targets(edit)})
