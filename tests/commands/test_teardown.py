"""Tearing down: everything, one tool, what the user changed meanwhile, and the session."""

from __future__ import annotations

from tests.commands.machine import Machine


def test_one_tool_can_be_undone_alone(here: Machine) -> None:
    before = here.claude.read_bytes()
    here.setup()

    done = here.run("teardown", "claude-code")

    assert done.code == 0
    assert here.claude.read_bytes() == before
    assert here.wired == ["opencode"]


def test_an_unknown_name_is_refused_with_those_that_are_wired(here: Machine) -> None:
    here.setup()
    wired = here.snapshot()

    done = here.run("teardown", "codex")

    assert done.code == 2
    assert "claude-code" in done.err
    assert "opencode" in done.err
    assert here.snapshot() == wired


def test_later_edits_of_the_user_stay(here: Machine) -> None:
    here.setup()
    text = here.opencode.read_bytes().decode().replace("gruvbox", "nord")
    here.opencode.write_bytes(text.encode())

    here.run("teardown")

    assert here.opencode.read_text() == '{\n  // mine\n  "theme": "nord",\n}\n'


def test_a_key_that_the_user_changed_is_left_alone_and_reported(here: Machine) -> None:
    here.setup()
    text = here.claude.read_bytes().decode().replace(here.paths.helper, "/own/helper")
    here.claude.write_bytes(text.encode())

    done = here.run("teardown")

    assert done.code == 0
    assert "apiKeyHelper" in done.err
    assert "/own/helper" in here.claude.read_text()


def test_a_dry_run_shows_the_changes_and_makes_none(here: Machine) -> None:
    here.setup()
    wired = here.snapshot()

    done = here.run("teardown", "--dry-run")

    assert done.code == 0
    assert f'-\t"apiKeyHelper": "{here.paths.helper}",' in done.out
    assert here.snapshot() == wired
    assert here.wired == ["claude-code", "opencode"]


def test_nothing_to_undo_is_said(here: Machine) -> None:
    done = here.run("teardown")

    assert done.code == 0
    assert "No tool is wired" in done.err


def test_purging_tokens_revokes_and_deletes_the_session_but_keeps_the_settings(here: Machine) -> None:
    here.setup()

    done = here.run("teardown", "--purge-tokens")

    assert done.code == 0
    assert here.provider.count("revoke") == 1
    assert here.run("token").code == 4
    assert here.gateway.url in here.run("config", "show").out


def test_the_session_survives_a_plain_teardown(here: Machine) -> None:
    here.setup()
    here.run("teardown")

    assert here.provider.count("revoke") == 0
    assert here.run("token").code == 0
