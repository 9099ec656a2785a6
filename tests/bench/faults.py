"""Kill, and let fail, at every system call that changes a file: nothing torn, all of it undone.

    python -m tests.bench faults [ROW …]        rows: see ROWS

The built file is ended (-9) before each file-changing system call of `setup`, `teardown` and
`config set`, and so is a write of the session; then every other of these calls fails, with each of
ERRORS in turn. FAULTS_EVERY=n takes every nth call only. After each strike a look at all files:

    torn         a file that is neither what it was before nor what it was to become
    unrecovered  teardown does not give the home directory back to every byte, or the same
                 command again does not do its work, or a temporary file stays; both are tried
                 after each kill, one of them by turns after an error
    failed       an error was not told: a traceback, or not a word on what was not done

The last rows are those of `rotation`: helpers by the crowd, and kills at random moments.
Exits 1 when a figure is not 0.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests import canaries
from tests.bench import rotation, strace
from tests.bench.desk import SESSION, Desk, Done, setup
from tests.bench.helper import PYZ
from tests.bench.strace import KILL, Call
from tests.commands.machine import Machine, machine

ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
EVERY = int(os.environ.get("FAULTS_EVERY", "1"))
LANES = 2
"""Homes in which strikes happen at the same time."""
NEW, NEXT = (f"rt-{canaries.MARK}-{which}" for which in ("new", "next"))
KINDS = ("torn", "unrecovered", "lost", "failed")


@dataclass
class Row:
    """What a row of the table came to."""

    title: str
    points: int = 0
    of: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    words: list[str] = field(default_factory=list)

    def note(self, kind: str, where: str, problem: str) -> None:
        """Count a problem; "" is none."""
        if problem:
            self.counts[kind] += 1
            self.words.append(f"{kind}: {where}: {problem}")

    def add(self, other: Row) -> None:
        """Take in another lane's share."""
        self.points += other.points
        self.words += other.words
        for kind, count in other.counts.items():
            self.counts[kind] += count

    @property
    def is_good(self) -> bool:
        """Whether something was tried, and all figures are 0."""
        return self.points > 0 and not any(self.counts.values())

    def __str__(self) -> str:
        points = f"{self.points} of {self.of}" if self.of else str(self.points)
        return f"{self.title:36}{points:>12}" + "".join(f"{count:13}" for count in self.counts.values())


@dataclass(frozen=True)
class Scenario:
    """A command that changes files.

    Attributes:
        begins: the kept tree in which it is typed.
        stdin: what it is given, and what it is given when it is tried again.
    """

    title: str
    begins: str
    arguments: Callable[[Machine], Sequence[str]]
    stdin: tuple[str, str] = ("", "")

    @property
    def is_verb(self) -> bool:
        """Whether it is one that people type."""
        return not self.stdin[0]


class Trial:
    """One scenario at one desk: first undisturbed, then struck."""

    def __init__(self, scenario: Scenario, desk: Desk) -> None:
        self.scenario = scenario
        self.desk = desk
        self.arguments = scenario.arguments(desk.here)
        desk.restore(scenario.begins)
        self.before, self.session = desk.tree(), desk.session()
        done, self.calls = desk.look(self.arguments, scenario.stdin[0])
        if done.code:
            raise SystemExit(f"{scenario.title}: {done.err}")
        self.after = desk.tree()

    def strike(self, row: Row, call: Call, what: str) -> None:
        """Strike once, look at what there is, and put it right."""
        desk = self.desk
        desk.restore(self.scenario.begins)
        done, is_hit = desk.strike(self.arguments, self.scenario.stdin[0], call, what)
        if not is_hit:
            row.words.append(f"missed: {what}: {call.text}")
            return
        row.points += 1
        desk.keep("struck")
        where = f"{what}: {call.text}"
        row.note("torn", where, self._torn())
        ways = [self._by_trying_again]
        if self.scenario.is_verb:
            ways.append(self._by_teardown)
        if what != KILL:
            row.note("failed", where, self._badly_told(done))
            ways = [ways[row.points % len(ways)]]
        for way in ways:
            desk.restore("struck")
            row.note("unrecovered", where, way())

    def _torn(self) -> str:
        now = self.desk.tree()
        for name in now.keys() | self.before.keys() | self.after.keys():
            found, *known = (tree.get(name, (0, b"")) for tree in (now, self.before, self.after))
            # The bytes are renamed into place; a mode that is given back comes in a call of its own.
            for part, parts in zip(found, zip(*known, strict=True), strict=True):
                if part not in parts:
                    return f"{name}: {part!r} is none of {parts!r}"
        broken = self.desk.unreadable()
        if broken or self.scenario.is_verb:
            return broken
        return "" if self.desk.session() in (self.session, self.scenario.stdin[0]) else "the session is lost"

    def _badly_told(self, done: Done) -> str:
        if not self.scenario.is_verb:
            return ""
        if "Traceback" in done.err or "bug:" in done.err:
            return done.err
        is_told = (done.code and done.err) or "  why:  " in done.err  # one tool's failure stops no other
        return "" if is_told or self.desk.tree() == self.after else f"exit {done.code}: {done.err}"

    def _by_teardown(self) -> str:
        done = self.desk.run([str(PYZ), "teardown"])
        if done.code:
            return f"teardown: {done.err}"
        return "" if self.desk.theirs() == self.desk.untouched else "teardown left something behind"

    def _by_trying_again(self) -> str:
        done = self.desk.run(self.arguments, self.scenario.stdin[1])
        if done.code:
            return f"again: {done.err}"
        if self.desk.tree() != self.after or self.desk.left_over():
            return f"again: it is not as it should be {self.desk.left_over()}"
        if self.scenario.is_verb:
            return self._by_teardown()
        return "" if self.desk.session() == self.scenario.stdin[1] else "the next session is not there"


def _store(here: Machine) -> list[str]:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from thv_llm.secret import Secret\n"
        "from thv_llm.store.encrypted_file import EncryptedFile\n"
        f"EncryptedFile(*sys.argv[2:]).save({SESSION!r}, Secret(sys.stdin.read()))"
    )
    return ["-c", code, str(PYZ), here.paths.session_file, here.paths.session_file_key]


SCENARIOS = {
    "setup": Scenario("setup", "new", setup),
    "again": Scenario(
        "setup with other settings", "wired", lambda here: [*setup(here), "--lazy", "--models", "m-9"]
    ),
    "teardown": Scenario("teardown", "wired", lambda _: [str(PYZ), "teardown"]),
    "config": Scenario(
        "config set", "wired", lambda _: [str(PYZ), "config", "set", "--callback-port", "8666"]
    ),
    "first": Scenario("the first session is stored", "new", _store, (NEW, NEXT)),
    "store": Scenario("a session is stored", "stored", _store, (NEW, NEXT)),
}


def strikes(trial: Trial) -> Iterator[tuple[int, Call, str]]:
    """Yield what is to be done, and whether it belongs to the first row (0) or the second (1)."""
    for number, call in enumerate(trial.calls[::EVERY]):
        yield 0, call, KILL
        if number % 2:
            yield 1, call, f"error={ERRORS[number // 2 % len(ERRORS)]}"


def share(scenario: Scenario, desk: Desk, lane: int) -> list[Row]:
    """Do every so manyth strike of a scenario at one desk."""
    trial = Trial(scenario, desk)
    rows = [
        Row(f"{scenario.title}, killed", of=len(trial.calls)),
        Row(f"{scenario.title}, calls fail", of=len(trial.calls)),
    ]
    for number, (row, call, what) in enumerate(strikes(trial)):
        if number % LANES == lane:
            trial.strike(rows[row], call, what)
    return rows


def struck(names: Sequence[str], scan: canaries.Scan) -> Iterator[Row]:
    """Yield the rows of these scenarios."""
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(LANES) as pool:
        top = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        desks = []
        for lane in range(LANES):
            home = top / str(lane) / "home"
            home.mkdir(parents=True)
            here = opened.enter_context(machine(home))
            here.install("codex")  # of which nothing else is there yet
            desks.append(Desk(home.parent, here, scan))
        for name in names:
            shares = list(pool.map(share, [SCENARIOS[name]] * LANES, desks, range(LANES)))
            for row, *others in zip(*shares, strict=True):
                for other in others:
                    row.add(other)
                yield row


def crowds(names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of `rotation`."""
    for name in names:
        title, run, _ = rotation.ROWS[name]
        found = run()
        row = Row(title, points=found.helpers.calls or rotation.KILLS)
        for problem in found.problems:
            row.note("lost" if "LOST" in problem else "failed", name, problem)
        yield row


CROWDS = ("kill", "service", "alone")
ROWS = (*SCENARIOS, *CROWDS)


def main(arguments: list[str]) -> int:
    """Run rows and print the table."""
    strace.check()
    names = arguments or ROWS
    scan = canaries.Scan()
    print(f"{'':36}{'points':>12}" + "".join(f"{kind:>13}" for kind in KINDS), flush=True)
    all_good = True
    for row in itertools.chain(
        struck([name for name in names if name in SCENARIOS], scan),
        crowds([name for name in names if name in CROWDS]),
    ):
        print(row, *(f"    {words}" for words in row.words[:20]), sep="\n", flush=True)
        all_good &= row.is_good
    print(scan.verdict(), *scan.hits, sep="\n")
    return 0 if all_good and not scan.hits else 1
