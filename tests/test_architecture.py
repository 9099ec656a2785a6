"""The house rules that a machine can check: layers and names.

The layers are those of the map in `thv_llm/__init__.py`, so the map cannot be wrong. A module
imports from lower layers, or from its own layer inside its own subpackage, and never in a circle;
an import inside a function or for types only counts like any other.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import thv_llm

TOP = Path(__file__).resolve().parent.parent
VISIBLE = {"thv_llm.py", "thv_llm", "tests", "Makefile", "README.md", "zipapp.spec"}
DOTFILES = {
    ".ci",
    ".editorconfig",
    ".gitignore",
    ".mypy.ini",
    ".pytest.ini",
    ".ruff.toml",
}
VAGUE = {"utils", "util", "helpers", "common", "manager", "core", "base", "misc"}
LAUNCHER_ONLY = "thv_llm.py"
REGISTRY_HOST = re.compile(
    r"pypi\.org|pythonhosted|registry\.npmjs|npmjs\.org|deb\.debian|crates\.io|proxy\.golang"
)


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files of the repository, those that are about to be added too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    return tuple(sorted(TOP / name for name in names.split("\0") if name and (TOP / name).is_file()))


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package that has something in it, by its name below `thv_llm`."""
    found = {}
    for path in sorted((TOP / "thv_llm").rglob("*.py")):
        parts = path.relative_to(TOP / "thv_llm").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and _says_something(path):
            found[name] = path
    return found


def _says_something(path: Path) -> bool:
    """Whether there is more in a file than a docstring (a package that only groups has no more)."""
    body = ast.parse(path.read_text()).body
    return any(not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)) for one in body)


@cache
def layers() -> dict[str, int]:
    """Return the map: the layer of each module that it names."""
    lines = re.findall(r"^(\d)  ([\w.]+)  +\S.*$", thv_llm.__doc__ or "", re.MULTILINE)
    assert len(lines) == len({name for _, name in lines}), "the map names a module twice"
    return {name: int(layer) for layer, name in lines}


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of the package's modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _is_module(name) else str(node.module) for name in whole]
        else:
            continue
        yield from (name for name in names if name.startswith("thv_llm."))


def _is_module(name: str) -> bool:
    path = TOP.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


@cache
def graph() -> dict[str, set[str]]:
    """Return what each module imports of the others."""
    found = {}
    for name, path in modules().items():
        names = {target.removeprefix("thv_llm.") for target in imported(path)}
        found[name] = {target for target in names if target != name and target in modules()}
    return found


def test_the_map_names_every_module_and_nothing_else() -> None:
    assert set(layers()) == set(modules())


def test_the_map_is_in_the_order_of_the_layers() -> None:
    assert list(layers().values()) == sorted(layers().values())


def test_a_module_imports_only_from_below_or_from_its_own_subpackage() -> None:
    wrong = {
        f"{name} ({layers()[name]}) imports {target} ({layers()[target]})"
        for name in graph().keys() & layers().keys()
        for target in graph()[name] & layers().keys()
        if not _may_import(name, target)
    }

    assert wrong == set()


def _may_import(name: str, target: str) -> bool:
    if (name, target) == ("agent_client", "system.windows_pipe"):  # both must be below everything
        return True
    is_sibling = name.partition(".")[0] == target.partition(".")[0]
    return layers()[target] < layers()[name] or (layers()[target] == layers()[name] and is_sibling)


def test_no_imports_go_in_a_circle() -> None:
    graphlib.TopologicalSorter(graph()).prepare()


def test_the_launcher_reaches_the_package_only_through_cli_and_the_agent_client() -> None:
    assert set(imported(TOP / LAUNCHER_ONLY)) == {"thv_llm.cli", "thv_llm.agent_client"}


def test_every_module_opens_with_its_purpose() -> None:
    silent = [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]

    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name for name in modules() if set(name.split(".")) & VAGUE]


def test_no_class_has_the_name_of_another_one() -> None:
    named = Counter(
        node.name
        for path in modules().values()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )

    assert [name for name, times in named.items() if times > 1] == []


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    found = {path.relative_to(TOP).parts[0] for path in tracked()}

    assert found - VISIBLE - DOTFILES == set()


def test_only_the_room_for_systems_asks_which_one_it_is_on() -> None:
    question = re.compile(r"\b(sys\.platform|os\.name|platform\.system|sys\.getwindowsversion)\b")
    asking = [name for name, path in modules().items() if question.search(path.read_text())]

    # The shortest way to a token has no time to import another module just to ask.
    assert {name.partition(".")[0] for name in asking} == {"system", "agent_client"}


def test_only_the_room_for_systems_uses_what_not_every_system_has() -> None:
    special = re.compile(
        r"\b(fcntl|msvcrt|import resource|pwd|ctypes|os\.(get|set)e?[ug]id|os\.(fork|setsid|posix_spawn\w*)"
        r"|os\.mkfifo|AF_UNIX|SO_PEERCRED|winreg|_winapi)\b|[\"']/proc/"
    )
    using = {
        name: sorted({match[0] for match in special.finditer(_code(path))})
        for name, path in modules().items()
        if not name.startswith("system") and special.search(_code(path))
    }

    assert using == {
        "agent_client": ["AF_UNIX", "os.getuid"],  # the warm path loads nothing else
        "service.helper": ["AF_UNIX"],  # the text of the helper of POSIX systems
        "store.aesgcm": ["ctypes"],  # OpenSSL, by the same names everywhere
    }


def _code(path: Path) -> str:
    """Return a module's code without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return ast.unparse(tree)


def test_nothing_names_a_package_registry() -> None:
    named = [
        str(path.relative_to(TOP))
        for path in tracked()
        if path != Path(__file__).resolve() and REGISTRY_HOST.search(path.read_text(errors="replace"))
    ]

    assert named == []


def test_nothing_compiled_is_in_the_repository() -> None:
    assert not [
        path for path in tracked() if path.suffix in {".so", ".pyc", ".pyd", ".dylib", ".dll", ".whl"}
    ]


def _patterns() -> Iterator[tuple[str, str | bytes, int]]:
    """Yield where a pattern of ours stands, the pattern and its flags: constants and literal calls."""
    for name, path in modules().items():
        if name == "__main__":  # importing it runs the program
            continue
        if name.startswith("system.windows") and sys.platform != "win32":
            continue
        for value in vars(importlib.import_module(f"thv_llm.{name}")).values():
            if isinstance(value, re.Pattern):
                yield name, value.pattern, value.flags
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args:
                literal = node.args[0]
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                    yield name, literal.value, 0


def test_no_pattern_uses_what_python_3_11_2_gets_wrong() -> None:
    # Possessive quantifiers and atomic groups; Debian 12 installed that build for years.
    parser = importlib.import_module("re._parser")
    wrong = {
        f"{name}: {pattern!r}"
        for name, pattern, flags in _patterns()
        if re.search("POSSESSIVE|ATOMIC", str(parser.parse(pattern, flags & ~re.DEBUG)))
    }

    assert wrong == set()
