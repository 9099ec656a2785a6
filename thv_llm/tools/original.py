"""What a file was before us: our editions taken out of its present bytes.

Pure: bytes and an undo record in, bytes out. `None` stands for "no file" throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from thv_llm.edit.document import Editor
from thv_llm.edit.formats import Format, editor
from thv_llm.errors import ThvLlmError
from thv_llm.state import Edition, WiredFile


@dataclass(frozen=True)
class Original:
    """A file without us.

    Attributes:
        data: its bytes; None = there is no file.
        gone: we made the file and nothing of anybody else's is in it, so it can go.
        left: keys that are not ours any more, because someone changed them; they stay.
        found: something of ours was in it.
    """

    data: bytes | None
    gone: bool = False
    left: tuple[str, ...] = ()
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


def editor_of(record: WiredFile) -> Editor:
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
    edit = editor_of(record)
    text = decoded(data, record.path)
    if written:
        without, left = edit.revert(text, written[-1].changes)
    else:
        without, left = _without_any(edit, text, record.editions)
    found = without != text
    gone = record.created and found and (ours_alone or edit.is_empty(without))
    return Original(without.encode("utf-8"), gone, left, found)


def _without_any(edit: Editor, text: str, editions: Sequence[Edition]) -> tuple[str, tuple[str, ...]]:
    """Take out every edition, the latest first, because any of them may be (partly) in the text.

    A key is left when it was written for sure and no edition recognises what is there now.
    """
    recognised: set[str] = set()
    for edition in reversed(editions):
        text, left = edit.revert(text, edition.changes)
        recognised |= {change.key for change in edition.changes} - set(left)
    written = [change.key for edition in editions if edition.done for change in edition.changes]
    return text, tuple(dict.fromkeys(key for key in written if key not in recognised))


def lost_keys(data: bytes | None, record: WiredFile) -> tuple[str, ...]:
    """Return the keys that no longer hold what we wrote."""
    changes = record.editions[-1].changes
    if data is None:
        return tuple(change.key for change in changes)
    return editor_of(record).holds(decoded(data, record.path), changes)
