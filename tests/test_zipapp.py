"""The build: the same bytes from everywhere, everything inside that runs, nothing compiled."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from tests import matrix

TOP = Path(__file__).resolve().parent.parent
WHEELS = TOP / ".cache" / "wheels"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(sys.executable, TOP, tmp_path_factory.mktemp("dist"), umask=0o022)


def _build(python: str, checkout: Path, dist: Path, *, umask: int) -> Path:
    command = [python, str(checkout / "zipapp.spec"), "--cache", str(WHEELS), "--dist", str(dist)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, umask=umask, cwd=dist)
    built = dist / "thv-llm.pyz"
    assert done.stdout == f"{hashlib.sha256(built.read_bytes()).hexdigest()}  {built}\n"
    return built


def _recipe() -> ModuleType:
    loader = SourceFileLoader("recipe", str(TOP / "zipapp.spec"))
    spec = importlib.util.spec_from_loader("recipe", loader)
    assert spec
    recipe = importlib.util.module_from_spec(spec)
    dont_write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(recipe)
    finally:
        sys.dont_write_bytecode = dont_write_bytecode
    return recipe


def test_every_python_directory_and_umask_builds_the_same_bytes(built: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "another place" / "checkout"
    checkout.mkdir(parents=True)
    os.umask(os.umask(0o077))
    for name in ("zipapp.spec", "thv_llm.py"):
        shutil.copy(TOP / name, checkout)
        (checkout / name).chmod(0o600)
    shutil.copytree(TOP / "thv_llm", checkout / "thv_llm", copy_function=shutil.copyfile)
    for python in matrix.installed():
        dist = tmp_path / f"{python.version}-{python.build}"
        dist.mkdir()
        assert _build(python.path, checkout, dist, umask=0o077).read_bytes() == built.read_bytes(), python


def test_the_checksum_lies_beside_the_file_in_the_form_of_sha256sum(built: Path) -> None:
    checksum = hashlib.sha256(built.read_bytes()).hexdigest()

    assert built.with_name("thv-llm.pyz.sha256").read_text() == f"{checksum}  thv-llm.pyz\n"


def test_the_file_runs_by_itself_and_shuts_out_the_callers_directory(built: Path) -> None:
    assert built.read_bytes().startswith(b"#!/usr/bin/env -S python3 -I\n")
    assert built.stat().st_mode & 0o111 == 0o111


def test_a_module_is_compiled_once_and_its_file_has_the_usual_name(built: Path) -> None:
    code = (
        "import atexit, json, runpy, sys; compiled = []\n"
        "sys.addaudithook(lambda event, about: compiled.append(about[1]) if event == 'compile' else None)\n"
        "ours = lambda: {n: m.__file__ for n, m in sys.modules.items() if n.startswith('thv_llm')}\n"
        "atexit.register(lambda: print(json.dumps([compiled, ours()])))\n"
        "sys.argv[:] = [sys.argv[1], 'config', '--help']; runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    command = [sys.executable, "-I", "-c", code, str(built)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    compiled, names = json.loads(told.splitlines()[-1])

    assert "thv_llm.commands.config" in names
    assert all(compiled.count(path) == 1 for path in names.values())
    assert names["thv_llm.cli"] == f"{built}/thv_llm/cli.py"
    assert names["thv_llm.commands"] == f"{built}/thv_llm/commands/__init__.py"


def test_nothing_inside_is_compiled_hidden_dated_or_packed(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        entries = archive.infolist()
        elf = [entry.filename for entry in entries if archive.read(entry)[:4] == b"\x7fELF"]

    assert not elf
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert [entry.filename for entry in entries] == sorted({entry.filename for entry in entries})
    assert not [entry.filename for entry in entries if "__pycache__" in entry.filename]


def test_keyring_and_its_needs_are_inside(built: Path) -> None:
    code = (
        "import sys, json; sys.path[:0] = [sys.argv[1]]; import keyring.core, keyring.backends.fail\n"
        "import jeepney.io.blocking, tomli_w, keyring.backends.macOS, keyring.backends.chainer\n"
        "names = ('keyring', 'jeepney', 'tomli_w', 'jaraco.context')\n"
        "print(json.dumps([sys.modules[name].__file__ for name in names]))"
    )

    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(built)], capture_output=True, text=True, check=True
    )

    assert all(path.startswith(str(built)) for path in json.loads(told.stdout))


def test_licenses_and_hashes_of_all_packages_are_listed_by_the_file_itself(built: Path) -> None:
    command = [sys.executable, "-I", str(built), "--version", "--licenses"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(built) as archive:
        texts = [name for name in archive.namelist() if "LICENSE" in name and ".dist-info/" in name]

    wanted = [[name, version, license, sha256] for name, version, license, sha256 in _recipe().WHEELS]
    assert [line.split() for line in listing.splitlines()[3:-1]] == wanted
    assert len(texts) == len(wanted)


def test_all_that_is_inside_is_ours_or_of_a_listed_wheel_with_the_listed_license(built: Path) -> None:
    package = TOP / "thv_llm"
    ours = [*package.rglob("*.py"), *package.glob("manual/*.md"), *package.glob("commands/texts/*")]
    known = {path.relative_to(TOP).as_posix(): path.read_bytes() for path in ours}
    packed = {name: _recipe().without_docstrings(data) for name, data in known.items() if name[-3:] == ".py"}
    known.update(packed)
    known["__main__.py"] = (TOP / "thv_llm.py").read_bytes()
    for path, (_, _, license, _) in zip(_recipe().wheels(WHEELS), _recipe().WHEELS, strict=True):
        with zipfile.ZipFile(path) as wheel:
            members = {member: wheel.read(member) for member in wheel.namelist()}
        metadata = next(data.decode() for member, data in members.items() if member.endswith("METADATA"))
        assert f"License-Expression: {license}\n" in metadata or f"{license} License\n" in metadata, path
        known.update(members)
    known.update({f"{name}/__init__.py": text for name, text in _recipe().STAND_INS.items()})

    with zipfile.ZipFile(built) as archive:
        inside = {name: archive.read(name) for name in archive.namelist() if name != "LICENSES.txt"}

    assert {name for name, data in inside.items() if known.get(name) != data} == set()


def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe()
    cache = tmp_path / "wheels"
    shutil.copytree(WHEELS, cache)
    altered = next(cache.glob("tomli_w-*.whl"))
    altered.write_bytes(altered.read_bytes() + b"\n")
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(recipe.subprocess, "run", lambda *_, **__: done)  # no pip repairs the cache

    with pytest.raises(SystemExit, match=r"has its SHA-256: tomli-w[^\n]*\n  next: remove"):
        recipe.wheels(cache)


def test_without_network_one_error_says_what_else_can_be_done(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    # An older pip ends at a DeprecationWarning of its own where the tests make those an error.
    environ |= {"PYTHONWARNINGS": "ignore", "PYTHONDEVMODE": ""}
    environ |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(TOP / "zipapp.spec"), "--cache", str(tmp_path), "--dist", str(tmp_path)]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("zipapp.spec: error: the packages could not be downloaded\n")
    assert "  why:  the package index cannot be reached\n" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_without_pip_and_venv_one_error_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe()
    monkeypatch.setattr(recipe, "find_spec", lambda _: None)

    with pytest.raises(SystemExit, match=r"next: sudo apt install python3\.\d+-venv"):
        recipe.wheels(tmp_path)


@pytest.mark.parametrize(
    ("module", "needed", "users"),
    [
        ("jaraco/functools", "more_itertools", {"print_yielded"}),
        ("jaraco/context", "tarfile", {"tarball", "strip_first_component"}),
    ],
)
def test_nothing_that_is_used_needs_what_has_a_stand_in(
    built: Path, module: str, needed: str, users: set[str]
) -> None:
    with zipfile.ZipFile(built) as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}

    found = {
        outer.name
        for outer in ast.parse(sources.pop(f"{module}/__init__.py")).body
        if isinstance(outer, ast.FunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, ast.Name) and node.id == needed
    }
    assert found == users
    assert not [name for name, source in sources.items() for user in users if f"{user}(" in source]


def test_the_file_is_small(built: Path) -> None:
    assert built.stat().st_size <= 1_400_000


def test_the_modules_inside_are_those_of_the_sources_without_docstrings(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        for path in sorted((TOP / "thv_llm").rglob("*.py")):
            inside, source = archive.read(path.relative_to(TOP).as_posix()), path.read_bytes()

            assert inside.count(b"\n") == source.count(b"\n")
            assert b"Raises:" not in inside
            assert _bare(inside) == _bare(source), path


def _bare(source: bytes) -> str:
    """Return what a module does, with every docstring empty."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Expr(ast.Constant(str()) as constant):
                constant.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("name", ["a/b.so", "a.pyd", "x.dylib", "x.dll", "c.pyc", "run.pth"])
def test_a_package_with_compiled_or_self_starting_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = _recipe()
    wheel = tmp_path / "one.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, b"")
    monkeypatch.setattr(recipe, "wheels", lambda _: [wheel])

    with pytest.raises(SystemExit, match="refused"):
        recipe.contents(tmp_path)
