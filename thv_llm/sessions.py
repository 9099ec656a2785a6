"""Which sessions are stored, and where: what can be known of them without opening a store.

They are a part of the state file. A cold `token` needs nothing else of that file, so the way into
it is here, and `state`, which knows the rest, builds on this. Nothing here is secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from thv_llm import files, system
from thv_llm.errors import ThvLlmError

VERSION = 1
"""Of the whole state file."""

MEMBERS = frozenset({"version", "local_key", "service", "session", "earlier_sessions", "wired"})
"""What the state file of 0.1.0 holds, which has no checksum."""

CHECKSUM = re.compile(rb'\{\n "checksum": "([0-9a-f]{64})",\n')
"""How a state file begins: the SHA-256 of all that follows this."""

SOON_S = 86400.0
"""How long before its end a session is called about to end."""

CLOCK_SLACK_S = 5.0
"""An end that differs by less is the same one: the provider counts in seconds, from its own clock."""

T = TypeVar("T")


class StoredSession(NamedTuple):
    """Where a session is: a store, by its name, and what the session is called there."""

    store: str
    key: str


class SessionFacts(NamedTuple):
    """What is known of one session.

    Attributes:
        store: name of the store; "" when there is no session.
        key: what the session is called there.
        expires_at, logged_in_at: seconds since the epoch.
        ends_at: when the provider ends the session, if it has said so and will.
        ends_later: the latest refresh has moved that end.
    """

    store: str = ""
    key: str = ""
    subject: str = ""
    who: str = ""
    expires_at: float | None = None
    logged_in_at: float | None = None
    ends_at: float | None = None
    ends_later: bool = False

    def ending_s(self, now: float) -> float | None:
        """Return in how many seconds the session ends, if that is soon and no refresh prevents it."""
        if self.ends_at is None or self.ends_later or not self.store:
            return None
        left_s = self.ends_at - now
        return left_s if left_s < SOON_S else None

    def with_end(self, ends_at: float, now: float) -> SessionFacts:
        """Return the facts after the provider has said when the session ends; inf: never.

        An end that has moved by little stays as it is, because each change is one of the state file.
        """
        if math.isinf(ends_at):
            return self._replace(ends_at=None, ends_later=False)
        if self.ends_at is None:
            return self._replace(ends_at=ends_at)
        moved_s = ends_at - self.ends_at
        ends_later = moved_s > CLOCK_SLACK_S
        is_small = abs(moved_s) < max(CLOCK_SLACK_S, (ends_at - now) / 4)
        if is_small and ends_later == self.ends_later:
            return self
        return self._replace(ends_at=ends_at, ends_later=ends_later)

    @property
    def place(self) -> StoredSession:
        """Where it is."""
        return StoredSession(self.store, self.key)


class Sessions(NamedTuple):
    """Every session that is stored.

    Attributes:
        latest: that of the latest login.
        earlier: of logins with other settings, which nothing uses; `logout` ends them, too. One that
            a login has moved is here as well, until its old place is empty.
        logged_out: the user has ended one since the latest login; there is no notification about another.
    """

    latest: SessionFacts = SessionFacts()
    earlier: tuple[StoredSession, ...] = ()
    logged_out: bool = False

    @property
    def stored(self) -> tuple[StoredSession, ...]:
        """The places of all of them, the latest first."""
        return ((self.latest.place,) if self.latest.store else ()) + self.earlier

    def of(self, key: str) -> SessionFacts:
        """Return what is known of the session of that name; without a store when there is none."""
        if self.latest.store and self.latest.key == key:
            return self.latest
        earlier = (SessionFacts(*place) for place in self.earlier if place.key == key)
        return next(earlier, SessionFacts())

    def after_login(self, facts: SessionFacts) -> Sessions:
        """Return the sessions after a login; one elsewhere, or of other settings, becomes an earlier one."""
        return Sessions(facts, tuple(place for place in self.stored if place != facts.place))

    def with_end(self, key: str, ends_at: float, now: float) -> Sessions:
        """Return the sessions after the provider has said when the latest one ends."""
        if not self.latest.store or self.latest.key != key:
            return self
        return self._replace(latest=self.latest.with_end(ends_at, now))

    def without(self, ended: StoredSession) -> Sessions:
        """Return the sessions after one was removed."""
        latest = SessionFacts() if ended == self.latest.place else self.latest
        return self._replace(latest=latest, earlier=tuple(place for place in self.earlier if place != ended))

    def after_logout(self, ended: StoredSession) -> Sessions:
        """Return the sessions after the user has ended one."""
        return self.without(ended)._replace(logged_out=True)


def load(path: str) -> Sessions:
    """Read what the state file says of sessions; a missing file tells of none.

    Raises:
        ThvLlmError: the file cannot be understood.
    """
    with understood(path) as document:
        return parse(document)


class _ChecksumError(ValueError):
    """The bytes are not those that were written."""


@contextlib.contextmanager
def understood(path: str) -> Iterator[Mapping[str, object]]:
    """Give the state file's content; what the reader finds wrong with it is an error with the file's name.

    The file is left as it is, because it is the only record of what the tools' files were.
    """
    data = files.read(path)
    try:
        document = {"version": VERSION} if data is None else _checked(data, path)
        yield document
        return
    except json.JSONDecodeError as error:
        why = f"it is not JSON (line {error.lineno})"
    except (UnicodeDecodeError, RecursionError):
        why = "it is not JSON"
    except _ChecksumError:
        why = "its checksum is wrong: it was edited by hand, or is damaged"
    except (KeyError, TypeError, ValueError, AttributeError):
        why = "it holds something else than thv-llm writes there"
    moved = system.command_line(("mv", path, f"{path}.broken"))  # setup knows its own values without it
    raise ThvLlmError(
        f"cannot understand {path}",
        why=why,
        next_step=f"restore it from a backup, or: {system.one_after_the_other(moved, 'thv-llm setup')}",
    )


def _checked(data: bytes, path: str) -> Mapping[str, object]:
    """Return the members of a state file whose bytes are as they were written.

    Raises:
        ThvLlmError: a newer version wrote it, or it was changed.
        ValueError, TypeError, KeyError: it is no state file.
    """
    document = mapping(json.loads(data))
    if typed(document["version"], int) > VERSION:
        raise ThvLlmError(
            f"cannot understand {path}",
            why=f"a newer version of thv-llm wrote it (format {document['version']}, known: {VERSION})",
            next_step="run the newer thv-llm",
        )
    begin = CHECKSUM.match(data)
    is_sound = _digest(data[begin.end() :]) == begin[1] if begin else document.keys() <= MEMBERS
    if not is_sound:
        raise _ChecksumError
    return {name: value for name, value in document.items() if name != "checksum"}


def encoded(document: Mapping[str, object]) -> bytes:
    """Return the bytes of a state file with these members."""
    rest = json.dumps(document, indent=1, ensure_ascii=True).encode().removeprefix(b"{\n") + b"\n"
    return b'{\n "checksum": "%b",\n%b' % (_digest(rest), rest)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def parse(document: Mapping[str, object]) -> Sessions:
    """Read what `written` wrote.

    Raises:
        KeyError, TypeError: it has another shape.
    """
    latest = mapping(document.get("session", {}))
    facts = SessionFacts(
        store=typed(latest.get("store", ""), str),
        key=typed(latest.get("key", ""), str),
        subject=typed(latest.get("subject", ""), str),
        who=typed(latest.get("who", ""), str),
        expires_at=_time(latest.get("expires_at")),
        logged_in_at=_time(latest.get("logged_in_at")),
        ends_at=_time(latest.get("ends_at")),
        ends_later=typed(latest.get("ends_later", False), bool),
    )
    earlier = items(document.get("earlier_sessions", []))
    logged_out = typed(document.get("logged_out", False), bool)
    return Sessions(facts, tuple(_place(mapping(item)) for item in earlier), logged_out)


def written(sessions: Sessions) -> dict[str, object]:
    """Return the members of the state file that tell of sessions."""
    return {
        "session": sessions.latest._asdict(),
        "earlier_sessions": [place._asdict() for place in sessions.earlier],
        "logged_out": sessions.logged_out,
    }


def typed(value: object, kind: type[T]) -> T:
    """Return a value of the file that must be of this type, else raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def items(value: object) -> list[object]:
    """Return a value of the file that must be a list."""
    return typed(value, list)


def mapping(value: object) -> Mapping[str, object]:
    """Return a value of the file that must be an object."""
    return typed(value, dict)


def _place(item: Mapping[str, object]) -> StoredSession:
    return StoredSession(typed(item["store"], str), typed(item["key"], str))


def _time(value: object) -> float | None:
    if value is None or isinstance(value, float):
        return value
    return float(typed(value, int))
