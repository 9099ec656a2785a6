"""Which mark of a tool counts, and how much."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.machines import VALUES, Machine
from thv_llm.tools import engine
from thv_llm.tools.machine import How, detect, loopback_through_proxy, warnings
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
    assert (found.how, found.where, found.directory_only) == (How.DIRECTORY, str(machine.home / ".x"), True)
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
    machine.program("x", says="another program")
    assert detect(TOOL, machine.place) is None


@pytest.mark.posix
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


CLAUDE, CODEX, OPENCODE = (engine.by_name(name) for name in ("claude-code", "codex", "opencode"))


def said(machine: Machine, tool: Tool, **changes: object) -> str:
    values = replace(VALUES, **changes)  # type: ignore[arg-type]
    return "\n".join(warnings(tool, machine.place, values))


def test_nothing_is_said_when_nothing_is_wrong(machine: Machine) -> None:
    assert [said(machine, tool) for tool in engine.TOOLS if tool.edits] == [""] * sum(
        bool(tool.edits) for tool in engine.TOOLS
    )


@pytest.mark.parametrize(
    "name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"]
)
def test_a_variable_that_overrides_us_is_named_but_not_its_value(machine: Machine, name: str) -> None:
    machine.environ[name] = "s3cret"
    shown = said(machine, CLAUDE)
    assert f"{name} is set: Claude Code" in shown
    assert "s3cret" not in shown
    assert said(machine, CODEX) == ""


@pytest.mark.posix
def test_an_organizations_settings_are_named(machine: Machine) -> None:
    path = Path(machine.place.expand("/etc/claude-code/managed-settings.json"))
    machine.write({path: "{}"})
    assert f"{path} is managed by your organization" in said(machine, CLAUDE)


@pytest.mark.parametrize(
    ("environ", "is_warned"),
    [
        ({}, False),
        ({"HTTPS_PROXY": "http://p"}, False),
        ({"HTTP_PROXY": "http://p"}, True),
        ({"http_proxy": "http://p"}, True),
        ({"ALL_PROXY": "socks5://p"}, True),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "localhost"}, True),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "localhost, 127.0.0.1"}, False),
        ({"HTTP_PROXY": "http://p", "no_proxy": "127.0.0.1:14000"}, False),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "*"}, False),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.0/8"}, False),
    ],
)
def test_a_proxy_without_an_exception_for_loopback_is_named(
    machine: Machine, environ: dict[str, str], is_warned: bool
) -> None:
    machine.environ.update(environ)
    assert bool(loopback_through_proxy(environ)) is is_warned
    assert bool(said(machine, OPENCODE)) is is_warned
    assert said(machine, CLAUDE) == ""


@pytest.mark.posix
def test_the_exception_to_add_keeps_those_that_are_there() -> None:
    (text,) = loopback_through_proxy({"HTTP_PROXY": "http://user:s3cret@p", "NO_PROXY": "corp.example"})
    assert "export NO_PROXY=corp.example,127.0.0.1,localhost" in text
    assert "s3cret" not in text


def test_unchecked_certificates_are_said_loudly(machine: Machine) -> None:
    assert "ANYTHING" in said(machine, CLAUDE, tls_skip_verify=True)
    assert "will refuse" in said(machine, CODEX, tls_skip_verify=True)
    assert said(machine, OPENCODE, tls_skip_verify=True) == ""


@pytest.mark.posix
def test_a_tool_without_a_setting_for_authorities_names_its_variable(machine: Machine) -> None:
    assert said(machine, CLAUDE, ca_file="/a b/ca.pem") == ""
    assert "export CODEX_CA_CERTIFICATE='/a b/ca.pem'" in said(machine, CODEX, ca_file="/a b/ca.pem")
    assert "the system's own" in said(machine, engine.by_name("claude-desktop"), ca_file="/ca.pem")
    machine.environ["CODEX_CA_CERTIFICATE"] = "/ca.pem"
    assert said(machine, CODEX, ca_file="/ca.pem") == ""
