"""Set and remove keys in the texts of settings files, touching nothing else.

`editor` is the one place where formats are told apart.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thv_llm.edit.document import Editor


class Format(Enum):
    """What a settings file is written in, and what the program that owns it takes."""

    JSON = "json"
    JSONC = "jsonc"  # with comments
    JSONC_TRAILING = "jsonc-trailing"  # with comments and trailing commas
    TOML = "toml"
    DOTENV = "dotenv"
    YAML = "yaml"  # a marked block in a top-level list or map


@cache
def editor(format: Format) -> Editor:
    """Return the editor (apply, revert, holds, value, is_empty) of a format."""
    # here, because the service reads what the tools' entries say, and edits nothing
    from thv_llm.edit import dotenv, jsonc, toml, yaml
    from thv_llm.edit.jsonc import Dialect

    editors: dict[Format, Editor] = {
        Format.JSON: jsonc.editor(Dialect.STRICT),
        Format.JSONC: jsonc.editor(Dialect.COMMENTS),
        Format.JSONC_TRAILING: jsonc.editor(Dialect.TRAILING),
        Format.TOML: toml.EDITOR,
        Format.DOTENV: dotenv.EDITOR,
        Format.YAML: yaml.EDITOR,
    }
    return editors[format]
