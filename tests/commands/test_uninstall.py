"""Removing everything: nothing of ours is left, or the record of what is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.commands.machine import Machine
from tests.tools.killing import killed_before
from thv_llm import state
from thv_llm.service import background


def everything(home: Path) -> dict[str, bytes | None]:
    """Return every file with its bytes, and every directory."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in sorted(home.rglob("*"))
    }


def test_nothing_is_left_but_the_program(here: Machine) -> None:
    before = everything(here.home)
    here.setup(with_service=True)
    here.run("token")

    done = here.run("uninstall")

    assert done.code == 0, done.err
    assert "Only the program is left: " in done.err
    assert here.provider.count("revoke") == 1
    assert everything(here.home) == before
    assert background.find(here.paths) is None


def test_a_machine_that_was_never_set_up_stays_as_it_is(here: Machine) -> None:
    before = everything(here.home)

    assert here.run("uninstall").code == 0
    assert everything(here.home) == before


def test_a_half_finished_setup_is_removed(here: Machine) -> None:
    before = everything(here.home)
    here.run("config", "set", "--gateway-url", here.gateway.url)
    state.local_key(here.paths)
    Path(here.paths.directory, ".thv-llm-llm-state.json").write_text("{")

    assert here.run("uninstall").code == 0
    assert everything(here.home) == before


@pytest.mark.parametrize(("options", "step"), [(("--lazy",), 1), ((), 13)])
def test_a_setup_that_was_killed_at_any_moment_leaves_nothing_behind(
    here: Machine, options: tuple[str, ...], step: int
) -> None:
    before = everything(here.home)
    number, is_over = 0, False
    while not is_over:
        with killed_before(number) as has_come_so_far:
            here.setup("--yes", "--token-store", "file", *options)
        is_over = not has_come_so_far()

        done = here.run("uninstall")

        assert done.code == 0, done.err
        assert everything(here.home) == before, f"killed before change {number}"
        number += step
    assert number > 20


def test_a_login_that_was_killed_leaves_nothing_behind(here: Machine) -> None:
    before = everything(here.home)
    Path(here.paths.directory).mkdir(mode=0o700, parents=True)
    for name in ("llm-login.lock", "llm-login.url", ".thv-llm-llm-login.url", "llm-discovery.json"):
        Path(here.paths.directory, name).write_text("https://id.example.com")

    assert here.run("uninstall").code == 0
    assert everything(here.home) == before


def test_settings_that_cannot_be_read_are_removed(here: Machine) -> None:
    here.setup()
    Path(here.paths.settings).write_text("gateway_url = ")

    assert here.run("uninstall").code == 0
    assert not Path(here.paths.directory).exists()


def test_what_could_not_be_put_back_keeps_its_record_and_the_session(here: Machine) -> None:
    here.setup()
    here.claude.write_text("{")

    done = here.run("uninstall")

    assert done.code == 1
    assert "still configured: claude-code" in done.err
    assert here.wired == ["claude-code"]
    assert Path(here.paths.settings).exists()
    assert here.provider.count("revoke") == 0


def test_files_of_others_in_our_directory_stay(here: Machine) -> None:
    here.setup()
    (Path(here.paths.directory) / "config.yaml").write_text("theirs")

    assert here.run("uninstall").code == 0
    assert os.listdir(here.paths.directory) == ["config.yaml"]


def test_a_user_who_says_no_loses_nothing(here: Machine) -> None:
    here.setup()
    before = everything(here.home)

    done = here.run("uninstall", is_terminal=True, stdin="n\n")

    assert done.code == 1
    assert "cancelled" in done.err
    assert everything(here.home) == before
