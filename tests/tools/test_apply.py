"""Writing what was planned: whatever happens in between, nothing is torn and teardown finds the way back."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench import homes
from tests.tools.killing import everywhere, killed_before
from tests.tools.machines import Machine, succeeded
from tests.tools.starts import begin
from thv_llm import files, state
from thv_llm.edit import Format, editor
from thv_llm.edit.model import Json
from thv_llm.errors import ThvLlmError
from thv_llm.system import file_system
from thv_llm.tools import engine, undo

CLAUDE, CODEX, OPENCODE, GEMINI = (
    engine.by_name(name) for name in ("claude-code", "codex", "opencode", "gemini-cli")
)

KINDS = tuple(
    name
    for name in ("claude-code", "codex", "llm", "gemini-cli", "claude-desktop", "vscode", "goose", "cline")
    if engine.by_name(name).edits  # not every one can be configured on Windows
)
"""One tool for each kind of edit: JSON, TOML, YAML, dotenv and two files, array items, own files."""


def test_apply_says_in_the_past_tense_what_it_did(machine: Machine) -> None:
    machine.write({machine.home / ".claude/settings.json": "{}"})
    outcomes = machine.setup(CLAUDE, OPENCODE)
    assert [outcome.lines for outcome in outcomes] == [
        (f"changed {machine.home / '.claude' / 'settings.json'}",),
        (f"created {machine.home / '.config' / 'opencode' / 'opencode.json'}",),
    ]
    assert [outcome.lines for outcome in machine.setup(CLAUDE, OPENCODE)] == [(), ()]


@pytest.mark.posix
def test_new_files_and_directories_are_private(machine: Machine) -> None:
    machine.setup(OPENCODE)
    modes = {name: mode & 0o777 for name, (mode, _) in machine.snapshot().items()}
    assert modes == {
        ".config": 0o700,
        ".config/opencode": 0o700,
        ".config/opencode/opencode.json": 0o600,
    }
    assert os.stat(machine.paths.state).st_mode & 0o777 == 0o600


def test_the_undo_record_is_on_disk_before_the_file_changes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, ...]] = []
    move = file_system.move_to_free_name

    def watching(source: str, target: str) -> bool:
        wired = machine.state.tool("claude-code")
        assert wired is not None
        seen.append(tuple(edition.done for file in wired.files for edition in file.editions))
        return move(source, target)

    monkeypatch.setattr(file_system, "move_to_free_name", watching)
    machine.setup(CLAUDE)
    assert seen == [(False,)]
    assert all(file.is_settled for wired in machine.state.wired for file in wired.files)


@pytest.mark.parametrize("start", ["absent", "typical"])
@pytest.mark.parametrize("name", KINDS)
def test_a_setup_killed_anywhere_tears_nothing_and_is_undone(tmp_path: Path, name: str, start: str) -> None:
    tool = engine.by_name(name)

    def prepared(number: int) -> Machine:
        machine = Machine(tmp_path / str(number))
        begin(machine, tool, start)
        return machine

    whole = prepared(-1)
    before = whole.snapshot()
    succeeded(whole.setup(tool))
    after = whole.snapshot()
    for number, machine in enumerate(everywhere(lambda machine: machine.setup(tool), prepared)):
        for path in machine.targets(tool):
            key = path.relative_to(machine.home).as_posix()
            assert machine.snapshot().get(key) in (before.get(key), after.get(key))
        if number % 2:
            assert succeeded(machine.setup(tool))
            assert machine.snapshot() == after
            assert all(file.is_settled for wired in machine.state.wired for file in wired.files)
        assert succeeded(machine.teardown())
        assert machine.snapshot() == before
        assert machine.state.wired == ()


@pytest.mark.parametrize("name", KINDS)
def test_a_second_setup_killed_anywhere_tears_nothing_and_is_undone(tmp_path: Path, name: str) -> None:
    tool = engine.by_name(name)

    def prepared(number: int) -> Machine:
        machine = Machine(tmp_path / str(number))
        begin(machine, tool, "typical")
        succeeded(machine.setup(tool, proxy_port=13999, gateway_url="https://old.example"))
        return machine

    before = Machine(tmp_path / "before")
    begin(before, tool, "typical")
    for machine in everywhere(lambda machine: machine.setup(tool), prepared):
        assert succeeded(machine.teardown())
        assert machine.snapshot() == before.snapshot()


@pytest.mark.parametrize("start", ["absent", "typical"])
@pytest.mark.parametrize("name", KINDS)
def test_a_teardown_killed_anywhere_tears_nothing_and_is_finished_by_the_next(
    tmp_path: Path, name: str, start: str
) -> None:
    tool = engine.by_name(name)
    before = Machine(tmp_path / "before")
    begin(before, tool, start)

    def prepared(number: int) -> Machine:
        machine = Machine(tmp_path / str(number))
        begin(machine, tool, start)
        succeeded(machine.setup(tool))
        return machine

    for machine in everywhere(lambda machine: machine.teardown(), prepared):
        undone = machine.teardown()
        assert succeeded(undone)
        assert not any(file.left for file in undone)
        assert machine.snapshot() == before.snapshot()


@pytest.mark.posix
def test_what_another_program_wrote_in_between_is_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: '{"a": 1}'})
    planned = machine.plan(CLAUDE)
    path.write_text('{"a": 2}')
    times = 0
    fchmod = os.fchmod

    def meanwhile(descriptor: int, mode: int) -> None:
        nonlocal times
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(path.parent)) and times < 3:
            times += 1
            path.write_text(f'{{"a": 2, "b": {times}}}')
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", meanwhile)
    assert succeeded(engine.apply([planned], machine.paths))
    assert times == 3
    assert '{"a": 2, "b": 3,' in path.read_text()
    machine.teardown()
    assert path.read_text() == '{"a": 2, "b": 3}'


def test_after_five_times_it_gives_up_and_leaves_the_file_to_the_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: "{}"})
    times = 0
    must_hold = files.read

    def busy(name: str) -> bytes | None:
        nonlocal times
        if name == str(path):
            times += 1
            path.write_text(f'{{"n": {times}}}')
        return must_hold(name)

    planned = machine.plan(CLAUDE)
    monkeypatch.setattr(files, "read", busy)
    (outcome,) = engine.apply([planned], machine.paths)
    assert isinstance(outcome.error, files.FileChangedError)
    assert "apiKeyHelper" not in path.read_text()
    assert machine.state.wired == ()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_one_tools_failure_stops_no_other_and_leaves_nothing_half(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    begin(machine, GEMINI, "typical")
    before = machine.snapshot()
    swap = file_system.swap

    def failing(source: str, target: str) -> bool:
        if target == str(machine.home / ".gemini/settings.json"):  # the second of its two files
            raise OSError(number, os.strerror(number))
        return swap(source, target)

    monkeypatch.setattr(file_system, "swap", failing)
    bad, good = machine.setup(GEMINI, CLAUDE)
    assert bad.error is not None
    assert f"cannot write {machine.home / '.gemini' / 'settings.json'}" in str(bad.error)
    assert os.strerror(number) in str(bad.error)
    assert good.error is None
    assert [wired.tool for wired in machine.state.wired] == ["claude-code"]
    assert {name: fact for name, fact in machine.snapshot().items() if ".claude" not in name} == before


@pytest.mark.posix
def test_a_tool_that_was_wired_stays_wired_when_a_second_setup_fails(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(machine, GEMINI, "typical")
    before = machine.snapshot()
    succeeded(machine.setup(GEMINI))
    with monkeypatch.context() as patched:

        def failing(source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, "full")

        planned = machine.plan(GEMINI, proxy_port=15000)
        patched.setattr(os, "rename", failing)
        (outcome,) = engine.apply([planned], machine.paths)
    assert outcome.error is not None
    assert "http://127.0.0.1:14000" in (machine.home / ".gemini/.env").read_text()
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before


def test_a_second_setup_at_the_same_time_waits_and_then_names_the_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = machine.plan(CLAUDE)
    monkeypatch.setattr("thv_llm.tools.engine.LOCK_TIMEOUT_S", 0.05)
    with files.lock(undo.lock_path(machine.paths), timeout_s=0, what="the test"):
        with pytest.raises(ThvLlmError, match=f"process {os.getpid()} "):
            engine.apply([planned], machine.paths)
    assert machine.snapshot() == {}


def test_a_plan_is_made_anew_from_what_another_setup_has_written(machine: Machine) -> None:
    begin(machine, CLAUDE, "typical")
    before = machine.snapshot()
    first, second = machine.plan(CLAUDE), machine.plan(CLAUDE, gateway_url="https://other.example")
    assert succeeded(engine.apply([first], machine.paths))
    assert succeeded(engine.apply([second], machine.paths))
    assert "https://other.example" in (machine.home / ".claude/settings.json").read_text()
    machine.teardown()
    assert machine.snapshot() == before


def test_an_undo_record_that_cannot_be_read_stops_everything_before_a_file_is_touched(
    machine: Machine,
) -> None:
    planned = machine.plan(CLAUDE)
    machine.write({Path(machine.paths.state): "{ not json"})
    with pytest.raises(ThvLlmError, match=r"cannot understand .*llm-state\.json"):
        engine.apply([planned], machine.paths)
    assert machine.snapshot() == {}
    assert Path(machine.paths.state).read_text() == "{ not json"


def test_a_key_that_the_user_had_given_the_same_value_stays_theirs(machine: Machine) -> None:
    path = machine.home / ".codex/config.toml"
    machine.write({path: 'model_provider = "thv-llm" # mine\n'})
    before = path.read_bytes()
    succeeded(machine.setup(CODEX))
    succeeded(machine.teardown())
    assert path.read_bytes() == before


def test_the_record_of_one_tool_does_not_disturb_anothers(machine: Machine) -> None:
    succeeded(machine.setup(CLAUDE, CODEX))
    claude = machine.state.tool("claude-code")
    succeeded(machine.setup(CODEX, gateway_url="https://other.example"))
    assert machine.state.tool("claude-code") == claude
    kept = replace(machine.state, service=state.ServiceState(wanted=True))
    state.update(machine.paths, lambda _: kept)
    succeeded(machine.teardown("codex"))
    assert machine.state.service.wanted
    assert [tool.tool for tool in machine.state.wired] == ["claude-code"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("setup"), st.integers(14000, 14003), st.none() | st.integers(0, 70)),
        st.tuples(st.just("teardown"), st.just(0), st.none() | st.integers(0, 40)),
        st.tuples(st.just("user"), st.integers(0, 5), st.none()),
    ),
    max_size=7,
)


@settings(max_examples=int(os.environ.get("THV_LLM_EXAMPLES", "40")), deadline=None)
@given(STEPS, st.sampled_from(["claude-code", "codex", "opencode", "vscode", "droid"]), st.booleans())
def test_whatever_happened_a_teardown_leaves_what_is_the_users(
    steps: list[tuple[str, int, int | None]], name: str, is_there: bool
) -> None:
    """Setups with other values, kills, and edits by the user in any order; then one teardown."""
    tool = engine.by_name(name)
    (edit,) = tool.edits
    change = editor(edit.format)
    with tempfile.TemporaryDirectory() as top:
        machine = Machine(Path(top))
        if is_there:
            begin(machine, tool, "typical")
        (path,) = machine.targets(tool)
        before, theirs = machine.snapshot(), path.read_text() if is_there else ""
        is_edited = False
        for what, number, killed in steps:
            with killed_before(10_000 if killed is None else killed):
                if what == "setup":
                    succeeded(
                        machine.setup(tool, proxy_port=number, gateway_url=f"https://g{number}.example")
                    )
                elif what == "teardown":
                    succeeded(machine.teardown())
            if what == "user" and path.exists():
                prefix = next(iter(edit.set))
                key = f"user{number}" if edit.format is Format.TOML else f"/user{number}"
                key = f"/[name=user{number}]" if prefix.startswith("/[") else key
                value: Json = {"name": f"user{number}"} if prefix.startswith("/[") else number
                path.write_text(change.apply(path.read_text(), {key: value})[0])
                theirs = change.apply(theirs, {key: value})[0]
                is_edited = True
        assert succeeded(machine.teardown())
        if is_edited:
            assert change.parse(path.read_text()).model == change.parse(theirs).model
        else:
            assert machine.snapshot() == before
        assert machine.state.wired == ()


@pytest.mark.posix
def test_no_edit_of_a_program_that_keeps_writing_is_lost(machine: Machine) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: '{"n": 0}'})
    seen: list[int] = []

    def keep_writing() -> None:
        for number in range(1, 201):
            document = json.loads(path.read_text())
            seen.append(document["n"])
            document["n"] = number
            beside = path.with_suffix(".theirs")
            beside.write_text(json.dumps(document))
            beside.rename(path)
            time.sleep(0.002)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    while writer.is_alive():
        machine.setup(CLAUDE)
        machine.teardown()
    writer.join()
    assert seen == list(range(200))


@pytest.mark.posix
@pytest.mark.parametrize("command", ["setup", "teardown"])
def test_a_tool_that_pauses_between_truncation_and_write_loses_nothing(
    machine: Machine, command: str
) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: '{"old": 1}'})
    if command == "teardown":
        machine.setup(CLAUDE)
    with path.open("w") as slow:
        timer = threading.Timer(0.3, print, ['{"new": 2}'], {"file": slow, "end": "", "flush": True})
        timer.start()
        done = machine.setup(CLAUDE) if command == "setup" else machine.teardown()
        timer.join()

    assert succeeded(done)
    assert json.loads(path.read_text())["new"] == 2
    machine.teardown()
    assert path.read_text() == '{"new": 2}'


@pytest.mark.parametrize("command", ["setup", "teardown"])
def test_a_file_that_stays_empty_after_a_change_is_left_to_the_other_program(
    machine: Machine, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.home / ".claude/settings.json"
    monkeypatch.setattr(files, "READ_AGAIN_S", 0.0)
    machine.write({path: '{"old": 1}'})
    plans = [machine.plan(CLAUDE)]
    if command == "teardown":
        machine.setup(CLAUDE)
    with path.open("w") as slow:
        done = engine.apply(plans, machine.paths) if command == "setup" else machine.teardown()
        slow.write('{"new": 2}')

    assert done[0].error
    assert "it is empty and was changed less than 2 seconds ago" in str(done[0].error)
    assert path.read_text() == '{"new": 2}', "the write went to a file that was gone"
    machine.teardown()
    assert path.read_text() == '{"new": 2}'


def test_a_file_that_is_emptied_at_the_last_moment_is_not_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: ""})
    plans = [machine.plan(CLAUDE)]
    monkeypatch.setattr(files, "READ_AGAIN_S", 0.0)
    swap = file_system.swap
    slow: list[TextIO] = []

    def truncated(first: str, second: str) -> bool:
        if not slow:
            slow.append(path.open("w"))
        return swap(first, second)

    monkeypatch.setattr(file_system, "swap", truncated)
    done = engine.apply(plans, machine.paths)
    with slow[0]:
        slow[0].write('{"new": 2}')

    assert done[0].error
    assert path.read_text() == '{"new": 2}'


def test_an_empty_file_of_long_ago_is_edited_and_comes_back(machine: Machine) -> None:
    path = machine.home / ".claude/settings.json"
    machine.write({path: ""})
    for _ in range(2):
        assert succeeded(machine.setup(CLAUDE))
        assert succeeded(machine.teardown())
        assert path.read_bytes() == b""


@pytest.mark.posix
def test_in_generated_homes_nothing_is_lost_and_metadata_stay_equal() -> None:
    assert homes.main(["8"]) == 0


def test_what_only_looks_like_a_temporary_file_of_ours_stays(machine: Machine) -> None:
    theirs = [machine.home / ".claude" / name for name in (".thv-llm-env", ".thv-llm-0123456789abcdef")]
    machine.write({machine.home / ".claude/settings.json": "{}", **dict.fromkeys(theirs, "export X=1")})
    succeeded(machine.setup(CLAUDE))
    machine.teardown()
    assert [path.read_bytes() for path in theirs] == [b"export X=1"] * 2
