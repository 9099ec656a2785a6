"""`llm-state.json`: the undo record, the local key, and facts about service and session.

Machine-written, 0600, changed only under its lock and only by `update`. It never holds a
token. The undo record may hold values of the user's (a key that setup replaced), so nothing
in it is ever shown but paths and names of keys.

The undo record of one file is a list of *editions*: what we may have written there. A settled
file has one. While a change is under way there is one more, which is durable before the file is
touched; when the program is killed in between, both stay, and undoing tries the latest first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.paths import Paths
from thv_llm.secret import Secret

if TYPE_CHECKING:
    from thv_llm.edit.change import Change

VERSION = 1
LOCK_TIMEOUT_S = 10.0
LOCAL_KEY_BYTES = 32
"""256 random bits: out of reach of guessing, however fast the proxy answers."""

T = TypeVar("T")


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
    """

    path: str
    format: str
    editions: tuple[Edition, ...]
    created: bool = False
    created_dirs: tuple[str, ...] = ()
    denied: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether no change was left half-way."""
        return len(self.editions) == 1 and self.editions[0].done


@dataclass(frozen=True)
class WiredTool:
    """One tool that setup wired; `mode` is `direct` or `proxy`."""

    tool: str
    mode: str
    files: tuple[WiredFile, ...]


@dataclass(frozen=True)
class ServiceState:
    """What setup asked of the background process.

    Attributes:
        wanted: it should run.
        proxy: with the proxy, because a proxy tool is wired.
        program: the `.pyz` or launcher that setup ran as.
    """

    wanted: bool = False
    proxy: bool = False
    program: str = ""


@dataclass(frozen=True)
class StoredSession:
    """Where a session is: a store, by its name, and what the session is called there. No secret."""

    store: str
    key: str


@dataclass(frozen=True)
class SessionFacts:
    """What may be known of the latest login's session without opening its store.

    Attributes:
        store: name of the store; "" when there is no session.
        key: what the session is called there; "" if a version wrote this that did not record it.
        expires_at, logged_in_at: seconds since the epoch.
    """

    store: str = ""
    key: str = ""
    subject: str = ""
    who: str = ""
    expires_at: float | None = None
    logged_in_at: float | None = None


@dataclass(frozen=True)
class State:
    """All that we keep between runs, apart from settings and session.

    Attributes:
        earlier: sessions of logins with other settings, which nothing uses; `logout` ends them, too.
    """

    wired: tuple[WiredTool, ...] = ()
    local_key: Secret | None = None
    service: ServiceState = field(default_factory=ServiceState)
    session: SessionFacts = field(default_factory=SessionFacts)
    earlier: tuple[StoredSession, ...] = ()

    @property
    def stored(self) -> tuple[StoredSession, ...]:
        """Every session that is stored, the latest first."""
        latest = (StoredSession(self.session.store, self.session.key),) if self.session.store else ()
        return latest + self.earlier

    def session_of(self, key: str) -> SessionFacts:
        """Return what is known of the session of that name; without a store when there is none."""
        if self.session.store and self.session.key in (key, ""):
            return self.session
        earlier = (SessionFacts(one.store, one.key) for one in self.earlier if one.key == key)
        return next(earlier, SessionFacts())

    def tool(self, name: str) -> WiredTool | None:
        """Return the undo record of one tool."""
        return next((wired for wired in self.wired if wired.tool == name), None)


def load(path: str) -> State:
    """Read the state; a missing file is an empty state.

    Raises:
        ThvLlmError: the file cannot be understood. It is left as it is, because it is the
            only record of what the tools' files were.
    """
    data = files.read(path)
    if data is None:
        return State()
    import json

    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not JSON"
        raise _damaged(path, where) from None
    try:
        return _state(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"unexpected content ({type(error).__name__})") from None


def _damaged(path: str, why: str) -> ThvLlmError:
    return ThvLlmError(
        f"cannot understand {path}",
        why=why,
        next_step="restore it from a backup, or move it away: then teardown no longer knows what to undo",
    )


def update(paths: Paths, change: Callable[[State], State]) -> State:
    """Apply `change` to the state on disk, under its lock, durably; return the new state."""
    with files.lock(paths.lock("state"), timeout_s=LOCK_TIMEOUT_S, what="the state file"):
        old = load(paths.state)
        new = change(old)
        if new != old:
            _save(paths.state, new)
        return new


def local_key(paths: Paths) -> Secret:
    """Return the key that our proxy asks of the tools; made the first time."""
    known = load(paths.state).local_key
    if known:
        return known
    made = update(paths, lambda state: state if state.local_key else replace(state, local_key=_new_key()))
    assert made.local_key
    return made.local_key


def _new_key() -> Secret:
    import base64

    return Secret("thv-" + base64.urlsafe_b64encode(os.urandom(LOCAL_KEY_BYTES)).decode().rstrip("="))


def with_tool(state: State, tool: WiredTool) -> State:
    """Return the state with this tool's record in place of its old one; without files it goes."""
    others = tuple(wired for wired in state.wired if wired.tool != tool.tool)
    if not tool.files:
        return replace(state, wired=others)
    if len(others) == len(state.wired):
        return replace(state, wired=(*others, tool))
    return replace(state, wired=tuple(tool if w.tool == tool.tool else w for w in state.wired))


def with_session(state: State, facts: SessionFacts) -> State:
    """Return the state after a login; the session of other settings becomes an earlier one."""
    others = tuple(one for one in state.stored if one.key not in (facts.key, ""))
    return replace(state, session=facts, earlier=others)


def without_session(state: State, ended: StoredSession) -> State:
    """Return the state after a session was removed."""
    others = tuple(one for one in state.earlier if one != ended)
    is_latest = ended == StoredSession(state.session.store, state.session.key)
    return replace(state, session=SessionFacts() if is_latest else state.session, earlier=others)


def _save(path: str, state: State) -> None:
    import json

    text = json.dumps(_document(state), indent=1, ensure_ascii=True)
    files.replace(path, text.encode() + b"\n")


def _document(state: State) -> dict[str, object]:
    return {
        "version": VERSION,
        "local_key": state.local_key.reveal() if state.local_key else None,
        "service": vars(state.service),
        "session": vars(state.session),
        "earlier_sessions": [vars(one) for one in state.earlier],
        "wired": [
            {"tool": tool.tool, "mode": tool.mode, "files": [_file_document(file) for file in tool.files]}
            for tool in state.wired
        ],
    }


def _file_document(file: WiredFile) -> dict[str, object]:
    editions = [
        {
            "done": edition.done,
            "after": edition.after,
            "wanted": edition.wanted,
            "changes": [change.to_json() for change in edition.changes],
        }
        for edition in file.editions
    ]
    return {
        "path": file.path,
        "format": file.format,
        "created": file.created,
        "created_dirs": list(file.created_dirs),
        "denied": file.denied,
        "editions": editions,
    }


def _state(document: Mapping[str, object]) -> State:
    version = _typed(document["version"], int)
    if version > VERSION:
        raise ValueError("written by a newer version")
    key = _typed(document["local_key"], str) if document.get("local_key") else ""
    return State(
        wired=tuple(_tool(item) for item in _list(document.get("wired", []))),
        local_key=Secret(key) if key else None,
        service=_service(_mapping(document.get("service", {}))),
        session=_session(_mapping(document.get("session", {}))),
        earlier=tuple(_stored(item) for item in _list(document.get("earlier_sessions", []))),
    )


def _service(item: Mapping[str, object]) -> ServiceState:
    return ServiceState(
        wanted=_typed(item.get("wanted", False), bool),
        proxy=_typed(item.get("proxy", False), bool),
        program=_typed(item.get("program", ""), str),
    )


def _session(item: Mapping[str, object]) -> SessionFacts:
    return SessionFacts(
        store=_typed(item.get("store", ""), str),
        key=_typed(item.get("key", ""), str),
        subject=_typed(item.get("subject", ""), str),
        who=_typed(item.get("who", ""), str),
        expires_at=_time(item.get("expires_at")),
        logged_in_at=_time(item.get("logged_in_at")),
    )


def _stored(value: object) -> StoredSession:
    item = _mapping(value)
    return StoredSession(_typed(item["store"], str), _typed(item["key"], str))


def _tool(value: object) -> WiredTool:
    item = _mapping(value)
    return WiredTool(
        tool=_typed(item["tool"], str),
        mode=_typed(item["mode"], str),
        files=tuple(_file(file) for file in _list(item["files"])),
    )


def _file(value: object) -> WiredFile:
    item = _mapping(value)
    editions = tuple(_edition(edition) for edition in _list(item["editions"]))
    if not editions:
        raise ValueError("a file without editions")
    return WiredFile(
        path=_typed(item["path"], str),
        format=_typed(item["format"], str),
        editions=editions,
        created=_typed(item["created"], bool),
        created_dirs=tuple(_typed(path, str) for path in _list(item["created_dirs"])),
        denied=_typed(item.get("denied", 0), int),
    )


def _edition(value: object) -> Edition:
    from thv_llm.edit.change import Change

    item = _mapping(value)
    return Edition(
        changes=tuple(Change.from_json(_mapping(change)) for change in _list(item["changes"])),
        after=_typed(item["after"], str),
        wanted=_typed(item["wanted"], str),
        done=_typed(item["done"], bool),
    )


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def _list(value: object) -> list[object]:
    return _typed(value, list)


def _mapping(value: object) -> Mapping[str, object]:
    return _typed(value, dict)


def _time(value: object) -> float | None:
    if value is None or isinstance(value, float):
        return value
    return float(_typed(value, int))
