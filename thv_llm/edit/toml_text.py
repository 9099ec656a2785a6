"""Keys and values as TOML text; keys also the other way round.

Pure: values in, text out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable

import tomli_w

from thv_llm.edit.change import EditError, Json
from thv_llm.edit.model import Item, Path, Step
from thv_llm.errors import shown

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(
    r"""(?P<name>"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
    r"""(?:\[(?P<id>[A-Za-z0-9_-]+)=(?P<value>"(?:[^"\\]|\\.)*"|[^\]"]*)\])?(?:\.(?=.)|\Z)"""
)


def steps(key: str) -> Path:
    """Read the steps of a key of ours: a dotted key, with `[name=value]` after an array's name."""
    path: list[Step] = []
    position = 0
    while position < len(key):
        found = _STEP.match(key, position)
        if found is None:
            raise EditError(f"{shown(key)} is not a dotted key")
        path += names_of(found["name"])
        if found["id"]:
            raw = found["value"]
            path.append(Item(found["id"], json.loads(raw) if raw.startswith('"') else raw))
        position = found.end()
    if not path:
        raise EditError("a TOML key needs a name")
    return tuple(path)


def key_of(path: Path) -> str:
    """Write the key that stands for some steps."""
    key = ""
    for step in path:
        if isinstance(step, Item):
            key += f"[{step.name}={json.dumps(step.value)}]"
        else:
            key += ("." if key else "") + dotted([step])
    return key


def names_of(key: str) -> tuple[str, ...]:
    """Return the names in a dotted key as TOML writes it."""
    if '"' not in key and "'" not in key:
        return tuple(name.strip(" \t") for name in key.split("."))
    names: list[str] = []
    value: object = tomllib.loads(f"{key} = 0")
    while isinstance(value, dict):
        ((name, value),) = value.items()
        names.append(name)
    return tuple(names)


def dotted(names: Iterable[str]) -> str:
    """Write a dotted key, with quotes where a name needs them."""
    return ".".join(name if _BARE_KEY.fullmatch(name) else literal(name) for name in names)


def literal(value: Json) -> str:
    """Write a value on one line; a dict becomes an inline table."""
    if value is None:
        raise EditError("TOML has no null")
    if isinstance(value, dict):
        pairs = ", ".join(f"{dotted([name])} = {literal(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    text = tomli_w.dumps({"k": value})[len("k = ") : -1]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EditError("TOML has no lone surrogates") from None
    return text


def table(names: tuple[str, ...], value: dict[str, Json], *, is_item: bool = False) -> str:
    """Write a table with its header, and its sub-tables with theirs; lines end in "\n".

    Args:
        is_item: it is an item of an array of tables.
    """
    key = dotted(names)
    lines = [f"[[{key}]]\n" if is_item else f"[{key}]\n"]
    lines += [
        f"{dotted([name])} = {literal(inner)}\n"
        for name, inner in value.items()
        if not isinstance(inner, dict)
    ]
    tables = ["\n" + table((*names, name), inner) for name, inner in value.items() if isinstance(inner, dict)]
    return "".join(lines + tables)
