"""What the administrator of this machine has decided: its settings file, and macOS's managed preferences.

1. Both hold what `llm.toml` holds, below it; besides `locked` (keys whose value here always counts),
   `allowed_gateways` and `allowed_issuers` (URLs below which a gateway or an issuer must be).
2. They count only when the administrator alone can change them, nor any directory or link on the
   way to them (Nix links from /etc into its store); else they are an error, because rule 1 could be
   switched off by taking them away.
3. No variable of the environment says where they are, or whose: a project's `.envrc` could.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from thv_llm import system
from thv_llm.errors import ThvLlmError
from thv_llm.system import file_system

FILE = os.path.join(file_system.directory_for_all(), "toolhive", "llm.toml")
PREFERENCES = "/Library/Managed Preferences" if system.NAME == "darwin" else ""
"""Of macOS, "" elsewhere: `DOMAIN.plist` in it is for every user, `USER/DOMAIN.plist` for one."""
DOMAIN = "com.stacklok.thv-llm"
OWNERS = frozenset({0})
"""The user ids of administrators."""

ALLOWED = {"allowed_gateways": "gateway_url", "allowed_issuers": "oidc.issuer"}
"""Lists of URLs, and the key of the setting that must be below one of them."""
NEXT_STEP = "ask the administrator of this machine"


class Policy(NamedTuple):
    """What was decided.

    Attributes:
        path: the file it comes from, for messages; of several, the last; "" when there is none.
        values: settings by key, not checked yet.
        locked: keys that neither `llm.toml` nor a flag changes.
        allowed: by key of a setting, the URLs that it must be below.
        sources: by key of a value, the file that it is from.
    """

    path: str = ""
    values: Mapping[str, object] = {}
    locked: tuple[str, ...] = ()
    allowed: Mapping[str, tuple[str, ...]] = {}
    sources: Mapping[str, str] = {}

    def forbids(self, key: str, url: str) -> bool:
        """Tell whether a setting's URL is outside of what is allowed for it; an empty one never is."""
        allowed = self.allowed.get(key)
        return bool(url) and allowed is not None and not any(is_below(url, one) for one in allowed)


def load(
    file: str = FILE,
    preferences: str = PREFERENCES,
    *,
    user: str = "",
    owners: Collection[int] = OWNERS,
) -> Policy:
    """Read what was decided; without a file nothing was.

    Args:
        preferences: macOS's directory of managed preferences, "" for none.
        user: whose managed preferences; "" for this one's.
        owners: the user ids that can decide.

    Raises:
        ThvLlmError: a file that another user can change, or that cannot be understood.
    """
    found = Policy()
    for path, data in _read(file, preferences, user, owners):
        found = _with(found, path, data)
    return found


def contents() -> bytes:
    """Return what identifies the decisions that hold now; empty when there are none."""
    return b"".join(data for _, data in _read(FILE, PREFERENCES, "", OWNERS))


def _read(file: str, preferences: str, user: str, owners: Collection[int]) -> Iterator[tuple[str, bytes]]:
    paths = [file]
    if preferences:
        paths.append(os.path.join(preferences, f"{DOMAIN}.plist"))
        if user := user or file_system.account(system.user_id()):
            paths.append(os.path.join(preferences, user, f"{DOMAIN}.plist"))
    for path in paths:
        try:
            descriptor = file_system.open_file(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _refused(path, os.strerror(error.errno or 0)) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(path, "it is not a regular file")
            whose = "administrators" if system.NAME == "win32" else "root"
            if culprit := file_system.changeable_by_others(path, owners):
                raise ThvLlmError(
                    f"cannot trust the settings of this machine in {path}",
                    why=f"other users than its administrator can change {culprit}",
                    next_step=f"{NEXT_STEP}: it must belong to {whose}, and be writable by {whose} alone",
                )
            with os.fdopen(descriptor, "rb", closefd=False) as opened:
                yield path, opened.read()
        finally:
            os.close(descriptor)


def _with(found: Policy, path: str, data: bytes) -> Policy:
    if path.endswith(".plist"):
        import plistlib
        from xml.parsers.expat import ExpatError

        try:
            values = flat(plistlib.loads(data))
        except (ValueError, ExpatError, plistlib.InvalidFileException) as error:
            raise _refused(path, f"not a property list ({type(error).__name__})") from None
    else:
        values = members(path, in_utf8(data), NEXT_STEP)
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("locked", *ALLOWED):
        value = values.pop(name, [])
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise _refused(path, f"{name} must be a list of strings")
        lists[name] = tuple(value)
    allowed = {key: lists[name] for name, key in ALLOWED.items() if lists[name]}
    locked = (*found.locked, *lists["locked"])
    sources = {**found.sources, **dict.fromkeys(values, path)}
    return Policy(path, {**found.values, **values}, locked, {**found.allowed, **allowed}, sources)


def in_utf8(data: bytes) -> bytes:
    """Return a document in UTF-8; PowerShell's `>` writes UTF-16, with a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with contextlib.suppress(UnicodeDecodeError):  # then it is said to be no UTF-8
            return data.decode("utf-16").encode()
    return data


def members(path: str, data: bytes, next_step: str) -> dict[str, object]:
    """Return the values of a TOML text by dotted key.

    Args:
        path: where it is from, for the error.

    Raises:
        ThvLlmError: not TOML.
    """
    try:
        return flat(tomllib.loads(data.decode().removeprefix("\ufeff")))  # editors on Windows put it there
    except UnicodeDecodeError as error:
        why = f"not UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        why = f"not TOML: {error}"
    except RecursionError:
        why = "nested too deeply for a settings file"
    raise ThvLlmError(f"cannot use the settings file {path}", why=why, next_step=next_step)


def flat(document: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Return the values of nested tables by dotted key."""
    values: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            values.update(flat(value, f"{above}{key}."))
        else:
            values[f"{above}{key}"] = value
    return values


def is_below(url: str, allowed: str) -> bool:
    """Tell whether a URL is another one, or continues it by whole segments of the path.

    One whose path a server could read as another one (dot segments, escapes) continues nothing.
    """
    if not is_same_origin(url, allowed):
        return False
    path, above = urlsplit(url).path.rstrip("/"), urlsplit(allowed).path.rstrip("/")
    is_plain = not any(mark in path for mark in ("%", "\\", ";", "//", "/./", "/../"))
    is_plain = is_plain and not path.endswith(("/.", "/.."))
    return path == above or (is_plain and path.startswith(f"{above}/"))


def is_same_origin(url: str, other: str) -> bool:
    """Tell whether two URLs lead to the same server: scheme, host and port (RFC 6454 section 4)."""
    try:
        ours, theirs = _origin(urlsplit(url)), _origin(urlsplit(other))
    except ValueError:
        return False
    return ours == theirs


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _refused(path: str, why: str) -> ThvLlmError:
    return ThvLlmError(f"cannot use the settings of this machine in {path}", why=why, next_step=NEXT_STEP)
