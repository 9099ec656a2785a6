"""The house rules that a machine can check: layers, sizes, names, a test file for every module.

The layers are those of the map in `thv_llm/__init__.py`, so the map cannot be wrong. A module
imports from lower layers, or from its own layer inside its own subpackage, and never in a circle;
an import inside a function or for types only counts like any other.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import thv_llm

TOP = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
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
LONG_FOR_A_REASON: dict[str, str] = {}
"""Functions over the limit, as `module.function`, and why cutting them would make them worse."""


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
    is_sibling = name.partition(".")[0] == target.partition(".")[0]
    return layers()[target] < layers()[name] or (layers()[target] == layers()[name] and is_sibling)


def test_no_imports_go_in_a_circle() -> None:
    graphlib.TopologicalSorter(graph()).prepare()


def test_the_launcher_reaches_the_package_only_through_cli_and_the_shortcut() -> None:
    assert set(imported(TOP / LAUNCHER_ONLY)) == {"thv_llm.cli", "thv_llm.shortcut"}


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = [str(_test_files(name)[0].relative_to(TOP)) for name in modules() if not _is_tested(name)]

    assert missing == []


def _is_tested(name: str) -> bool:
    return name == "__main__" or any(path.is_file() for path in _test_files(name))


def _test_files(name: str) -> list[Path]:
    """Return where a module's tests may be: at its own path; in a nested package, also at the package's."""
    parts = name.split(".")
    cuts = [parts, parts[:-1]] if len(parts) > 2 else [parts]
    return [TOP.joinpath("tests", *cut[:-1], f"test_{cut[-1]}.py") for cut in cuts]


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(TOP)): lines
        for path in tracked()
        if path.suffix in {".py", ".spec"} and (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }

    assert long == {}


def test_no_function_is_too_long_without_a_reason() -> None:
    long = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{name}.{node.name}"] = lines

    assert set(long) == set(LONG_FOR_A_REASON), long


def test_every_module_opens_with_its_purpose() -> None:
    silent = [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]

    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name for name in modules() if set(name.split(".")) & VAGUE]


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    found = {path.relative_to(TOP).parts[0] for path in tracked()}

    assert found - VISIBLE - DOTFILES == set()


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
