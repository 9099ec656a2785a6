"""The state file: private, durable, never overwritten when it cannot be understood."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests import environs
from thv_llm import paths, sessions, state
from thv_llm.edit.model import Change
from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret
from thv_llm.sessions import SessionFacts, Sessions, StoredSession
from thv_llm.state import Edition, ServiceState, State, WiredFile, WiredTool

CHANGES = (
    Change("/a", None, '"ours"', {"made": "/"}),
    Change("/b", '"sk-theirs"', "1"),
)
FULL = State(
    wired=(
        WiredTool(
            "claude-code",
            "direct",
            (
                WiredFile(
                    path="/home/me/\udcff\n.json",
                    format="json",
                    editions=(Edition(CHANGES, "aa", "bb", done=True), Edition((), "cc")),
                    created=True,
                    created_dirs=("/home/me/x",),
                ),
            ),
        ),
    ),
    local_key=Secret("thv-key"),
    keys={"aider": Secret("thv-aider-key"), "env": Secret("thv-env-key")},
    service=ServiceState(wanted=True, proxy=True, program="/x/thv-llm.pyz"),
    sessions=Sessions(
        SessionFacts("keyring", "cli https://id 1", "sub", "me@example", 12.5, 3.0),
        (StoredSession("file", "cli https://id 2"),),
    ),
)


@pytest.fixture
def ours(tmp_path: Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "own"), str(tmp_path), str(tmp_path / "s"))


def test_a_missing_file_is_an_empty_state(ours: paths.Paths) -> None:
    assert state.load(ours.state) == State()


def test_what_is_written_is_read_back(ours: paths.Paths) -> None:
    assert state.update(ours, lambda _: FULL) == FULL
    assert state.load(ours.state) == FULL


def test_the_file_and_its_directory_are_private(ours: paths.Paths) -> None:
    state.update(ours, lambda _: FULL)
    assert environs.is_private(ours.state)
    assert environs.is_private(ours.directory)


def test_a_file_that_is_not_settled_is_half_way() -> None:
    file = FULL.wired[0].files[0]
    assert not file.is_settled
    assert replace(file, editions=file.editions[:1]).is_settled
    assert not replace(file, editions=file.editions[1:]).is_settled


def test_no_secret_of_the_user_is_in_the_repr_of_the_key() -> None:
    assert "thv-key" not in repr(FULL)
    assert "thv-aider" not in repr(FULL)


def test_nothing_is_written_when_nothing_changes(ours: paths.Paths) -> None:
    state.update(ours, lambda old: old)
    assert not os.path.exists(ours.directory)  # in a home that cannot be written, no lock either
    state.update(ours, lambda _: FULL)
    before = os.stat(ours.state).st_ino
    state.update(ours, lambda old: old)
    assert os.stat(ours.state).st_ino == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 1, "wired": {}}',
        '{"version": "1"}',
        '{"wired": []}',
        '{"version": 2}',
        '{"version": 1, "local_key": 5}',
        '{"version": 1, "wired": [{"tool": "x"}]}',
        '{"version": 1, "wired": [{"tool": "x", "mode": "direct", "files": [5]}]}',
        '{"version": 1, "session": {"expires_at": "soon"}}',
        "\udcff",
    ],
    ids=range(13),
)
def test_a_file_that_cannot_be_understood_is_an_error_and_stays(ours: paths.Paths, text: str) -> None:
    Path(ours.directory).mkdir()
    data = text.encode("utf-8", "surrogateescape")
    Path(ours.state).write_bytes(data)
    with pytest.raises(ThvLlmError, match=r"cannot understand .*llm-state\.json"):
        state.update(ours, lambda _: FULL)
    assert Path(ours.state).read_bytes() == data


@pytest.mark.parametrize("editions", [[], [{"done": True, "after": "", "wanted": "", "changes": [{}]}]])
def test_a_record_of_another_shape_is_not_understood(ours: paths.Paths, editions: list[object]) -> None:
    state.update(ours, lambda _: FULL)
    document = json.loads(Path(ours.state).read_text())
    del document["checksum"]
    document["wired"][0]["files"][0]["editions"] = editions
    Path(ours.state).write_bytes(sessions.encoded(document))
    with pytest.raises(ThvLlmError, match="cannot understand"):
        state.load(ours.state)


def test_an_edited_record_is_said_to_be_edited(ours: paths.Paths) -> None:
    state.update(ours, lambda _: FULL)
    Path(ours.state).write_bytes(Path(ours.state).read_bytes().replace(b"claude-code", b"claude-cods"))
    with pytest.raises(ThvLlmError) as caught:
        state.load(ours.state)
    assert caught.value.why == "its checksum is wrong: it was edited by hand, or is damaged"


@pytest.mark.many_files
def test_each_flipped_bit_is_noticed(ours: paths.Paths) -> None:
    state.update(ours, lambda _: FULL)
    whole = Path(ours.state).read_bytes()
    unnoticed = []
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            Path(ours.state).write_bytes(damaged)
            try:
                state.load(ours.state)
            except ThvLlmError:
                continue
            unnoticed.append((position, bit))
    assert unnoticed == []


def test_a_record_that_does_not_tell_the_previous_value_is_not_understood(ours: paths.Paths) -> None:
    state.update(ours, lambda _: FULL)
    document = json.loads(Path(ours.state).read_text())
    del document["checksum"], document["wired"][0]["files"][0]["editions"][0]["changes"][0]["before"]
    Path(ours.state).write_bytes(sessions.encoded(document))
    with pytest.raises(ThvLlmError, match="cannot understand"):
        state.load(ours.state)


def test_members_of_a_later_version_stay(ours: paths.Paths) -> None:
    state.update(ours, lambda _: FULL)
    document = json.loads(Path(ours.state).read_text())
    del document["checksum"]
    (tool, *_), later = document["wired"], {"later": [1]}
    for place in (document, tool, tool["files"][0]):
        place.update(later)
    Path(ours.state).write_bytes(sessions.encoded(document))
    new = state.update(
        ours, lambda old: state.with_tool(replace(old, local_key=Secret("thv-new")), old.wired[0])
    )
    written = json.loads(Path(ours.state).read_text())
    assert state.load(ours.state) == new
    assert written.pop("checksum")
    assert written == {**document, "local_key": "thv-new"}


def test_a_state_file_of_a_newer_version_is_refused_by_its_name(ours: paths.Paths) -> None:
    Path(ours.directory).mkdir()
    Path(ours.state).write_bytes(sessions.encoded({"version": 2}))
    with pytest.raises(ThvLlmError, match="a newer version of thv-llm wrote it"):
        state.load(ours.state)


def test_the_local_key_is_made_once_and_is_long(ours: paths.Paths) -> None:
    keys = {state.local_key(ours).reveal() for _ in range(3)}
    (key,) = keys
    assert key.startswith("thv-")
    assert len(key) >= 4 + 43
    assert key.replace("-", "").replace("_", "").isalnum()


def test_each_tool_has_a_random_key_of_its_own(ours: paths.Paths) -> None:
    first = state.keys(ours, ["aider", "claude-code"])
    again = state.keys(ours, ["claude-code", "run"])

    assert again["claude-code"] == first["claude-code"]
    assert set(again) == {"aider", "claude-code", "run"}
    assert len({key.reveal() for key in again.values()}) == 3
    for name, key in again.items():
        assert key.reveal().startswith(f"thv-{name}-")
        assert len(key.reveal()) == len(f"thv-{name}-") + 43
    assert set(state.load(ours.state).accepted.values()) == {"aider", "claude-code", "run"}


def test_the_key_goes_with_the_record(ours: paths.Paths) -> None:
    aider, other = (WiredTool(name, "proxy", FULL.wired[0].files) for name in ("aider", "cline"))
    state.update(ours, lambda _: State(wired=(aider, other)))
    state.keys(ours, ["aider", "cline"])

    left = state.update(ours, lambda old: state.with_tool(old, replace(aider, files=())))

    assert set(left.keys) == {"cline"}


def test_the_key_of_0_1_0_is_one_that_its_tools_show(ours: paths.Paths) -> None:
    Path(ours.directory).mkdir()
    Path(ours.state).write_text('{"version": 1, "local_key": "thv-old", "service": {}, "wired": []}')
    assert state.load(ours.state).accepted == {b"thv-old": ""}

    known = state.update(ours, lambda old: replace(old, is_shared=False))

    assert known.local_key == Secret("thv-old")
    assert state.load(ours.state).accepted == {}


def test_the_key_that_the_service_proves_is_not_one_that_a_tool_shows(ours: paths.Paths) -> None:
    state.local_key(ours)
    assert state.load(ours.state).accepted == {}


def test_parallel_updates_are_all_kept(ours: paths.Paths) -> None:
    def add(name: str) -> None:
        tool = WiredTool(name, "direct", FULL.wired[0].files)
        state.update(ours, lambda old: state.with_tool(old, tool))

    threads = [threading.Thread(target=add, args=(f"tool-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tool.tool for tool in state.load(ours.state).wired) == [f"tool-{n}" for n in range(8)]


def test_a_tool_without_files_leaves_the_record_and_the_others_keep_their_order() -> None:
    first, second, third = (WiredTool(name, "direct", FULL.wired[0].files) for name in "abc")
    full = State(wired=(first, second, third))
    changed = replace(second, mode="proxy")
    assert state.with_tool(full, changed).wired == (first, changed, third)
    assert state.with_tool(full, replace(second, files=())).wired == (first, third)
    assert State().tool("a") is None


def test_parallel_first_uses_get_the_same_local_key(
    ours: paths.Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    together = threading.Barrier(4)
    load = state.load

    def looked_up_at_the_same_time(path: str) -> State:
        found = load(path)
        if threading.current_thread() not in waited:
            waited.add(threading.current_thread())
            together.wait(timeout=5)
        return found

    waited: set[threading.Thread] = set()
    monkeypatch.setattr(state, "load", looked_up_at_the_same_time)
    threads = [threading.Thread(target=lambda: keys.append(state.local_key(ours).reveal())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1
