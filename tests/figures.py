"""Print how large the program is: modules, lines of code, the longest pieces, private functions used once.

For information. A line of code is one with something other than a comment or a docstring on it.
The tables of tools and providers are data, so they are counted by themselves.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "thv_llm"
TABLES = re.compile(r"tools\.registry\b|providers\b")
LONGEST = 5
IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
IGNORED |= {tokenize.ENCODING, tokenize.ENDMARKER}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module(NamedTuple):
    """One file: its name below the package, its syntax, and the numbers of its lines of code."""

    name: str
    tree: ast.Module
    lines: frozenset[int]

    @property
    def is_table(self) -> bool:
        return bool(TABLES.match(self.name))


def read(path: Path, name: str) -> Module:
    """Read one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION)) and ast.get_docstring(node) is not None:
            lines.difference_update(_lines(node.body[0]))
    return Module(name, tree, frozenset(lines))


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def package(top: Path = PACKAGE) -> list[Module]:
    """Read every module, those that only group others too."""
    return [read(path, ".".join(path.relative_to(top).with_suffix("").parts)) for path in top.rglob("*.py")]


def functions(modules: list[Module]) -> Iterator[tuple[int, str]]:
    """Yield the lines of code of every function, and its name."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, FUNCTION):
                yield len(module.lines.intersection(_lines(node))), f"{module.name}.{node.name}"


def used_once(modules: list[Module]) -> tuple[int, int]:
    """Return how many functions are private and named once in their module, and how many there are."""
    once = defined = 0
    for module in modules:
        nodes = list(ast.walk(module.tree))
        named = Counter(node.id for node in nodes if isinstance(node, ast.Name))
        named.update(node.attr for node in nodes if isinstance(node, ast.Attribute))
        names = [node.name for node in nodes if isinstance(node, FUNCTION)]
        defined += len(names)
        once += sum(named[name] == 1 for name in names if re.match(r"_(?!_)", name))
    return once, defined


def figures(modules: list[Module]) -> str:
    """Return all of it, for people."""
    whole = sum(len(module.lines) for module in modules)
    tables = sum(len(module.lines) for module in modules if module.is_table)
    once, defined = used_once(modules)
    longest = sorted(functions(modules), reverse=True)[:LONGEST]
    largest = sorted(((len(module.lines), module.name) for module in modules), reverse=True)[:LONGEST]
    return "\n".join(
        [
            f"{len(modules)} modules, {whole:,} lines of code, {whole - tables:,} without the tables",
            f"longest modules: {', '.join(f'{name} {lines}' for lines, name in largest)}",
            f"longest functions: {', '.join(f'{name} {lines}' for lines, name in longest)}",
            f"private functions used once: {once} of {defined} functions",
        ]
    )


if __name__ == "__main__":
    print(figures(package(*map(Path, sys.argv[1:]))))
