"""Planning: reads, decides, writes nothing; what is right is left as it is."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.machines import Machine, succeeded
from thv_llm.errors import ThvLlmError
from thv_llm.tools import engine
from thv_llm.tools.model import Tool

CLAUDE, CODEX, OPENCODE, AIDER, CLINE, VSCODE, COPILOT = (
    engine.by_name(name)
    for name in ("claude-code", "codex", "opencode", "aider", "cline", "vscode", "copilot-cli")
)


@pytest.fixture
def settings(machine: Machine) -> Path:
    return machine.home / ".claude/settings.json"


def test_it_changes_nothing_on_disk(machine: Machine) -> None:
    planned = machine.plan(CLAUDE)
    assert engine.diff(planned)
    assert machine.snapshot() == {}
    assert not Path(machine.paths.directory).exists()


def test_it_tells_mode_and_next_steps(machine: Machine) -> None:
    planned = machine.plan(CLAUDE)
    assert planned.mode is engine.Mode.DIRECT
    assert planned.next_steps == CLAUDE.afterwards
    assert planned.warnings == ()


@pytest.mark.parametrize("text", ['{"a": 1, // why\n"b": 2}', '{"a": 1,}'])
def test_a_file_that_its_strict_tool_would_drop_is_refused(
    machine: Machine, settings: Path, text: str
) -> None:
    machine.write({settings: text})
    with pytest.raises(ThvLlmError, match=r"Claude Code was left as it is"):
        machine.plan(CLAUDE)


def test_what_is_not_utf_8_is_refused(machine: Machine, settings: Path) -> None:
    machine.write({settings: b'{"a": "\xff"}'})
    with pytest.raises(ThvLlmError, match=r"line 1 is not UTF-8"):
        machine.plan(CLAUDE)


def test_a_file_without_the_members_that_its_tool_insists_on_is_refused(machine: Machine) -> None:
    (path,) = machine.targets(CLINE)
    machine.write({path: '{"version": 1}'})
    with pytest.raises(ThvLlmError, match="'providers'"):
        machine.plan(CLINE)


def test_a_tool_that_needs_models_says_so_without_them(machine: Machine) -> None:
    with pytest.raises(ThvLlmError, match="no model ids are known"):
        machine.plan(OPENCODE, models=())
    assert not machine.is_right(CLAUDE, models=())


def test_a_helper_path_with_a_line_break_is_refused_where_it_is_needed(machine: Machine) -> None:
    with pytest.raises(ThvLlmError, match="line break"):
        machine.plan(CLAUDE, helper_path="/home/a\nb/helper")
    assert not machine.is_right(OPENCODE, helper_path="/home/a\nb/helper")


def test_options_add_their_keys(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE, ca_file="/ca.pem", tls_skip_verify=True, bedrock_compat=True)
    env = json.loads(settings.read_text())["env"]
    assert env["NODE_EXTRA_CA_CERTS"] == "/ca.pem"
    assert env["NODE_TLS_REJECT_UNAUTHORIZED"] == "0"
    assert env["CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS"] == "1"
    assert env["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "us.anthropic.claude-opus-4-8"


ENV = (
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY",
)
"""What Claude Code's settings always hold of ours, in order."""


def test_the_users_own_preferences_stay(machine: Machine, settings: Path) -> None:
    machine.write({settings: '{"env": {"CLAUDE_CODE_MAX_RETRIES": "10"}}'})
    machine.setup(CLAUDE)
    assert json.loads(settings.read_text())["env"]["CLAUDE_CODE_MAX_RETRIES"] == "10"
    settings.write_text(settings.read_text().replace('DISCOVERY": "1"', 'DISCOVERY": "0"'))
    machine.setup(CLAUDE)
    assert json.loads(settings.read_text())["env"]["CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"] == "0"
    assert not engine.drift(machine.state)


def test_keys_of_options_that_are_off_again_go(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE, bedrock_compat=True, tls_skip_verify=True)
    machine.setup(CLAUDE)
    assert set(json.loads(settings.read_text())["env"]) == set(ENV)


def test_the_users_own_authorities_stay_and_it_is_said(machine: Machine, settings: Path) -> None:
    machine.write({settings: '{"env": {"NODE_EXTRA_CA_CERTS": "/mine.pem"}}'})
    planned = machine.plan(CLAUDE, ca_file="/ca.pem")
    assert any("NODE_EXTRA_CA_CERTS stays" in note for note in planned.notes)
    machine.setup(CLAUDE, ca_file="/ca.pem")
    machine.setup(CLAUDE, ca_file="/ca.pem", proxy_port=15000)
    assert json.loads(settings.read_text())["env"]["NODE_EXTRA_CA_CERTS"] == "/mine.pem"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmodel: theirs\n",
        '"model": theirs\n',
        "'model': theirs\n",
        "model : theirs\n",
        "  verbose: true\n  model: theirs\n",
        "verbose: true\nmodel: theirs\n...\n",
        "a: &mine {model: theirs}\n<<: *mine\n",
    ],
)
def test_the_users_own_model_stays_in_yaml_and_it_is_said(machine: Machine, text: str) -> None:
    (path,) = machine.targets(AIDER)
    machine.write({path: text})
    assert any("your model stays" in note for note in machine.plan(AIDER).notes)
    succeeded(machine.setup(AIDER))
    assert "openai/" not in path.read_text()
    machine.teardown()
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["# model: theirs\nother-model: x\n", "a: |\n  model: b\nc:\n  model: d\n"])
def test_what_only_looks_like_a_model_in_yaml_is_none(machine: Machine, text: str) -> None:
    (path,) = machine.targets(AIDER)
    machine.write({path: text})
    machine.setup(AIDER)
    assert 'model: "openai/vendor/model-1"' in path.read_text()


def test_a_file_that_the_tool_has_reformatted_is_right_as_it_is(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE)
    document = json.loads(settings.read_text())
    settings.write_text(json.dumps(document, indent=8, sort_keys=True))
    assert machine.is_right(CLAUDE)
    assert engine.drift(machine.state) == ()


def test_keys_that_the_tool_lost_are_put_back_and_the_users_edits_kept(
    machine: Machine, settings: Path
) -> None:
    machine.setup(CLAUDE)
    settings.write_text('{"mine": 1}')
    assert [found.keys for found in engine.drift(machine.state)] == [
        ("/apiKeyHelper", *(f"/env/{name}" for name in ENV))
    ]
    assert succeeded(machine.setup(CLAUDE))
    assert engine.drift(machine.state) == ()
    assert json.loads(settings.read_text())["mine"] == 1
    machine.teardown()
    assert settings.read_text() == '{"mine": 1}'


def test_the_file_that_was_wired_stays_the_one_when_another_name_comes_up(machine: Machine) -> None:
    machine.setup(OPENCODE)
    machine.write({machine.home / ".config/opencode/opencode.jsonc": "{}"})
    assert machine.is_right(OPENCODE)
    machine.setup(OPENCODE, proxy_port=15000)
    assert (machine.home / ".config/opencode/opencode.jsonc").read_text() == "{}"


def test_new_values_replace_ours(machine: Machine) -> None:
    (path,) = machine.targets(CODEX)
    machine.write({path: "# mine\n"})
    machine.setup(CODEX)
    machine.setup(CODEX, gateway_url="https://new.example")
    document = tomllib.loads(path.read_text())
    assert document["model_providers"]["thv-llm"]["base_url"] == "https://new.example/v1"


def test_a_model_less_is_an_item_less(machine: Machine) -> None:
    machine.setup(COPILOT)
    machine.setup(COPILOT, models=("model-2",))
    document = json.loads(machine.targets(COPILOT)[0].read_text())
    assert [model["id"] for model in document["models"]] == ["model-2"]


@pytest.mark.posix
def test_all_profiles_of_an_editor_are_wired_and_undone(machine: Machine) -> None:
    user = machine.home / ".config/Code/User"
    (user / "profiles/one").mkdir(parents=True)
    before = machine.snapshot()
    machine.setup(VSCODE)
    assert (user / "profiles/one/chatLanguageModels.json").exists()
    machine.teardown()
    assert machine.snapshot() == before


@pytest.mark.posix
def test_a_dangling_link_is_an_error_and_stays(machine: Machine, settings: Path) -> None:
    settings.parent.mkdir()
    settings.symlink_to("nowhere")
    (outcome,) = machine.setup(CLAUDE)
    assert outcome.error is not None
    assert "does not exist" in str(outcome.error)
    assert settings.is_symlink()
    assert machine.state.wired == ()


def test_an_invented_tool_needs_an_entry_and_nothing_else(machine: Machine) -> None:
    invented = replace(CLAUDE, id="invented", title="Invented", overridden_by={}, managed_by=())
    assert succeeded(machine.setup(invented))
    assert succeeded(machine.teardown("invented", tools=(invented,)))
    assert machine.snapshot() == {}


@pytest.mark.parametrize(
    ("tool", "theirs", "dropped"),
    [
        (CLAUDE, '{"apiKeyHelper": "/mine", "a": 1}\n', '{"a": 1}\n'),
        (CLAUDE, '{"env": {"ANTHROPIC_BASE_URL": "https://mine"}}\n', '{"env": {}}\n'),
        (CODEX, 'model_provider = "corp"\na = 1\n', "a = 1\n"),
    ],
)
def test_a_second_setup_carries_on_what_was_there_before_the_first(
    machine: Machine, tool: Tool, theirs: str, dropped: str
) -> None:
    (path,) = machine.targets(tool)
    machine.write({path: theirs})
    machine.setup(tool)
    machine.write({path: dropped})
    (undone,) = engine.revert(machine.paths, machine.place, dry_run=True)
    assert undone.left == ()
    assert len(undone.absent) == 1
    assert "no longer in" in undone.lines()[-1]
    for _ in range(2):
        assert succeeded(machine.setup(tool))
    machine.teardown()
    parse = tomllib.loads if tool is CODEX else json.loads
    assert parse(path.read_text()) == parse(theirs)


def test_a_value_that_the_user_has_set_since_then_wins_over_an_older_one(
    machine: Machine, settings: Path
) -> None:
    machine.write({settings: '{"apiKeyHelper": "/mine"}'})
    machine.setup(CLAUDE)
    machine.write({settings: '{"apiKeyHelper": "/newer"}'})
    machine.setup(CLAUDE)
    machine.teardown()
    assert settings.read_text() == '{"apiKeyHelper": "/newer"}'


def test_a_change_of_gateway_or_port_makes_the_files_outdated(machine: Machine) -> None:
    machine.setup(CLAUDE, OPENCODE)
    assert engine.drift(machine.state, machine.place, machine.values) == ()

    values = replace(machine.values, gateway_url="https://new.example", proxy_port=15555, models=())
    found = engine.drift(machine.state, machine.place, values)

    assert [(one.tool, one.condition.value) for one in found] == [
        ("claude-code", "outdated"),
        ("opencode", "outdated"),
    ]
    assert {one.remedy for one in found} == {("thv-llm", "setup")}
