"""The contract of every entry in the table, whatever tool it is for.

The golden files in tests/golden/tools are what each tool gets; write them anew with
`THV_LLM_GOLDEN=write`, and read the difference.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.tools.machines import KEY, VALUES, Machine, succeeded
from tests.tools.starts import STARTS, begin
from thv_llm.edit import Format
from thv_llm.errors import ThvLlmError
from thv_llm.tools import engine
from thv_llm.tools.machine import detect
from thv_llm.tools.model import App, Binary, Directory, Edit, Extension, Mark, Mode, Tool, Value
from thv_llm.tools.registry import TOOLS, as_on
from thv_llm.tools.values import HELPER_VALUES, used

GOLDEN = Path(__file__).parents[1] / "golden" / "tools"
GATEWAY_VALUES = {value for value in Value if value.name.startswith("GATEWAY_")}
REWRITE = os.environ.get("THV_LLM_GOLDEN") == "write"

WIRED = [tool for tool in TOOLS if tool.edits]
OTHERS = [tool for tool in TOOLS if not tool.edits]
EXPECTED = """claude-code codex claude-desktop copilot-cli pi goose opencode kilo gemini-cli vscode
    vscode-insiders vscodium cline qwen-code llm aider droid kimi-code vibe zed junie avante
    codecompanion gptel cursor xcode copilot-for-xcode roo-code windsurf jetbrains continue crush openclaw
    gptme nanocoder grok-cli cecli shell-gpt opencommit aicommits mini-swe-agent hermes-agent aichat"""

every_wired_tool = pytest.mark.parametrize("tool", WIRED, ids=lambda tool: tool.id)
every_start = pytest.mark.parametrize("start", STARTS)


def leave(machine: Machine, tool: Tool, mark: Mark) -> None:
    """Leave the mark of an installed tool on the machine."""
    place = machine.place
    match mark:
        case Binary():
            machine.program(mark.name, mark.says)
        case App():
            Path(place.expand(mark.path)).mkdir(parents=True)
        case Extension():
            (Path(place.expand(mark.editors[0])) / "extensions" / f"{mark.name}-1.0").mkdir(parents=True)
        case Directory():
            Path(place.folder(mark.folder)).mkdir(parents=True)


def test_no_tool_has_gone_and_none_is_there_twice() -> None:
    ids = [tool.id for tool in TOOLS]
    assert set(ids) >= set(EXPECTED.split())
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_nothing_is_found_in_an_empty_home(machine: Machine, tool: Tool) -> None:
    assert detect(tool, machine.place) is None


@pytest.mark.parametrize("platform", ["win32"] if sys.platform == "win32" else ["linux", "darwin"])
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_every_mark_gives_its_tool_away(tmp_path: Path, tool: Tool, platform: str) -> None:
    assert tool.found_by
    for number, mark in enumerate(tool.found_by):
        machine = Machine(tmp_path / str(number), platform=platform)
        if isinstance(mark, App) and not machine.place.expand(mark.path):
            continue  # of another system
        leave(machine, tool, mark)
        found = detect(tool, machine.place)
        assert found is not None, mark
        assert found.directory_only == isinstance(mark, Directory)
        assert found.where.startswith(str(tmp_path))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.id)
def test_every_entry_says_how_it_was_checked_and_when(tool: Tool) -> None:
    assert re.search(r"20\d\d-\d\d-\d\d", tool.checked)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", tool.id)


@pytest.mark.parametrize("tool", OTHERS, ids=lambda tool: tool.id)
def test_a_tool_that_cannot_be_wired_says_why_and_what_to_do(machine: Machine, tool: Tool) -> None:
    assert tool.reason
    assert tool.snippet or tool.remedy
    assert engine.mode(tool) in (Mode.MANUAL, Mode.NONE)
    with pytest.raises(ThvLlmError, match="cannot be configured by setup"):
        machine.plan(tool)


@every_wired_tool
def test_a_wired_tool_says_what_is_left_to_do(tool: Tool) -> None:
    assert tool.afterwards
    assert not tool.reason


@every_wired_tool
def test_route_and_credential_fit(machine: Machine, tool: Tool) -> None:
    """A proxy URL goes with the local key, a gateway URL with the helper; never a mixture."""
    values = used(tool)
    if engine.mode(tool) is Mode.PROXY:
        assert not values & (HELPER_VALUES | GATEWAY_VALUES)
        assert Value.LOCAL_KEY in values or any("key" in step for step in tool.afterwards)
    else:
        assert engine.mode(tool) is Mode.DIRECT
        assert values & HELPER_VALUES
        assert values & GATEWAY_VALUES
        assert Value.LOCAL_KEY not in values
    text = "".join(text for _, text in engine.preview(tool, machine.place, VALUES))
    assert "localhost" not in text
    assert "/v1/v1" not in text


@pytest.mark.posix
@every_wired_tool
def test_the_files_are_as_the_golden_file_says(machine: Machine, tool: Tool) -> None:
    shown = []
    for start in ("absent", "typical"):
        fresh = Machine(machine.top / start)
        begin(fresh, tool, start)
        assert succeeded(fresh.setup(tool))
        for path in fresh.targets(tool):
            name = path.relative_to(fresh.home)
            shown.append(f"=== ~/{name}, {start} before\n{path.read_text()}")
    text = "".join(shown)
    golden = GOLDEN / f"{tool.id}.txt"
    if REWRITE:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.posix
def test_there_is_no_golden_file_without_its_tool() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(tool.id for tool in WIRED)


@every_start
@every_wired_tool
def test_twice_is_once_and_undone_is_as_before(machine: Machine, tool: Tool, start: str) -> None:
    begin(machine, tool, start)
    before = machine.snapshot()
    assert succeeded(machine.setup(tool))
    after = machine.snapshot()
    assert after != before

    assert machine.is_right(tool)
    assert [outcome.lines for outcome in machine.setup(tool)] == [()]
    assert machine.snapshot() == after

    assert succeeded(machine.teardown())
    assert machine.snapshot() == before
    assert machine.state.wired == ()


@every_wired_tool
def test_only_declared_files_are_touched(machine: Machine, tool: Tool) -> None:
    begin(machine, tool, "typical")
    machine.write({machine.home / "bystander" / "settings.json": "{}"})
    before = machine.snapshot()
    assert succeeded(machine.setup(tool))
    after = machine.snapshot()
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {path.relative_to(machine.home).as_posix() for path in machine.targets(tool)}
    assert set(before) <= set(after)


@pytest.mark.posix
@every_wired_tool
def test_links_stay_links_and_modes_stay_but_where_our_key_is(machine: Machine, tool: Tool) -> None:
    begin(machine, tool, "typical")
    for number, path in enumerate(machine.targets(tool)):
        kept = machine.home / "dotfiles" / str(number) / path.name
        kept.parent.mkdir(parents=True)
        path.rename(kept)
        kept.chmod(0o640)
        path.symlink_to(kept)
    before = machine.snapshot()
    assert succeeded(machine.setup(tool))
    assert all(path.is_symlink() for path in machine.targets(tool))
    for path in machine.targets(tool):
        holds_key = KEY.reveal() in path.read_text()
        assert path.stat().st_mode & 0o777 == (0o600 if holds_key else 0o640)
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"\r\n", b"\n")])
@every_wired_tool
def test_line_ends_that_were_changed_meanwhile_do_not_matter(
    machine: Machine, tool: Tool, old: bytes, new: bytes
) -> None:
    """As editors of Windows do it, and git, where people keep their settings in it."""
    begin(machine, tool, "typical")
    for path in machine.targets(tool):
        path.write_bytes(path.read_bytes().replace(b"\n", old))
    before = machine.snapshot()
    assert succeeded(machine.setup(tool))
    for path in machine.targets(tool):
        path.write_bytes(path.read_bytes().replace(old, new))
    assert machine.is_right(tool)
    undone = machine.teardown()
    assert succeeded(undone)
    assert not any(file.left for file in undone)
    assert words(machine.snapshot()) == words(before)


def words(snapshot: Mapping[str, tuple[int, bytes]]) -> dict[str, bytes]:
    return {name: b"".join(data.split()) for name, (_, data) in snapshot.items()}


@every_start
@every_wired_tool
def test_what_an_older_version_wrote_is_brought_up_to_date_and_undone(
    machine: Machine, tool: Tool, start: str
) -> None:
    begin(machine, tool, start)
    before = machine.snapshot()
    assert succeeded(machine.setup(older(tool), proxy_port=13999, helper_path="/old/thv-llm-token"))
    assert succeeded(machine.setup(tool))
    fresh = Machine(machine.top / "fresh")
    begin(fresh, tool, start)
    assert succeeded(fresh.setup(tool))
    assert machine.snapshot() == fresh.snapshot()
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before


def older(tool: Tool) -> Tool:
    """Return an entry as an older version can have had it: with one more key, and without the last one."""
    return replace(tool, edits=tuple(_older(edit) for edit in tool.edits))


def _older(edit: Edit) -> Edit:
    extra = {
        Format.TOML: "thv_llm_was_here",
        Format.DOTENV: "THV_LLM_WAS_HERE",
        Format.YAML: "",
    }.get(edit.format, "/[name=thv-llm-old]" if next(iter(edit.set)).startswith("/[") else "/thvLlmWasHere")
    kept = dict(list(edit.set.items())[: max(1, len(edit.set) - 1)])
    if not extra:
        return replace(edit, set=kept)
    value = {"name": "thv-llm-old"} if extra.startswith("/[") else "yes"
    return replace(edit, set={**kept, extra: value}, beside={})


@every_wired_tool
def test_a_file_that_cannot_be_parsed_is_named_and_left_alone(machine: Machine, tool: Tool) -> None:
    broken = {
        Format.TOML: "a = 1\nb = = 2\n",
        Format.YAML: "a: 1\n\tb: 2\n",
        Format.DOTENV: "A=1\nB='not closed\n",
    }
    texts = {
        path: broken.get(edit.format, '{\n  "a": 1,\n  "b": ]\n}\n')
        for edit in tool.edits
        for path in map(Path, machine.place.targets(edit))
    }
    machine.write(texts)
    before = machine.snapshot()
    with pytest.raises(ThvLlmError) as caught:
        machine.plan(tool)
    places = [f"{path}:{3 if path.suffix in ('.json', '.jsonc') else 2}" for path in texts]
    assert any(re.match(rf"{re.escape(place)}:\d+: ", caught.value.why) for place in places)
    assert machine.snapshot() == before


@pytest.mark.parametrize("theirs", ["model: theirs\n", "# theirs\n", "other: 1\n"])
@pytest.mark.parametrize("tool", [tool for tool in WIRED if any(edit.new_only for edit in tool.edits)])
def test_a_file_that_is_only_made_is_left_alone_once_it_is_the_users(
    machine: Machine, tool: Tool, theirs: str
) -> None:
    [path] = machine.targets(tool)
    machine.write({path: theirs})
    with pytest.raises(ThvLlmError, match="was left as it is") as caught:
        machine.plan(tool)
    assert f"thv-llm tools {tool.id}" in caught.value.next_step
    assert str(path) in caught.value.why
    snippet = yaml.safe_load(engine.snippet(tool, VALUES))
    path.unlink()
    assert succeeded(machine.setup(tool))
    written = yaml.safe_load(path.read_text())
    assert _first_models(written) == _first_models(snippet)

    path.write_text(path.read_text() + "later: 1\n")  # what the user adds to ours is theirs
    assert succeeded(machine.setup(tool, proxy_port=14001))
    assert "14001" in path.read_text()
    assert succeeded(machine.teardown())
    assert path.read_text() == "later: 1\n"


def _first_models(value: object) -> object:
    """Return a value with one element in each list, because a snippet names one model."""
    if isinstance(value, dict):
        return {key: _first_models(member) for key, member in value.items()}
    return [_first_models(element) for element in value[:1]] if isinstance(value, list) else value


@every_wired_tool
def test_the_diff_shows_each_file_and_no_secret(machine: Machine, tool: Tool) -> None:
    begin(machine, tool, "typical")
    shown = engine.diff(machine.plan(tool))
    for path in machine.targets(tool):
        assert f"+++ {path}" in shown
    assert KEY.reveal() not in shown
    assert "sk-theirs" not in shown
    if engine.mode(tool) is Mode.DIRECT:
        assert VALUES.helper_path in shown


@pytest.mark.posix
def test_a_tool_that_starts_no_interpreter_is_not_wired_on_windows() -> None:
    refused = [tool.id for tool in TOOLS if not as_on("win32", tool).edits and tool.edits]
    assert refused == ["claude-desktop"]
    assert "interpreter" in as_on("win32", next(tool for tool in TOOLS if tool.id == refused[0])).reason
