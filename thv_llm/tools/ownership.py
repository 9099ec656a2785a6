"""Whose values are in a tool's file when no record tells: an installation's of ours, or the user's.

Rule 1: a credential of ours proves it, nothing else: a path to a credential helper in a `bin`
        directory, a local key beside a loopback URL, or a provider of our name at one. In a tool's
        files with such a proof, a value that is exactly what setup would write is ours, too, and so
        is one by our name.
Rule 2: values of ours are never recorded as the user's previous ones. They come into a file without
        a record when a tool writes old settings back, when our directory was deleted, or when
        settings are synced from another machine.
Rule 3: values of another installation that is still there are `foreign`: they belong to its record.

Pure, but for the question whether a helper exists.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from thv_llm import system
from thv_llm.edit.document import Editor
from thv_llm.edit.model import MISSING, Item, Json, Missing, contains, lookup
from thv_llm.errors import ThvLlmError
from thv_llm.tools.model import NAME, Tool, Values

NAMED = re.compile(rf"{NAME}(?:[/: ].*)?")
"""A provider of ours, or a model by it."""
HELPERS = ("thv-llm-token", "thv-llm-token.py")
ABSOLUTE = re.compile(r"/|[A-Za-z]:[/\\]")
"""How an absolute path begins, on this system or on that of the machine that settings were synced from."""
KEY = re.compile(r"(?<![\w-])thv-[A-Za-z0-9_-]{40,}")
LOOPBACK = re.compile(r"//(?:127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})(?!\d)")


class Owned(NamedTuple):
    """Values of ours that a file can hold.

    Attributes:
        keys: where they are, if a file of the tool proves it.
        is_proved: this file does: a credential of ours is among them.
        foreign: another installation that is still there and wrote them, in words; "" = this one, or
            one that was removed.
        undo: the command by which that installation takes its values back.
    """

    keys: tuple[str, ...]
    is_proved: bool = True
    foreign: str = ""
    undo: str = ""


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
    for helper in helpers:
        if os.path.realpath(helper) != os.path.realpath(values.helper_path) and os.path.exists(helper):
            home = os.path.dirname(os.path.dirname(helper))
            undo = system.with_setting("THV_LLM_HOME", home, "thv-llm teardown")
            return Owned(ours, is_proved, f"the thv-llm of {home}", undo)
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
