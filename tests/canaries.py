"""Every secret of a test run can be recognized, and must be only where it belongs.

What the fakes give out (`code-…`, `rt-…`, `at-…`, `device-…`, JWTs) carries `MARK`, and so do the
passphrases of tests; the local key has a form of its own; secrets that we make up ourselves, such
as a PKCE verifier, are noted by the fake that receives one. `Scan` looks for all of them, plain, in hex
and in base64, in whatever was written, printed, or shown to other programs.

The session's file is encrypted, so nothing is allowed there. The local key belongs in the state
file and in the tools' settings, an access token on the stdout of `token`, a code in the browser.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thv_llm.files import TEMP_PREFIX

MARK = "Can4ryOfTests"
LOCAL_KEY = re.compile(rb"thv-(?:[a-z][a-z-]*-)?[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
PRINTS = {
    "token": frozenset({"at", "encoded"}),
    "thv-llm-token": frozenset({"at", "encoded"}),
    "-c": frozenset({"at", "encoded"}),
    "env": frozenset({"local key"}),
    "tools": frozenset({"local key"}),
    "secret-tool": frozenset({"rt"}),
}
"""Command → the secrets that it prints on stdout for other programs; a JWT is `encoded`."""
TAKES = {"curl": frozenset({"local key"})}
"""Program → the secrets that tests give it as arguments, as a foreign process that has stolen one."""
BROWSER = "profile"
"""Name of the directory where a test's browser keeps its history, the redirect with the code in it."""
EACH_S = 0.02
"""How often to look at processes: most of ours live for longer."""


@functools.cache
def keeps_local_key() -> frozenset[str]:
    """Return the names of files that can hold the local key: the undo record, and what setup writes."""
    from thv_llm.tools import engine  # here, because the fakes must do with a bare Python (`make demo`)

    proxied = [tool for tool in engine.TOOLS if engine.mode(tool) is engine.Mode.PROXY]
    return frozenset({"llm-state.json"}.union(*(edit.names for tool in proxied for edit in tool.edits)))


def _encodings(text: bytes) -> list[bytes]:
    """Return a text in hex, and what of it base64 always shows, at each alignment."""
    found = [text.hex().encode()]
    for before in range(3):
        whole = base64.urlsafe_b64encode(bytes(before) + text)
        found.append(whole[(0, 2, 3)[before] : (before + len(text)) * 8 // 6])
    return found


_PLAIN = re.compile(rb"(?<![a-z])([a-z]+)[ -]" + MARK.encode())  # from word to word, however long they are
_ENCODED = _encodings(MARK.encode())
_noted: dict[bytes, str] = {}


def note(kind: str, *secrets: str) -> None:
    """Look for these, too."""
    _noted.update((secret.encode(), kind) for secret in secrets if secret)


def kinds(data: bytes) -> set[str]:
    """Return which kinds of secrets the data gives away."""
    found = {kind for secret, kind in tuple(_noted.items()) if secret in data}
    found |= {kind.decode() for kind in _PLAIN.findall(data)}
    if any(mark in data for mark in _ENCODED):
        found.add("encoded")
    if LOCAL_KEY.search(data):
        found.add("local key")
    return found


@dataclass
class Scan:
    """What was looked at, and where a secret was found that does not belong there."""

    looked: dict[str, int] = field(default_factory=lambda: {"files": 0, "outputs": 0, "commands": 0})
    hits: list[str] = field(default_factory=list)

    def text(
        self, what: str, text: str | bytes, where: str, *, allowed: frozenset[str] = frozenset()
    ) -> None:
        """Look at one text; `what` it is counted as: "outputs" or "commands"."""
        self.looked[what] += 1
        self._hit(kinds(text.encode(errors="replace") if isinstance(text, str) else text) - allowed, where)

    def command_output(self, arguments: Sequence[str], out: str, err: str) -> None:
        """Look at what a command of ours printed; the stdout of some is meant to hold a secret."""
        names = [re.split(r"[/\\]", argument)[-1].removesuffix(".py") for argument in arguments]
        meant = [PRINTS[name] for name in names if name in PRINTS]
        self.text("outputs", out, f"stdout of {names}", allowed=frozenset().union(*meant))
        self.text("outputs", err, f"stderr of {names}")

    def files(self, place: Path) -> None:
        """Look at every file below a directory."""
        for directory, _, names in os.walk(place):
            for name in names:
                path = Path(directory, name)
                with contextlib.suppress(OSError):  # removed or made unreadable
                    if path.is_file() and not path.is_symlink():
                        self._file(path)

    def _file(self, path: Path) -> None:
        self.looked["files"] += 1
        may_become_one = path.name.startswith(TEMP_PREFIX)  # left behind by a kill
        allowed = {"local key"} if path.name in keeps_local_key() or may_become_one else set()
        allowed |= {"code"} if BROWSER in path.parts else set()
        self._hit(kinds(path.read_bytes()) - allowed, str(path))

    def _hit(self, found: set[str], where: str) -> None:
        self.hits += [f"{kind} in {where}" for kind in sorted(found)]

    def add(self, other: Mapping[str, int], hits: list[str]) -> None:
        """Take in what another process has looked at."""
        for what, number in other.items():
            self.looked[what] += number
        self.hits += hits

    def verdict(self) -> str:
        """Return one line: what was looked at, and how many hits there were."""
        counts = ", ".join(f"{number} {what}" for what, number in self.looked.items())
        return f"canaries: {len(self.hits)} hits in {counts}"


RUN = Scan()
"""Of this process, for what has no scan of its own."""


@contextlib.contextmanager
def watched(home: Path, scan: Scan, each_s: float = EACH_S) -> Iterator[set[str]]:
    """Look at every command line and environment that processes with this HOME have meanwhile.

    Yields what was seen, which goes on growing; in the end it is looked through, for what was
    noted meanwhile, too.
    """
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(each_s):
            seen.update(_shown_by_processes(f"HOME={home}\0".encode()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        for text in seen:
            scan.text("commands", text, f"a process: {text[:200]}")


def _shown_by_processes(mark: bytes) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile
                environ = (entry / "environ").read_bytes()
                if mark in environ + b"\0":
                    shown = (entry / "cmdline").read_bytes() + environ
                    yield shown.replace(b"\0", b" ").decode(errors="replace")
