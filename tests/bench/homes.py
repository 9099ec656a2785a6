"""Other people's home directories: setup and teardown of generated ones, nothing lost, metadata equal.

    python -m tests.bench homes [COUNT [SEED]]

Each has a few tools' settings files in odd states (PARTS). Those of MOUNTS, and other owners, need root and
are left out without it. In every fourth, a tool writes its settings meanwhile, by renaming or in place.

    refused   tools that setup left as they were, with a message
    lost      bytes, a link, a directory, or an edit of the tool that was not there in the end
    changed   mode, owner, group, access list or attributes that were not the same after setup (but for what
              others lose where our key comes in), or after teardown

Exits 1 when something was lost or changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.tools.machines import LONG_AGO, Machine
from tests.tools.starts import STARTS, begin
from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.tools import engine

COUNT, SEED, WRITES = 500, 1, 12
IS_ROOT = sys.platform != "win32" and os.geteuid() == 0
TOOLS = [tool for tool in engine.TOOLS if tool.edits]
MODES = (0o600, 0o640, 0o644, 0o660, 0o664, 0o700, 0o755, 0o2640)
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


class Facts(NamedTuple):
    """What is kept of a file, a link or a directory."""

    data: bytes
    kind: int
    mode: int
    owner: tuple[int, int]
    attributes: dict[str, bytes]


def facts(path: Path) -> Facts:
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode)
    data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
    names = [] if path.is_symlink() else os.listxattr(path)
    attributes = {name: os.getxattr(path, name) for name in names if not name.startswith("security.")}
    return Facts(data, kind, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), attributes)


def tree(top: Path) -> dict[str, Facts]:
    return {str(path.relative_to(top)): facts(path) for path in sorted(top.rglob("*"))}


def access_list(dice: random.Random) -> bytes:
    """Return a POSIX access list with a user and a group in it."""
    entries = [(0x01, 6, -1), (0x02, dice.choice((4, 6)), 33), (0x04, 0, -1), (0x08, 4, 44)]
    entries += [(0x10, dice.choice((4, 6)), -1), (0x20, dice.choice((0, 4)), -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def _link(path: Path, dice: random.Random) -> None:
    target = path.parent / f"real {dice.random()}"
    path.rename(target)
    path.symlink_to(target.name if dice.random() < 0.5 else target)
    if dice.random() < 0.3:
        path.rename(path.with_name("second"))
        path.symlink_to("second")


def _linked_directory(path: Path, dice: random.Random) -> None:
    moved = path.parent.with_name(f"dotfiles {dice.random()}")
    path.parent.rename(moved)
    path.parent.symlink_to(moved)


def _hard_link(path: Path, dice: random.Random) -> None:
    os.link(path, path.with_name(f"other name {dice.random()}"))


def _dangling_directory(path: Path, dice: random.Random) -> None:
    shutil.rmtree(path.parent)
    path.parent.symlink_to(f"nowhere {dice.random()}")


def _access_list(path: Path, dice: random.Random) -> None:
    os.setxattr(path, ACCESS, access_list(dice))


def _default_list(path: Path, dice: random.Random) -> None:
    os.setxattr(path.parent, DEFAULT, access_list(dice))


def _attributes(path: Path, dice: random.Random) -> None:
    for number in range(dice.randint(1, 3)):
        os.setxattr(path, f"user.note{number}", dice.randbytes(dice.randint(0, 40)))


def _mode(path: Path, dice: random.Random) -> None:
    path.chmod(dice.choice(MODES))


def _read_only(path: Path, dice: random.Random) -> None:
    path.chmod(dice.choice((0o400, 0o444)))


def _owner(path: Path, dice: random.Random) -> None:
    os.chown(path, dice.choice((33, 12345)), dice.choice((0, 44)))


PARTS: dict[str, tuple[Callable[[Path, random.Random], None], float]] = {
    "links": (_link, 0.25),
    "linked directories": (_linked_directory, 0.1),
    "odd modes": (_mode, 0.5),
    "access lists": (_access_list, 0.25),
    "default access lists": (_default_list, 0.2),
    "attributes": (_attributes, 0.3),
    "hard links": (_hard_link, 0.05),
    "read-only files": (_read_only, 0.05),
    "dangling directories": (_dangling_directory, 0.04),
}
DIRECTORIES = ("linked directories", "dangling directories")
MOUNTS: dict[str, tuple[Callable[[Path, random.Random], None], float]] = {"other owners": (_owner, 0.2)}


@contextlib.contextmanager
def mounted(path: Path, counts: Counter[str], dice: random.Random) -> Iterator[None]:
    """Mount a file by itself, or its directory, as containers do."""
    real = path.resolve()
    place = real if dice.random() < 0.6 else real.parent
    subprocess.run(["mount", "--bind", place, place], check=True)
    counts["mounts"] += 1
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


class Home:
    """One generated home directory, and what became of it."""

    def __init__(self, top: Path, seed: int, counts: Counter[str]) -> None:
        self.dice = random.Random(seed)
        self.machine = Machine(top)
        self.counts = counts
        self.words: list[str] = []
        self.tools = self.dice.sample(TOOLS, self.dice.randint(1, 4))
        self.writes = seed % 4 == 0
        for tool in self.tools:
            begin(self.machine, tool, self.dice.choice(list(STARTS)))
        for tool in self.tools:
            for path in self.machine.targets(tool):
                self._make_odd(path)

    def _make_odd(self, path: Path) -> None:
        for name, (make, share) in (PARTS | (MOUNTS if IS_ROOT else {})).items():
            if name in DIRECTORIES and path.parent == self.machine.home:
                continue
            if os.path.lexists(path) and self.dice.random() < share and not path.parent.is_symlink():
                make(path, self.dice)
                self.counts[name] += 1

    def setup(self) -> None:
        """As the command does: plan, see whether it can be written, apply; a tool that cannot stays."""
        for tool in self.tools:
            try:
                plan = self.machine.plan(tool)
                for file in plan.files:
                    if file.before != file.after:
                        files.require_writable(file.path)
                for outcome in engine.apply([plan], self.machine.paths):
                    if outcome.error:
                        raise outcome.error
            except ThvLlmError:
                self.counts["refused"] += 1

    def run(self) -> None:
        before = tree(self.machine.home)
        with contextlib.ExitStack() as mounts:
            there = [path for tool in self.tools for path in self.machine.targets(tool) if path.is_file()]
            if IS_ROOT and there and self.dice.random() < 0.15:
                mounts.enter_context(mounted(self.dice.choice(there), self.counts, self.dice))
            self.setup()
            self._compare(before, tree(self.machine.home), is_wired=True)
            for undone in self.machine.teardown():
                if undone.error:
                    self.words.append(f"lost: teardown: {undone.error}")
        self._compare(before, tree(self.machine.home), is_wired=False)
        self.counts["files"] += sum(one.kind == stat.S_IFREG for one in before.values())
        if self.writes:
            self._with_a_tool_that_writes()

    def _compare(self, before: dict[str, Facts], now: dict[str, Facts], *, is_wired: bool) -> None:
        if not is_wired and before.keys() != now.keys():
            self.words.append(f"lost: {sorted(before.keys() ^ now.keys())}")
        for name in before.keys() & now.keys():
            was, found = before[name], now[name]
            if (was.kind, b"" if is_wired else was.data) != (found.kind, b"" if is_wired else found.data):
                self.words.append(f"lost: {name}")
            others = stat.S_IRWXG | stat.S_IRWXO
            is_private = is_wired and not found.mode & others
            mode = was.mode & ~others if is_private else was.mode
            attributes = dict(was.attributes)
            if is_private and ACCESS in attributes:
                attributes[ACCESS] = found.attributes.get(ACCESS, b"")
            if (mode, was.owner, attributes) != (found.mode, found.owner, found.attributes):
                self.words.append(f"changed: {name}: {was[2:]} {found[2:]}")

    def _with_a_tool_that_writes(self) -> None:
        """Set up and tear down again and again while a tool counts in its own settings."""
        tool = engine.by_name("claude-code")
        path = self.machine.targets(tool)[0]
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.is_dir() or (os.path.lexists(path) and path.stat().st_nlink > 1):
            return
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.machine.write({path: '{"n": 0}'})
        self.tools = [tool]
        seen: list[int] = []
        writer = threading.Thread(target=self._keep_writing, args=(path, seen))
        writer.start()
        refused = self.counts["refused"]
        while writer.is_alive():
            self.setup()
            self.machine.teardown()
        writer.join()
        self.counts["refused"] = refused
        os.utime(path, (LONG_AGO, LONG_AGO))
        self.setup()  # what the tool wrote back of ours is known as such
        self.machine.teardown()
        self.counts["writes meanwhile"] += len(seen)
        if seen != list(range(WRITES)) or json.loads(path.read_text()) != {"n": WRITES}:
            self.words.append(f"lost: an edit: {seen} {path.read_text()}")

    def _keep_writing(self, path: Path, seen: list[int]) -> None:
        in_place = self.dice.random() < 0.5
        for number in range(1, WRITES + 1):
            document = json.loads(path.read_text())
            seen.append(document["n"])
            document["n"] = number
            if in_place:
                with path.open("w") as file:
                    time.sleep(self.dice.random() / 100)
                    file.write(json.dumps(document))
            else:
                path.with_name("theirs").write_text(json.dumps(document))
                path.with_name("theirs").rename(path)
            time.sleep(self.dice.random() / 100)


def main(arguments: list[str]) -> int:
    """Generate, try, print the table."""
    count, seed = (*map(int, arguments), *(COUNT, SEED)[len(arguments) :])
    counts: Counter[str] = Counter()
    words: list[str] = []
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory(prefix="homes-") as top:
            home = Home(Path(top), number, counts)
            home.run()
            words += [f"{number}: {word}" for word in home.words]
    for name in ("files", *PARTS, *MOUNTS, "mounts", "writes meanwhile", "refused"):
        note = "  (needs root)" if name in (*MOUNTS, "mounts") else ""
        print(f"{name:24}{counts[name]:8}{note}")
    bad = Counter(kind for kind in ("lost", "changed") for word in words if f": {kind}: " in word)
    print(f"{count} homes: {bad['lost']} lost, {bad['changed']} changed", *words[:20], sep="\n")
    return 1 if words else 0
