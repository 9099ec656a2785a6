"""Tearing down: everything, one tool, what the user changed meanwhile, and the session."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands.machine import Machine
from thv_llm import settings


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
    assert f'-\t"apiKeyHelper": "{here.paths.helper} --tool claude-code",' in done.out
    assert here.snapshot() == wired
    assert here.wired == ["claude-code", "opencode"]


def test_nothing_to_undo_is_said(here: Machine) -> None:
    done = here.run("teardown")

    assert done.code == 0
    assert "No tool is configured" in done.err


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


def lose_record(here: Machine) -> None:
    """Delete our directory, as a user does who wants to start anew."""
    shutil.rmtree(here.paths.directory)


def test_values_without_a_record_are_removed_once_the_user_agrees(here: Machine) -> None:
    here.setup()
    lose_record(here)

    done = here.run("teardown", is_terminal=True, stdin="y\n")

    assert done.code == 0
    assert str(here.claude) in done.err
    left = {"NODE_EXTRA_CA_CERTS": str(here.provider.ca_file)}  # it can be the user's as well
    assert json.loads(here.claude.read_bytes()) == {"model": "opus", "env": left}
    assert here.opencode.read_text() == '{\n  // mine\n  "theme": "gruvbox",\n}\n'


def test_values_without_a_record_stay_when_the_user_does_not_agree(here: Machine) -> None:
    here.setup()
    lose_record(here)
    before = here.snapshot()

    assert here.run("teardown", is_terminal=True, stdin="n\n").code == 1
    assert here.snapshot() == before
    assert here.wired == []


def test_values_without_a_record_are_refused_unattended(here: Machine) -> None:
    here.setup()
    lose_record(here)
    before = here.snapshot()

    for command in (["teardown"], ["teardown", "claude-code"], ["uninstall", "--yes"]):
        done = here.run(*command)
        assert done.code == 1
        assert "claude" in done.err
        assert "teardown" in done.err
    assert here.snapshot() == before


def test_another_installations_values_are_named_and_stay(here: Machine) -> None:
    other = here.home / "other"
    here.environ["THV_LLM_HOME"] = str(other)
    here.setup()
    del here.environ["THV_LLM_HOME"]
    before = here.snapshot()

    done = here.run("teardown")
    refused = here.setup()

    assert done.code == 0
    assert f"THV_LLM_HOME={other} thv-llm teardown" in done.err
    assert refused.code == 1
    assert f"THV_LLM_HOME={other} thv-llm teardown" in refused.err
    assert re.search("thv-llm setup .* --take-over\n", refused.err)
    assert here.snapshot() == before


def test_two_installations_are_undone_in_any_order(here: Machine) -> None:
    original = here.snapshot()
    here.environ["THV_LLM_HOME"] = str(here.home / "other")
    here.setup()
    del here.environ["THV_LLM_HOME"]
    assert here.setup("--take-over").code == 0

    here.environ["THV_LLM_HOME"] = str(here.home / "other")
    done = here.run("teardown")
    assert done.code == 0
    assert here.opencode.stat().st_mode & 0o077 == 0  # the other one's key is in it
    command = re.search("when that is gone: (chmod .*)", done.err)
    del here.environ["THV_LLM_HOME"]
    assert here.run("teardown").code == 0

    assert command
    subprocess.run(shlex.split(command[1]), check=True)
    assert json.loads(here.claude.read_bytes()) == {"model": "opus"}
    assert here.snapshot()[".config/opencode/opencode.jsonc"] == original[".config/opencode/opencode.jsonc"]


MINE = """{
  "model": "opus",
  "apiKeyHelper": "/mine",
  "env": {"ANTHROPIC_BASE_URL": "https://mine.example"}
}
"""


@pytest.mark.parametrize("first", ["other", "toolhive"])
def test_the_users_values_come_back_whichever_of_two_installations_is_undone_first(
    here: Machine, first: str
) -> None:
    here.write(here.claude, MINE)
    here.claude.chmod(0o644)
    codex = here.home / ".codex" / "config.toml"
    here.write(codex, 'model_provider = "corp"\n')
    here.install("codex")
    original = here.snapshot()
    homes = {name: str(here.home / name) for name in ("other", "toolhive")}
    here.environ["THV_LLM_HOME"] = homes["other"]
    here.setup("--client", "claude-code", "--client", "codex")
    here.environ["THV_LLM_HOME"] = homes["toolhive"]
    assert here.setup("--take-over", "--client", "claude-code", "--client", "codex").code == 0
    both = here.claude.read_bytes(), codex.read_bytes()

    here.environ["THV_LLM_HOME"] = homes.pop(first)
    done = here.run("teardown")

    assert done.code == 0, done.err
    if first == "other":  # whose values were replaced: the helper of the one never meets another gateway
        assert (here.claude.read_bytes(), codex.read_bytes()) == both
        assert f"Left {here.claude} as it is: it holds the settings of the thv-llm of" in done.err
    (here.environ["THV_LLM_HOME"],) = homes.values()
    assert "settings.json" in here.run("teardown").err
    left = {name: kept for name, kept in here.snapshot().items() if name in original}
    assert left == original


def test_with_the_last_tool_the_options_for_bedrock_are_forgotten(here: Machine) -> None:
    here.setup("--bedrock-compat", "--enable-1m", "--models", "m-1")

    assert "Forgot" not in here.run("teardown", "opencode").err
    assert settings.load(here.paths.settings).bedrock_compat
    done = here.run("teardown", "claude-code")

    assert done.code == 0
    assert "Forgot bedrock.compat, bedrock.enable_1m." in done.err
    saved = settings.load(here.paths.settings)
    assert (saved.bedrock_compat, saved.bedrock_enable_1m) == (False, False)
    assert saved.models == ("m-1",)
    assert "compat" not in Path(here.paths.settings).read_text()
