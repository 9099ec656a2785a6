"""Which mark of a tool counts, and how much."""

from __future__ import annotations

import os

import pytest

from tests.tools.machine import Machine
from thv_llm.tools.detect import How, detect
from thv_llm.tools.model import App, Binary, Directory, Extension, Folder, Tool

TOOL = Tool(
    "x",
    "X",
    "2026-01-01",
    found_by=(
        Directory(Folder("~/.x")),
        Extension("vendor.x"),
        App("/Applications/X.app"),
        Binary("x", says="The X", package="/@vendor/x/"),
    ),
)


def test_proof_wins_over_a_mere_directory(machine: Machine) -> None:
    (machine.home / ".x").mkdir()
    found = detect(TOOL, machine.place)
    assert found is not None
    assert (found.how, found.where, found.directory_only) == (How.DIRECTORY, f"{machine.home}/.x", True)
    extension = machine.home / ".vscode/extensions/vendor.x-1.2"
    extension.mkdir(parents=True)
    found = detect(TOOL, machine.place)
    assert found is not None
    assert (found.how, found.where, found.directory_only) == (How.EXTENSION, str(extension), False)
    program = machine.program("x", says="The X 1.0")
    found = detect(TOOL, machine.place)
    assert found is not None
    assert (found.how, found.where) == (How.PROGRAM, str(program))


def test_another_program_of_the_same_name_is_not_taken_for_it(machine: Machine) -> None:
    machine.program("x", says="a stranger")
    assert detect(TOOL, machine.place) is None


def test_a_program_whose_package_proves_it_is_not_run(machine: Machine) -> None:
    program = machine.program("x", says="does not matter")
    package = machine.top / "lib/@vendor/x/x.js"
    package.parent.mkdir(parents=True)
    program.rename(package)
    program.symlink_to(package)
    assert detect(TOOL, machine.place) is not None


def test_a_directory_that_cannot_be_read_holds_no_mark(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.home / ".vscode/extensions/vendor.x-1.2").mkdir(parents=True)

    def denied(directory: str) -> list[str]:  # root, as in a container, can read it whatever its mode
        raise PermissionError(13, "Permission denied", directory)

    monkeypatch.setattr(os, "listdir", denied)
    assert detect(TOOL, machine.place) is None


def test_a_file_in_the_place_of_a_directory_is_no_mark(machine: Machine) -> None:
    (machine.home / ".x").touch()
    assert detect(TOOL, machine.place) is None
