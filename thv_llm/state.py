"""`llm-state.json`: the undo record, the local keys, and facts about service and sessions.

Machine-written, 0600, changed only under its lock and only by `update`. It never holds a
token. The undo record can hold values of the user's (a key that setup replaced), so nothing
in it is ever shown but paths and names of keys.

The undo record of one file is a list of *editions*: what we could have written there. A settled
file has one. While a change is under way there is one more, which is durable before the file is
touched; when the program is killed in between, both stay, and undoing tries the latest first.

A checksum shows that nothing but this program wrote the file: a damaged record could delete a value
of the user's. Members that this version does not know are kept (`others`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from thv_llm import files, sessions
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.secret import Secret
from thv_llm.sessions import VERSION, Sessions, items, mapping, typed, understood

if TYPE_CHECKING:
    from thv_llm.edit.model import Change

Others: TypeAlias = Mapping[str, object]
"""Members of an object in the file that a later version wrote: they stay in it."""

LOCK_TIMEOUT_S = 10.0
LOCAL_KEY_BYTES = 32
"""256 random bits: out of reach of guessing, however fast the proxy responds."""


@dataclass(frozen=True)
class Edition:
    """One change of ours to one file.

    Attributes:
        changes: what `edit` needs to take our keys out again.
        after: SHA-256 (hex) of the bytes that we wrote.
        wanted: the same of what setup wanted there, to see whether it would want it again.
        done: the file was written; else the write was only about to happen.
    """

    changes: tuple[Change, ...]
    after: str
    wanted: str = ""
    done: bool = False


@dataclass(frozen=True)
class WiredFile:
    """One file that setup changed.

    Attributes:
        format: name of the `edit` format that wrote it.
        editions: oldest first; never empty.
        created: there was no such file before the first edition.
        created_dirs: directories that were made for it, outermost first.
        denied: permissions of group and others that we took away, because the file holds our key.
        temporary: the name of a write that is under way, or was when its run was killed; "" = none.
    """

    path: str
    format: str
    editions: tuple[Edition, ...]
    created: bool = False
    created_dirs: tuple[str, ...] = ()
    denied: int = 0
    temporary: str = ""
    others: Others = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether no change was left half-way."""
        return len(self.editions) == 1 and self.editions[0].done


@dataclass(frozen=True)
class WiredTool:
    """One tool that setup wired.

    Attributes:
        mode: `direct` or `proxy`.
        models: the model ids that setup knew; None in a record of 0.1.0.
    """

    tool: str
    mode: str
    files: tuple[WiredFile, ...]
    models: tuple[str, ...] | None = None
    others: Others = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceState:
    """What setup asked of the background process.

    Attributes:
        wanted: it should run.
        proxy: with the proxy, because a proxy tool is wired.
        program: the `.pyz` or launcher that setup ran as.
        created_dirs: directories that were made for the service manager's file, outermost first.
    """

    wanted: bool = False
    proxy: bool = False
    program: str = ""
    created_dirs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedState:
    """What setup took from what the gateway publishes.

    Attributes:
        gateway_url: which gateway's; "" for nothing.
        keys: of settings.
    """

    gateway_url: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """All that we keep between runs, apart from settings and what is in the session's store.

    Attributes:
        local_key: what the service proves to know, so that no secret is sent to a foreign process.
        keys: what each tool shows to the proxy, by the tool's id; `run` and `env` have one each.
        is_shared: tools of a setup of 0.1.0 show `local_key` to the proxy.
    """

    wired: tuple[WiredTool, ...] = ()
    local_key: Secret | None = None
    keys: Mapping[str, Secret] = field(default_factory=dict)
    is_shared: bool = False
    service: ServiceState = field(default_factory=ServiceState)
    published: PublishedState = field(default_factory=PublishedState)
    sessions: Sessions = field(default_factory=Sessions)
    others: Others = field(default_factory=dict)

    def tool(self, name: str) -> WiredTool | None:
        """Return the undo record of one tool."""
        return next((wired for wired in self.wired if wired.tool == name), None)

    @property
    def accepted(self) -> dict[bytes, str]:
        """What the proxy accepts, and the name of the tool that shows it; "" when that is unknown."""
        accepted = {key.reveal().encode(): name for name, key in self.keys.items()}
        if self.is_shared and self.local_key:
            accepted[self.local_key.reveal().encode()] = ""
        return accepted


def load(path: str) -> State:
    """Read the state; a missing file is an empty state.

    Raises:
        ThvLlmError: the file cannot be understood.
    """
    with understood(path) as document:
        return _state(document)


def load_if_sound(path: str) -> State | None:
    """Read the state for a caller that can do without: None when it cannot be read or understood."""
    try:
        return load(path)
    except ThvLlmError:
        return None


def update(paths: Paths, change: Callable[[State], State]) -> State:
    """Apply `change` to the state on disk, under its lock, durably; return the new state.

    What changes nothing takes no lock, so that it works in a home that cannot be written.
    """
    if change(old := load(paths.state)) == old:
        return old
    with files.lock(paths.lock("state"), timeout_s=LOCK_TIMEOUT_S, what="the state file"):
        old = load(paths.state)
        new = change(old)
        if new != old:
            files.replace(paths.state, sessions.encoded(_document(new)))
        return new


def local_key(paths: Paths) -> Secret:
    """Return the key that the service proves to know; made the first time."""
    known = load(paths.state).local_key
    if known:
        return known
    made = update(paths, lambda state: state if state.local_key else replace(state, local_key=_new_key()))
    assert made.local_key
    return made.local_key


def keys(paths: Paths, names: Collection[str]) -> Mapping[str, Secret]:
    """Return the keys of all tools; those of the named ones are made the first time."""
    known = load(paths.state).keys
    if known.keys() >= set(names):
        return known

    def changed(old: State) -> State:
        made = {name: _new_key(f"{name}-") for name in names if name not in old.keys}
        return replace(old, keys={**old.keys, **made}) if made else old

    return update(paths, changed).keys


def forget_keys(paths: Paths) -> None:
    """Have the proxy accept no key any more."""
    update(paths, lambda old: replace(old, keys={}, is_shared=False))


def _new_key(name: str = "") -> Secret:
    import base64

    random = base64.urlsafe_b64encode(os.urandom(LOCAL_KEY_BYTES)).decode().rstrip("=")
    return Secret(f"thv-{name}{random}")


def with_tool(state: State, tool: WiredTool) -> State:
    """Return the state with this tool's record in place of its old one; without files it and its key go."""
    wired = {one.tool: one for one in state.wired} | {tool.tool: tool}  # it keeps its place
    if tool.files:
        return replace(state, wired=tuple(wired.values()))
    del wired[tool.tool]
    keys = {name: key for name, key in state.keys.items() if name != tool.tool}
    return replace(state, wired=tuple(wired.values()), keys=keys)


def update_sessions(paths: Paths, change: Callable[[Sessions], Sessions]) -> None:
    """Apply `change` to what the state says of sessions, as `update` does."""
    update(paths, lambda state: replace(state, sessions=change(state.sessions)))


def _document(state: State) -> dict[str, object]:
    return {
        "version": VERSION,
        "local_key": state.local_key.reveal() if state.local_key else None,
        "local_key_is_shared": state.is_shared,
        "keys": {name: key.reveal() for name, key in state.keys.items()},
        "service": vars(state.service),
        "published": vars(state.published),
        **sessions.written(state.sessions),
        "wired": [_tool_document(tool) for tool in state.wired],
        **state.others,
    }


def _tool_document(tool: WiredTool) -> dict[str, object]:
    return _with_others(vars(tool) | {"files": [_file_document(file) for file in tool.files]})


def _file_document(file: WiredFile) -> dict[str, object]:
    editions = [
        vars(edition) | {"changes": [change.to_json() for change in edition.changes]}
        for edition in file.editions
    ]
    return _with_others(vars(file) | {"editions": editions})


def _with_others(members: dict[str, Any]) -> dict[str, object]:
    """Return the members of a record with those of a later version among them."""
    others: Others = members.pop("others")
    return {**members, **others}


def _others(item: Mapping[str, object], like: Mapping[str, object]) -> Others:
    """Return the members that this version does not write."""
    return {name: value for name, value in item.items() if name not in like}


def _state(document: Mapping[str, object]) -> State:
    key = typed(document["local_key"], str) if document.get("local_key") else ""
    keys = mapping(document.get("keys", {}))
    return State(
        wired=tuple(_tool(item) for item in items(document.get("wired", []))),
        local_key=Secret(key) if key else None,
        keys={name: Secret(typed(value, str)) for name, value in keys.items()},
        is_shared=typed(document.get("local_key_is_shared", bool(key)), bool),
        service=_service(mapping(document.get("service", {}))),
        published=_published(mapping(document.get("published", {}))),
        sessions=sessions.parse(document),
        others=_others(document, _document(State())),
    )


def _service(item: Mapping[str, object]) -> ServiceState:
    return ServiceState(
        wanted=typed(item.get("wanted", False), bool),
        proxy=typed(item.get("proxy", False), bool),
        program=typed(item.get("program", ""), str),
        created_dirs=tuple(typed(path, str) for path in items(item.get("created_dirs", []))),
    )


def _published(item: Mapping[str, object]) -> PublishedState:
    return PublishedState(
        gateway_url=typed(item.get("gateway_url", ""), str),
        keys=tuple(typed(key, str) for key in items(item.get("keys", []))),
    )


def _tool(value: object) -> WiredTool:
    item = mapping(value)
    models = item.get("models")
    return WiredTool(
        tool=typed(item["tool"], str),
        mode=typed(item["mode"], str),
        files=tuple(_file(file) for file in items(item["files"])),
        models=None if models is None else tuple(typed(model, str) for model in items(models)),
        others=_others(item, _tool_document(WiredTool("", "", ()))),
    )


def _file(value: object) -> WiredFile:
    item = mapping(value)
    editions = tuple(_edition(edition) for edition in items(item["editions"]))
    if not editions:
        raise ValueError("a file without editions")
    return WiredFile(
        path=typed(item["path"], str),
        format=typed(item["format"], str),
        editions=editions,
        created=typed(item["created"], bool),
        created_dirs=tuple(typed(path, str) for path in items(item["created_dirs"])),
        denied=typed(item.get("denied", 0), int),
        temporary=typed(item.get("temporary", ""), str),
        others=_others(item, _file_document(WiredFile("", "", ()))),
    )


def _edition(value: object) -> Edition:
    from thv_llm.edit.model import Change

    item = mapping(value)
    return Edition(
        changes=tuple(Change.from_json(mapping(change)) for change in items(item["changes"])),
        after=typed(item["after"], str),
        wanted=typed(item["wanted"], str),
        done=typed(item["done"], bool),
    )
