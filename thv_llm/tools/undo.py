"""Put back what setup changed: by the undo record, and where none tells, by what is ours in a file.

Rule 1: the record is not trusted. A path in it must be one that the tool's entry yields now,
        or else, links resolved, lie under the home directory and bear the name of a settings
        file that we know. (That it is a regular file is the rule of `files`.)
Rule 2: only keys that still hold our value are taken out; what the user changed stays.
Rule 3: only a file that setup made, and in which nothing else remains, is deleted, and then the
        directories that were made for it.
Rule 4: a record is dropped after its file is right, never before, so that a run that is
        killed can be repeated.
Rule 5: without a record a credential of ours proves that values are ours, nothing else: a path to a
        credential helper in a `bin` directory, a local key beside a loopback URL, or a provider of our
        name at one. In a tool's files with such a proof, a value that is exactly what setup would write
        is ours, too, and so is one by our name.
Rule 6: values of ours are never recorded as the user's previous ones. They come into a file without
        a record when a tool writes old settings back, when our directory was deleted, or when
        settings are synced from another machine.
Rule 7: values of another installation that is still there are `foreign`: they belong to its record. A
        file that it has taken over is left to it as a whole: with its helper beside what was there
        before ours, its tokens would go elsewhere. It has recorded what was there before both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, TypeVar

from thv_llm import files, state, system
from thv_llm.edit import Format, editor
from thv_llm.edit.document import Editor
from thv_llm.edit.model import MISSING, Item, Json, Missing, contains, lookup
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.paths import Paths
from thv_llm.state import Edition, State, WiredFile, WiredTool
from thv_llm.system import file_system
from thv_llm.tools.machine import Place
from thv_llm.tools.model import NAME, Edit, Tool, Values
from thv_llm.tools.registry import RETIRED_NAMES, TOOLS

NAMED = re.compile(rf"{NAME}(?:[/: ].*)?")
"""A provider of ours, or a model by it."""
HELPERS = ("thv-llm-token", "thv-llm-token.py")
ABSOLUTE = re.compile(r"/|[A-Za-z]:[/\\]")
"""How an absolute path begins, on this system or on that of the machine that settings were synced from."""
KEY = re.compile(r"(?<![\w-])thv-[A-Za-z0-9_-]{40,}")
LOOPBACK = re.compile(r"//(?:127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})(?!\d)")
LOCK_TIMEOUT_S = 30.0
"""For a setup that is at work: it writes some forty small files."""

MAX_TRIES = 5
"""How often to start again when another program writes the file at the same moment."""

T = TypeVar("T")


class Owned(NamedTuple):
    """Values of ours that a file can hold.

    Attributes:
        keys: where they are, if a file of the tool proves it.
        is_proved: this file does: a credential of ours is among them.
        foreign: another installation that is still there and wrote them, in words; "" = this one, or
            one that was removed.
        undo: the command by which that installation takes its values back.
        home: its directory; "" when that is not known.
    """

    keys: tuple[str, ...]
    is_proved: bool = True
    foreign: str = ""
    undo: str = ""
    home: str = ""


class ForeignError(ThvLlmError):
    """A file holds the values of another installation.

    Attributes:
        path: the file.
        holds: what it holds, in words.
        undo: the command by which that installation takes them back; "" when it is not known.
    """

    path = ""
    holds = ""
    undo = ""


def owned(
    edit: Editor,
    text: str,
    wanted: Sequence[Mapping[str, Json]],
    values: Values,
    *,
    addresses: Collection[str] = (),
) -> Owned:
    """Return what a text holds of ours at the keys that setup wants to set.

    Args:
        wanted: what setup could have wanted; one for each model that could have been the first.
        addresses: keys of URLs to which the credential goes: they are ours as it is.
    """
    now = {key: edit.value(text, key) for one in wanted for key in one}
    held = {key: tuple(texts(value)) for key, value in now.items()}
    helpers = sorted({word for found in held.values() for word in _helpers(found)})
    keys = {key for found in held.values() for key in _local_keys(found)}
    ports = {int(port) for found in held.values() for each in found for port in LOOPBACK.findall(each)}
    is_ours_by_name = any(NAME in key and LOOPBACK.search(" ".join(held[key])) for key in now)
    is_proved = bool(helpers or (keys and ports) or is_ours_by_name)
    ours = tuple(
        key
        for key, value in now.items()
        if value is not MISSING
        and (
            NAME in key
            or key in addresses
            or (isinstance(value, str) and NAMED.fullmatch(value))
            or _helpers(held[key])
            or _local_keys(held[key])
            or any(key in one and contains(value, one[key]) for one in wanted)
        )
    )
    if home := next(_other_homes(helpers, values.helper_path), ""):
        undo = system.with_setting("THV_LLM_HOME", home, "thv-llm teardown")
        return Owned(ours, is_proved, f"the thv-llm of {home}", undo, home)
    known = {key.reveal() for key in (values.local_key, *values.keys.values())}
    if is_proved and not helpers and known.isdisjoint(keys) and values.proxy_port not in ports:
        return Owned(ours, is_proved, f"a thv-llm whose proxy listens on port {min(ports)}")
    return Owned(ours, is_proved)


def models_held(edit: Editor, text: str, key: str) -> list[str]:
    """Return the model ids for which a text holds a key with `{model}` in it."""
    document = edit.parse(text)
    *outer, last = document.path(key)
    start = (last.value if isinstance(last, Item) else last).partition("{model}")[0]
    inside = lookup(document.model, tuple(outer))
    found: list[Json] = []
    if isinstance(last, Item) and isinstance(inside, list):
        found = [one.get(last.name) for one in inside if isinstance(one, dict)]
    elif isinstance(inside, dict):
        found = list(inside)
    return [one.removeprefix(start) for one in found if isinstance(one, str) and one.startswith(start)]


def foreign(tool: Tool, path: str, found: Owned) -> ForeignError:
    """Return the refusal to replace the values of another installation."""
    undo = f"{found.undo}, or to replace its settings: " if found.undo else "to replace its settings: "
    error = ForeignError(
        f"{tool.title} was left as it is",
        why=f"{path} holds the settings of {found.foreign}",
        next_step=f"{undo}thv-llm setup --take-over",
    )
    error.path, error.holds, error.undo = path, f"it holds the settings of {found.foreign}", found.undo
    return error


def texts(value: Json | Missing) -> Iterator[str]:
    """Yield every string in a value."""
    match value:
        case str():
            yield value
        case list():
            for element in value:
                yield from texts(element)
        case dict():
            for member in value.values():
                yield from texts(member)


def _helpers(found: tuple[str, ...]) -> list[str]:
    return [word for text in found for word in _words(text) if _is_helper(word)]


def _other_homes(helpers: Sequence[str], own: str) -> Iterator[str]:
    """Yield the directories of other installations that are still there, by their helpers.

    Args:
        own: our helper; one of another name beside it is of this installation, too.
    """
    bin_directory = os.path.realpath(os.path.dirname(own))
    for helper in filter(os.path.exists, helpers):
        directory = os.path.dirname(helper)
        if os.path.realpath(directory) != bin_directory:
            yield os.path.dirname(directory)


def record_of_other(home: str, path: str) -> WiredFile | None:
    """Return what the installation in a directory has recorded of a file; None when it says nothing."""
    where = Paths(home, "", "").state
    with contextlib.suppress(OSError):
        known = state.load_if_sound(where) if file_system.is_own(os.stat(where)) else None
        recorded = (file for tool in known.wired for file in tool.files) if known else ()
        return next((file for file in recorded if file.path == path and file.editions), None)
    return None


def _taken_over_by(paths: Paths, file: WiredFile, data: bytes) -> str:
    """Return the directory of the installation that a file belongs to by now; "" when none has a record."""
    edit, text = _editor_of(file), decoded(data, file.path)
    keys = dict.fromkeys(change.key for edition in file.editions for change in edition.changes)
    helpers = [word for key in keys for word in _helpers(tuple(texts(edit.value(text, key))))]
    homes = _other_homes(helpers, paths.helper)
    return next((home for home in homes if record_of_other(home, file.path)), "")


def _is_helper(word: str) -> bool:
    directory, name = os.path.split(word)
    return name in HELPERS and os.path.basename(directory) == "bin" and bool(ABSOLUTE.match(word))


def _words(text: str) -> list[str]:
    """Return a text and the words of it as a command line, quoted twice in some tools' files."""
    words = [text.lstrip("!")]  # pi's mark of a command
    for word in (words[0], *_split(words[0])) if NAME in text else ():
        words += _split(word)
    return words


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # prose with an apostrophe
        return []


def _local_keys(found: tuple[str, ...]) -> list[str]:
    return [key for text in found for key in KEY.findall(text)]


@dataclass(frozen=True)
class Original:
    """A file without us.

    Attributes:
        data: its bytes; None = there is no file.
        gone: we made the file and nothing of others is in it, so it can go.
        left: keys that are not ours any more, because they were changed; they stay.
        absent: keys that were removed; they stay out.
        found: something of ours was in it.
    """

    data: bytes | None
    gone: bool = False
    left: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    found: bool = False

    @property
    def before_us(self) -> bytes | None:
        """The bytes to start from when we write again."""
        return None if self.gone else self.data


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def decoded(data: bytes, path: str) -> str:
    """Return the text of a settings file; UTF-8 only, byte order mark and line ends kept."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ThvLlmError(f"cannot edit {path}", why=f"line {line} is not UTF-8") from None


def _editor_of(record: WiredFile) -> Editor:
    """Return the editor of a recorded file.

    Raises:
        ThvLlmError: no such format (a newer version's record, or a tampered one).
    """
    try:
        return editor(Format(record.format))
    except ValueError:
        why = "its format is not known to this version"
        raise ThvLlmError(f"cannot undo what was written to {record.path}", why=why) from None


def original(data: bytes | None, record: WiredFile, *, ours_alone: bool = False) -> Original:
    """Take our editions out of a file.

    Args:
        data: the file's present bytes.
        ours_alone: if the file still is ours, it goes as a whole, whatever the tool added.

    Raises:
        ThvLlmError: the file cannot be parsed any more.
    """
    if data is None:
        return Original(None)
    now = digest(data)
    written = [edition for edition in record.editions if edition.after == now]
    edit = _editor_of(record)
    text = decoded(data, record.path)
    if written:
        without, left = edit.revert(text, written[-1].changes)
    else:
        without, left = _without_any(edit, text, record.editions)
    found = without != text
    gone = record.created and found and (ours_alone or edit.is_empty(without))
    absent = tuple(key for key in left if edit.value(without, key) is MISSING)
    left = tuple(key for key in left if key not in absent)
    return Original(without.encode("utf-8"), gone, left, absent, found)


def _without_any(edit: Editor, text: str, editions: Sequence[Edition]) -> tuple[str, tuple[str, ...]]:
    """Take out every edition, the latest first, because any of them can be (partly) in the text.

    A key is left when it was written for sure and no edition recognizes what is there now.
    """
    recognized: set[str] = set()
    for edition in reversed(editions):
        text, left = edit.revert(text, edition.changes)
        recognized |= {change.key for change in edition.changes} - set(left)
    written = [change.key for edition in editions if edition.done for change in edition.changes]
    return text, tuple(dict.fromkeys(key for key in written if key not in recognized))


def lost_keys(data: bytes | None, record: WiredFile) -> tuple[str, ...]:
    """Return the keys that no longer hold what we wrote."""
    changes = record.editions[-1].changes
    if data is None:
        return tuple(change.key for change in changes)
    return _editor_of(record).holds(decoded(data, record.path), changes)


class Done(Enum):
    """What became of one file."""

    RESTORED = "restored"
    DELETED = "deleted"
    NOTHING = "nothing of ours was in it"
    FAILED = "failed"


@dataclass(frozen=True)
class Undone:
    """The end of one file's wiring.

    Attributes:
        left: keys that stayed because the user had changed them.
        absent: keys that had a previous value and were taken out meanwhile; it was not put back.
        private: permissions of others that were not given back, because a key of another installation is
            in it.
        foreign: the directory of the installation to which the file was left; "" for none.
        error: why it failed; the record is kept then.
        before, after: the file's bytes, for a diff; None = no file.
    """

    tool: str
    path: str
    done: Done
    left: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    private: int = 0
    foreign: str = ""
    error: ThvLlmError | None = None
    before: bytes | None = None
    after: bytes | None = None

    def lines(self) -> tuple[str, ...]:
        """Return what to tell the user, in the past tense."""
        told = {
            Done.RESTORED: f"restored {self.path}",
            Done.DELETED: f"deleted {self.path}, which setup had made",
        }
        lines = [told[self.done]] if self.done in told else []
        if self.foreign:
            lines.append(f"left {self.path} as it is: it holds the settings of the thv-llm of {self.foreign}")
        if self.left:
            # by the user, by the tool, or by another installation
            was = "it was" if len(self.left) == 1 else "they were"
            lines.append(f"left {', '.join(self.left)} in {self.path}, because {was} changed since setup")
        if self.absent:
            lines.append(f"{', '.join(self.absent)}: no longer in {self.path}; previous value not put back")
        if self.private:
            how = system.command_line(file_system.sharing(self.path, self.private))
            why = "because it holds a key of another thv-llm; when that is gone"
            lines.append(f"kept {self.path} private, {why}: {how}")
        if not lines and not self.error and self.before is not None:
            lines.append(f"found nothing of thv-llm in {self.path}")
        return tuple(lines)


def lock_path(paths: Paths) -> str:
    """Return the lock that a whole run of setup or teardown holds."""
    return paths.lock("setup")


def revert(
    paths: Paths,
    place: Place,
    tool_ids: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    tools: Sequence[Tool] = TOOLS,
) -> tuple[Undone, ...]:
    """Undo the wiring of the named tools, or of all; one failure never stops the others.

    Raises:
        UsageError: a named tool is not wired; the message names those that are.
    """
    wired = _wired(paths, tool_ids)
    if dry_run or not wired:
        return _all(paths, place, wired, tools, dry_run=True)
    with files.lock(lock_path(paths), timeout_s=LOCK_TIMEOUT_S, what="the tools' settings"):
        return _all(paths, place, _wired(paths, tool_ids), tools, dry_run=False)


def _wired(paths: Paths, tool_ids: Sequence[str] | None) -> tuple[WiredTool, ...]:
    wired = state.load(paths.state).wired
    known = [tool.tool for tool in wired]
    for name in tool_ids or ():
        if name not in known:
            why = f"configured: {', '.join(known)}" if known else "no tool is configured"
            raise UsageError(f"{name} is not configured", why=why, next_step="thv-llm status")
    return tuple(tool for tool in wired if tool_ids is None or tool.tool in tool_ids)


def _all(
    paths: Paths, place: Place, wired: Sequence[WiredTool], tools: Sequence[Tool], *, dry_run: bool
) -> tuple[Undone, ...]:
    undone: list[Undone] = []
    for record in wired:
        # read anew, because the one before can have handed a directory on to it
        now = (None if dry_run else state.load(paths.state).tool(record.tool)) or record
        undone += revert_tool(paths, place, now, tools, dry_run=dry_run)
    return tuple(undone)


def revert_tool(
    paths: Paths, place: Place, record: WiredTool, tools: Sequence[Tool] = TOOLS, *, dry_run: bool = False
) -> tuple[Undone, ...]:
    """Undo one tool's files, the last written first. The caller holds the lock."""
    return tuple(_one(paths, place, record, file, tools, dry_run=dry_run) for file in reversed(record.files))


def _one(
    paths: Paths, place: Place, record: WiredTool, file: WiredFile, tools: Sequence[Tool], *, dry_run: bool
) -> Undone:
    try:
        edit = _trusted(record, file, place, tools)
        undone = repeatedly(lambda: _try(paths, record, file, edit, dry_run=dry_run))
        if not dry_run:
            _change(paths, record.tool, replace(file, editions=()))
    except ThvLlmError as error:
        return Undone(record.tool, file.path, Done.FAILED, error=error)
    return undone


def repeatedly(work: Callable[[], T]) -> T:
    """Return what `work` returns; start it again when another program writes its file at the same moment."""
    for _ in range(MAX_TRIES - 1):
        try:
            return work()
        except files.FileChangedError:
            continue
    return work()


def _try(paths: Paths, record: WiredTool, file: WiredFile, edit: Edit | None, *, dry_run: bool) -> Undone:
    data = files.read_settled(file.path)
    if data is not None and (home := _taken_over_by(paths, file, data)):
        return Undone(record.tool, file.path, Done.NOTHING, foreign=home)
    was = original(data, file, ours_alone=bool(edit and edit.ours_alone))
    if not dry_run:
        _write(paths, record, file, data, was)
    done = Done.DELETED if was.gone else Done.RESTORED if was.found else Done.NOTHING
    private = file.denied if _holds_key(was) else 0
    return Undone(
        record.tool, file.path, done, was.left, was.absent, private, before=data, after=was.before_us
    )


def _write(paths: Paths, record: WiredTool, file: WiredFile, data: bytes | None, was: Original) -> None:
    files.remove_temporary(file.temporary, file.path)
    # A link that the user made of our file goes, too; the file that they put elsewhere is emptied.
    is_kept = not was.gone or os.path.islink(file.path)
    if was.data is not None and was.data != data and is_kept:
        temporary = files.temporary_name(file.path)
        _change(paths, record.tool, replace(file, temporary=temporary))
        files.replace(file.path, was.data, expected=data, temporary=temporary)
        data = was.data
    if was.gone and data is not None:
        files.delete(file.path, expected=data)
    if not _holds_key(was):  # of another installation
        files.share(file.path, file.denied)
    inside = [made for made in file.created_dirs if file.path.startswith(os.path.join(made, ""))]
    files.remove_empty_directories(inside)


def _holds_key(was: Original) -> bool:
    return was.data is not None and not was.gone and bool(KEY.search(was.data.decode(errors="replace")))


def _change(paths: Paths, tool: str, file: WiredFile) -> None:
    """Put a file's record in place of its old one, durably; without editions it goes."""

    def changed(old: State) -> State:
        if not file.editions:
            old = _handed_on(old, file)
        record = old.tool(tool)
        if record is None:
            return old
        rest = (file if other.path == file.path else other for other in record.files)
        return state.with_tool(old, replace(record, files=tuple(one for one in rest if one.editions)))

    state.update(paths, changed)


def _handed_on(known: State, gone: WiredFile) -> State:
    """Let the other files in a directory that was made for this one remove it in the end."""
    for directory in filter(os.path.isdir, gone.created_dirs):
        for tool in known.wired:
            inside = tuple(
                replace(file, created_dirs=(directory, *file.created_dirs))
                if file.path.startswith(os.path.join(directory, "")) and directory not in file.created_dirs
                else file
                for file in tool.files
            )
            known = state.with_tool(known, replace(tool, files=inside))
    return known


def _trusted(record: WiredTool, file: WiredFile, place: Place, tools: Sequence[Tool]) -> Edit | None:
    """Return the edit that yields a recorded file, None for one of an older version's.

    Raises:
        ThvLlmError: no version of ours could have written there.
    """
    edits = [edit for tool in tools if tool.id == record.tool for edit in tool.edits]
    for edit in edits:
        if file.path in place.possible_targets(edit):
            return edit
    if reason := _suspicion(file.path, place, tools):
        raise ThvLlmError(
            f"did not touch {file.path}",
            why=f"the undo record of {record.tool} names it, but {reason}",
            next_step=_way_back(edits),
        )
    return next((edit for edit in edits if os.path.basename(file.path) in edit.names), None)


def _way_back(edits: Sequence[Edit]) -> str:
    moved_by = sorted({edit.folder.env for edit in edits if edit.folder.env})
    return f"if {' or '.join(moved_by)} was set at setup, set it again" if moved_by else ""


def _suspicion(path: str, place: Place, tools: Sequence[Tool]) -> str:
    """Say why a path that today's table does not yield cannot be one of ours; "" if it can."""
    names = {name for tool in tools for edit in tool.edits for name in edit.names} | RETIRED_NAMES
    if not os.path.isabs(path):
        return "that is not an absolute path"
    if os.path.basename(path) not in names or os.path.basename(os.path.realpath(path)) not in names:
        return "no settings file that setup writes has that name"
    if not place.is_in_home(path):
        return "it lies outside the home directory"
    return ""
