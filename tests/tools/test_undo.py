"""Teardown: our keys go, everything else stays, and a record that was tampered with leads nowhere."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tools.machines import KEY, Machine, succeeded
from thv_llm import sessions
from thv_llm.edit import Format, editor
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.state import Edition, WiredFile
from thv_llm.tools import engine
from thv_llm.tools.undo import Done, Original, decoded, digest, lost_keys, original

THEIRS = b'{\n  "theirs": 1\n}\n'


def written(data: bytes | None, **keys: str) -> tuple[bytes, Edition]:
    """Write keys into a file, as setup would."""
    wanted = {f"/{name}": value for name, value in keys.items()}
    text, changes = editor(Format.JSON).apply((data or b"").decode(), wanted)
    return text.encode(), Edition(changes, digest(text.encode()), done=True)


def record(*editions: Edition, created: bool = False) -> WiredFile:
    return WiredFile("/x/settings.json", Format.JSON.value, editions, created=created)


def test_no_file_has_nothing_of_ours() -> None:
    _, edition = written(THEIRS, a="1")
    assert original(None, record(edition)) == Original(None)


def test_what_we_wrote_is_taken_out_byte_for_byte() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    assert original(data, record(edition)) == Original(THEIRS, found=True)


def test_a_file_that_we_made_is_gone_when_nothing_else_is_in_it() -> None:
    data, edition = written(None, a="1")
    was = original(data, record(edition, created=True))
    assert (was.gone, was.before_us) == (True, None)
    assert not original(data, record(edition)).gone


def test_a_file_that_setup_made_stays_when_another_program_wrote_into_it() -> None:
    data, edition = written(None, a="1")
    was = original(data.replace(b"{", b'{"b": 2,', 1), record(edition, created=True))
    assert was.gone is False
    assert was.before_us is not None
    assert b'"b": 2' in was.before_us


def test_a_file_that_is_ours_alone_goes_with_what_others_wrote_into_it() -> None:
    data, edition = written(None, a="1")
    data = data.replace(b"{", b'{"b": 2,', 1)
    assert original(data, record(edition, created=True), ours_alone=True).gone
    assert not original(b'{"b": 2}', record(edition, created=True), ours_alone=True).gone


def test_a_change_that_was_about_to_be_written_is_recognized_either_way() -> None:
    old, first = written(THEIRS, a="1", b="2")
    new, second = written(THEIRS, a="3", c="4")
    pending = Edition(second.changes, second.after)
    for data in (old, new, THEIRS):
        was = original(data, record(first, pending))
        assert (was.data, was.left) == (THEIRS, ())


def test_changed_keys_stay_unless_they_were_never_written() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    changed = data.replace(b'"1"', b'"mine"')
    assert original(changed, record(edition)).left == ("/a",)
    assert original(changed, record(Edition(edition.changes, edition.after))).left == ()


def test_lost_keys_are_those_that_hold_something_else() -> None:
    data, edition = written(THEIRS, a="1", b="2")
    assert lost_keys(data, record(edition)) == ()
    assert lost_keys(data.replace(b'"2"', b"2"), record(edition)) == ("/b",)
    assert lost_keys(None, record(edition)) == ("/a", "/b")


def test_what_is_not_utf_8_is_named_by_its_line() -> None:
    with pytest.raises(ThvLlmError, match="line 2 is not UTF-8"):
        decoded(b"a\n\xff\n", "/x")


def test_a_format_that_is_not_known_is_an_error() -> None:
    _, edition = written(THEIRS, a="1")
    with pytest.raises(ThvLlmError, match="not known to this version"):
        original(THEIRS, WiredFile("/x", "ini", (edition,)))


CLAUDE, CODEX, OPENCODE, GOOSE, CLINE, VSCODE = (
    engine.by_name(name) for name in ("claude-code", "codex", "opencode", "goose", "cline", "vscode")
)


@pytest.fixture
def settings(machine: Machine) -> Path:
    path = machine.home / ".claude/settings.json"
    machine.write({path: '{\n  "model": "opus"\n}\n'})
    return path


def edit_state(machine: Machine, change: Callable[[dict[str, Any]], None]) -> None:
    path = Path(machine.paths.state)
    document = json.loads(path.read_text())
    del document["checksum"]
    change(document["wired"][0]["files"][0])
    path.write_bytes(sessions.encoded(document))


def test_it_says_what_it_did(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE, OPENCODE)
    undone = machine.teardown()
    assert [(file.tool, file.done) for file in undone] == [
        ("claude-code", Done.RESTORED),
        ("opencode", Done.DELETED),
    ]
    opencode = machine.home / ".config/opencode/opencode.json"
    assert [file.lines() for file in undone] == [
        (f"restored {settings}",),
        (f"deleted {opencode}, which setup had made",),
    ]


def test_a_dry_run_changes_nothing_and_has_the_difference(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE, OPENCODE)
    before, record = machine.snapshot(), machine.state
    undone = engine.revert(machine.paths, machine.place, dry_run=True)
    shown = "".join(engine.diff_of_undo(file, machine.values) for file in undone)
    assert f'-  "apiKeyHelper": "{machine.values.helper_path} --tool claude-code"' in shown
    assert "+++ /dev/null" in shown
    assert KEY.reveal() not in shown
    assert (machine.snapshot(), machine.state) == (before, record)


def test_where_nothing_was_set_up_nothing_is_made(machine: Machine) -> None:
    assert machine.teardown() == ()
    assert not Path(machine.paths.directory).exists()


def test_only_the_named_tool_is_undone(machine: Machine) -> None:
    machine.setup(CLAUDE, OPENCODE)
    machine.teardown("opencode")
    assert [tool.tool for tool in machine.state.wired] == ["claude-code"]
    assert machine.targets(CLAUDE)[0].exists()


def test_a_name_that_is_not_wired_is_an_error_that_lists_those_that_are(machine: Machine) -> None:
    machine.setup(CLAUDE, OPENCODE)
    with pytest.raises(UsageError, match="claude-code, opencode"):
        machine.teardown("codex")
    assert len(machine.state.wired) == 2


def test_the_users_later_edits_of_other_keys_stay(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE)
    document = json.loads(settings.read_text())
    document["model"] = "sonnet"
    document["env"]["MINE"] = "1"
    settings.write_text(json.dumps(document, indent=4))
    assert succeeded(machine.teardown())
    assert json.loads(settings.read_text()) == {"model": "sonnet", "env": {"MINE": "1"}}


def test_a_key_that_the_user_changed_is_left_alone_and_reported(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE)
    document = json.loads(settings.read_text())
    document["apiKeyHelper"] = "/my/own"
    settings.write_text(json.dumps(document))
    (undone,) = machine.teardown()
    assert undone.left == ("/apiKeyHelper",)
    assert undone.lines()[1] == f"left /apiKeyHelper in {settings}, because it was changed since setup"
    assert json.loads(settings.read_text()) == {"model": "opus", "apiKeyHelper": "/my/own"}
    assert machine.state.wired == ()


def test_the_users_previous_value_comes_back(machine: Machine, settings: Path) -> None:
    settings.write_text('{"apiKeyHelper" : "/my/old" , "env": {"ANTHROPIC_BASE_URL": null}}')
    before = settings.read_bytes()
    machine.setup(CLAUDE)
    machine.setup(CLAUDE, proxy_port=15000, gateway_url="https://other.example")
    machine.teardown()
    assert settings.read_bytes() == before


def test_a_file_of_ours_with_something_of_the_users_stays(machine: Machine) -> None:
    machine.setup(OPENCODE)
    (path,) = machine.targets(OPENCODE)
    document = json.loads(path.read_text())
    document["theme"] = "dark"
    path.write_text(json.dumps(document))
    (undone,) = machine.teardown()
    assert undone.done is Done.RESTORED
    assert json.loads(path.read_text()) == {"theme": "dark"}


def test_a_directory_of_ours_with_something_of_the_users_stays(machine: Machine) -> None:
    machine.setup(OPENCODE)
    (path,) = machine.targets(OPENCODE)
    machine.write({path.parent / "mine.txt": "x"})
    machine.teardown()
    assert sorted(machine.snapshot()) == [".config", ".config/opencode", ".config/opencode/mine.txt"]


def test_a_file_that_is_ours_alone_goes_with_what_the_tool_put_into_it(machine: Machine) -> None:
    machine.setup(GOOSE)
    (path,) = machine.targets(GOOSE)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "catalog": "x"}))
    machine.teardown()
    assert machine.snapshot() == {}


def test_what_a_tool_itself_keeps_writing_is_neither_drift_nor_left_over(machine: Machine) -> None:
    machine.setup(CLINE)
    (path,) = machine.targets(CLINE)
    document = json.loads(path.read_text())
    document["providers"]["openai-compatible"]["updatedAt"] = "2027-01-01"
    path.write_text(json.dumps(document, indent=1))
    assert engine.drift(machine.state) == ()
    assert machine.is_right(CLINE)
    (undone,) = machine.teardown()
    assert undone.left == ()
    assert machine.snapshot() == {}


def test_an_item_of_ours_goes_with_the_members_that_the_tool_added(machine: Machine) -> None:
    (path,) = machine.targets(VSCODE)
    machine.write({path: '[{"name": "theirs"}]'})
    machine.setup(VSCODE)
    items = json.loads(path.read_text())
    items[1]["addedByTheEditor"] = True
    path.write_text(json.dumps(items))
    assert engine.drift(machine.state) == ()
    machine.teardown()
    assert json.loads(path.read_text()) == [{"name": "theirs"}]


def test_a_file_that_is_gone_is_no_failure(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE)
    settings.unlink()
    (undone,) = machine.teardown()
    assert (undone.done, undone.left, undone.lines()) == (Done.NOTHING, (), ())
    assert machine.state.wired == ()
    assert not settings.exists()


@pytest.mark.posix
def test_a_file_of_ours_that_the_user_put_behind_a_link_is_emptied_and_the_link_goes(
    machine: Machine,
) -> None:
    machine.setup(OPENCODE)
    (path,) = machine.targets(OPENCODE)
    kept = machine.home / "dotfiles.json"
    path.rename(kept)
    path.symlink_to(kept)
    assert succeeded(machine.teardown())
    assert not path.is_symlink()
    assert kept.read_text() == ""


def test_a_file_that_does_not_parse_any_more_is_kept_in_the_record_and_the_others_go_on(
    machine: Machine, settings: Path
) -> None:
    machine.setup(OPENCODE, CLAUDE)
    settings.write_text("{ oops")
    undone = machine.teardown()
    assert [file.done for file in undone] == [Done.DELETED, Done.FAILED]
    assert undone[1].error is not None
    assert settings.read_text() == "{ oops"
    assert [tool.tool for tool in machine.state.wired] == ["claude-code"]
    settings.write_text("{}")
    assert succeeded(machine.teardown())


@pytest.mark.posix
def test_the_files_of_a_tool_are_undone_in_the_reverse_order(machine: Machine) -> None:
    machine.setup(engine.by_name("claude-desktop"))
    names = [Path(file.path).name for file in machine.teardown()]
    assert names[0] == "_meta.json"
    assert len(names) == 2


def test_a_tool_that_the_table_no_longer_has_is_undone(machine: Machine, settings: Path) -> None:
    before = settings.read_bytes()
    machine.setup(CLAUDE)
    assert succeeded(machine.teardown(tools=[replace(CODEX), replace(CLAUDE, id="renamed")]))
    assert settings.read_bytes() == before


def test_a_directory_of_ours_that_cannot_be_removed_is_told_and_can_be_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine.snapshot()
    machine.setup(CODEX)

    def refused(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refused)
        (undone,) = machine.teardown()

    assert undone.done is Done.FAILED
    assert f"cannot remove the directory {machine.home / '.codex'}" in str(undone.error)
    assert succeeded(machine.teardown())
    assert machine.snapshot() == before


def test_a_directory_that_a_variable_moved_is_found_again(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    machine = Machine(tmp_path, environ={"CLAUDE_CONFIG_DIR": str(elsewhere)})
    machine.setup(CLAUDE)
    assert (elsewhere / "settings.json").exists()

    machine.environ.clear()
    (undone,) = machine.teardown()
    assert undone.done is Done.FAILED
    assert "CLAUDE_CONFIG_DIR" in str(undone.error)
    assert (elsewhere / "settings.json").exists()

    machine.environ["CLAUDE_CONFIG_DIR"] = str(elsewhere)
    assert succeeded(machine.teardown())
    assert not elsewhere.exists()


def test_a_moved_directory_under_the_home_is_found_without_its_variable(tmp_path: Path) -> None:
    machine = Machine(tmp_path, environ={"CLAUDE_CONFIG_DIR": str(tmp_path / "home" / "moved")})
    machine.setup(CLAUDE)
    machine.environ.clear()
    assert succeeded(machine.teardown())
    assert machine.snapshot() == {}


OUTSIDE = '{"apiKeyHelper": "/home/me/.config/toolhive/bin/thv-llm-token", "x": 1}'


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{top}/outside/settings.json",
        "{home}/../outside/settings.json",
        "{home}/.ssh/authorized_keys",
        pytest.param("{home}/link/settings.json", marks=pytest.mark.posix),
        pytest.param("{home}/linked/settings.json", marks=pytest.mark.posix),
        pytest.param("{home}/named/settings.json", marks=pytest.mark.posix),
        pytest.param("{home}/a.fifo/settings.json", marks=pytest.mark.posix),
        "settings.json",
        "",
    ],
)
def test_a_tampered_path_is_refused_and_nothing_is_touched(
    machine: Machine, settings: Path, path: str
) -> None:
    machine.write(
        {
            machine.top / "outside" / "settings.json": OUTSIDE,
            machine.home / ".ssh" / "authorized_keys": OUTSIDE,
        }
    )
    for name in ("linked", "named", "a.fifo"):
        (machine.home / name).mkdir()
    fifo = machine.home / "a.fifo" / "settings.json"
    if sys.platform == "win32":
        fifo.touch()
    else:
        os.mkfifo(fifo)
        (machine.home / "link").symlink_to(machine.top / "outside")
        (machine.home / "linked" / "settings.json").symlink_to(machine.top / "outside" / "settings.json")
        (machine.home / "named" / "settings.json").symlink_to(machine.home / ".ssh" / "authorized_keys")
    machine.setup(CLAUDE)
    tampered = path.format(home=machine.home, top=machine.top)
    edit_state(machine, lambda file: file.update(path=tampered))
    fifo.rename(machine.top / "fifo")
    before = machine.snapshot()
    (machine.top / "fifo").rename(fifo)

    (undone,) = machine.teardown()

    assert undone.done is Done.FAILED
    assert isinstance(undone.error, ThvLlmError)
    fifo.unlink()
    assert machine.snapshot() == before
    assert (machine.top / "outside" / "settings.json").read_text() == OUTSIDE
    assert len(machine.state.wired) == 1


def test_a_tampered_record_of_creation_deletes_no_file_with_something_in_it(
    machine: Machine, settings: Path
) -> None:
    before = settings.read_bytes()
    machine.setup(CLAUDE)
    edit_state(machine, lambda file: file.update(created=True, created_dirs=[str(machine.home), "/"]))
    machine.teardown()
    assert settings.read_bytes() == before


def test_a_tampered_format_is_refused(machine: Machine, settings: Path) -> None:
    machine.setup(CLAUDE)
    before = machine.snapshot()
    edit_state(machine, lambda file: file.update(format="shell"))
    (undone,) = machine.teardown()
    assert undone.done is Done.FAILED
    assert machine.snapshot() == before


@pytest.mark.parametrize("names", [("vscodium", "zed"), ("zed", "vscodium")])
@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.posix
def test_a_directory_that_was_made_for_several_tools_goes_with_the_last(
    machine: Machine, names: tuple[str, str], one_by_one: bool
) -> None:
    before = machine.snapshot()
    for name in names:
        assert succeeded(machine.setup(engine.by_name(name)))
    if one_by_one:
        machine.teardown(names[0])
        assert (machine.home / ".config").is_dir()
    machine.teardown()
    assert machine.snapshot() == before
