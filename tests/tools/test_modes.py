"""A settings file that gets our local key is private from then on, and as before after teardown."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.machines import Machine, succeeded
from thv_llm import state
from thv_llm.tools import engine

pytestmark = pytest.mark.posix

CLAUDE, OPENCODE = engine.by_name("claude-code"), engine.by_name("opencode")
THEIRS = '{"theme": "gruvbox"}\n'


@pytest.fixture
def settings(machine: Machine) -> Path:
    (path,) = machine.targets(OPENCODE)
    machine.write({path: THEIRS})
    path.chmod(0o644)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_gets_our_key_becomes_private_and_is_shared_again_afterwards(
    machine: Machine, settings: Path
) -> None:
    before = machine.snapshot()
    (outcome,) = machine.setup(OPENCODE)

    assert outcome.lines == (f"changed {settings} (private now)",)
    assert mode(settings) == 0o600

    assert succeeded(machine.teardown())
    assert machine.snapshot() == before


@pytest.mark.parametrize("was", [0o644, 0o664, 0o640, 0o755, 0o600])
def test_only_what_others_may_do_is_taken_and_given_back(machine: Machine, settings: Path, was: int) -> None:
    settings.chmod(was)

    machine.setup(OPENCODE)
    assert mode(settings) == was & 0o700
    machine.setup(OPENCODE, proxy_port=15000)
    assert mode(settings) == was & 0o700

    machine.teardown()
    assert mode(settings) == was


def test_a_file_without_our_key_keeps_its_mode(machine: Machine) -> None:
    (path,) = machine.targets(CLAUDE)
    machine.write({path: "{}"})
    path.chmod(0o644)

    machine.setup(CLAUDE)

    assert mode(path) == 0o644


def test_a_file_that_a_link_leads_to_is_private_too_if_it_is_in_the_home(
    machine: Machine, settings: Path
) -> None:
    dotfiles = machine.home / "dotfiles" / settings.name
    machine.write({dotfiles: THEIRS})
    dotfiles.chmod(0o644)
    settings.unlink()
    settings.symlink_to(dotfiles)
    before = machine.snapshot()

    machine.setup(OPENCODE)
    assert mode(dotfiles) == 0o600

    machine.teardown()
    assert machine.snapshot() == before


def test_a_file_elsewhere_that_a_link_leads_to_keeps_its_mode(machine: Machine, settings: Path) -> None:
    elsewhere = machine.top / "shared" / settings.name
    machine.write({elsewhere: THEIRS})
    elsewhere.chmod(0o664)
    settings.unlink()
    settings.symlink_to(elsewhere)

    machine.setup(OPENCODE)

    assert mode(elsewhere) == 0o664


def test_a_user_who_shares_the_file_again_is_not_overruled(machine: Machine, settings: Path) -> None:
    machine.setup(OPENCODE)
    settings.chmod(0o640)

    machine.teardown()

    assert mode(settings) == 0o640


def test_a_tampered_record_changes_only_what_group_and_others_have(machine: Machine, settings: Path) -> None:
    machine.setup(OPENCODE)
    (tool,) = machine.state.wired
    tampered = replace(tool, files=tuple(replace(file, denied=0o7777777) for file in tool.files))
    state.update(machine.paths, lambda known: state.with_tool(known, tampered))

    machine.teardown()

    assert mode(settings) == 0o677
