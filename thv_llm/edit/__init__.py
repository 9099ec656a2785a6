"""Set and remove keys in the texts of settings files, touching nothing else.

`editor` is the one place where formats are told apart.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from thv_llm.edit.model import Format

if TYPE_CHECKING:
    from thv_llm.edit.document import Editor

__all__ = ("Format", "editor")


@cache
def editor(format: Format) -> Editor:
    """Return the editor (apply, revert, holds, value, is_empty) of a format."""
    # here, because the service reads what the tools' entries say, and edits nothing
    from thv_llm.edit import dotenv, jsonc, toml, yaml

    others = {Format.TOML: toml.EDITOR, Format.DOTENV: dotenv.EDITOR, Format.YAML: yaml.EDITOR}
    return others.get(format) or jsonc.editor(format)
