"""What tests replace, as one value: environment, streams, clock, browser.

Commands get a `Context` and touch the outside through it and through the doors that the map in
`thv_llm/__init__.py` names. Nothing below this layer knows it: lower modules take plain
values (a path, a `now` function, an environment mapping).
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TextIO

from thv_llm import paths, system
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.paths import Paths
from thv_llm.system import terminal

BROWSER_START_S = 2.0
IN_ASCII = "thv-llm-ascii"
SCHEMA = 1
"""Of the lines of `--format json`; another number would mean that a member changed its meaning."""
STDOUT = "standard output"
CANCELLED, NOTHING_CHANGED = "cancelled", "nothing was changed"


def open_browser(url: str) -> bool:
    """Start the user's browser without waiting for it to end; False when there is none.

    `webbrowser` waits for a `$BROWSER` that stays in the foreground, while that browser waits
    for our callback page; so it runs in a thread, and one that is still busy counts as started.
    """
    if not system.has_display(os.environ):  # a text browser would take the terminal over
        return False
    import threading
    import webbrowser

    outcome: list[bool] = []

    def start() -> None:
        try:
            outcome.append(webbrowser.open(url))
        except (ValueError, OSError, webbrowser.Error):  # a $BROWSER that makes no sense
            outcome.append(False)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(BROWSER_START_S)
    return outcome[0] if outcome else True


@dataclass(frozen=True)
class Context:
    """The outside of one run.

    Attributes:
        now: seconds since the epoch.
        sleep: wait that many seconds.
        open_browser: show a URL to the user; False when no browser could be started.
        platform: `system.NAME` ("linux", "darwin", …).
        began: when this run began, on the monotonic clock.
        in_json: a command that acts tells a program on stdout what happens (`event`), a line for each.
        facts: what the last of these lines holds besides (`note`).
        passing: the line of `progress` that is on the terminal now, if any.
    """

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    open_browser: Callable[[str], bool] = open_browser
    platform: str = system.NAME
    began: float = field(default_factory=time.monotonic)
    in_json: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    passing: list[str] = field(default_factory=list)

    @cached_property
    def paths(self) -> Paths:
        """Every path we use; ThvLlmError when there is no home directory."""
        return paths.find(self.environ)

    def say(self, line: str = "") -> None:
        """Tell the user at the terminal something; stdout stays for results.

        The reader can have ended (`2>&1 | head`): no reason to stop half-way.
        """
        self.settle()
        try:
            print(self._fitted(line, self.stderr), file=self.stderr, flush=True)
        except (OSError, ValueError):
            discard(self.stderr)

    def progress(self, line: str) -> None:
        """Tell a user who is watching what takes a moment, until there is something else to say."""
        if terminal.takes_colors(self.stderr) and self.environ.get("TERM") != "dumb":  # so it can erase
            self.settle()
            width = terminal.columns(self.stderr, self.environ) or terminal.USUAL_COLUMNS
            self.stderr.write(line if len(line) < width else f"{line[: width - 2]}…")
            self.stderr.flush()
            self.passing.append(line)

    def settle(self) -> None:
        """Take the line of `progress` back."""
        if self.passing:
            self.passing.clear()
            with contextlib.suppress(OSError, ValueError):
                self.stderr.write(terminal.ERASE)
                self.stderr.flush()

    def end_line(self) -> None:
        """End the line of a question, or of the terminal's echo of Ctrl-C."""
        if terminal.is_one(self.stderr):
            self.say("")

    def _fitted(self, text: str, stream: TextIO) -> str:
        return terminal.fitted(text, terminal.columns(stream, self.environ))

    @property
    def has_terminal(self) -> bool:
        """Whether a user is there, who can be asked."""
        return terminal.is_one(self.stdin) and terminal.is_one(self.stderr)

    def ask(self, question: str, why: str = NOTHING_CHANGED) -> str:
        """Return the line that the user at the terminal types.

        Args:
            why: of the error; what the end of the input means.

        Raises:
            ThvLlmError: the input ended instead.
        """
        self.settle()
        self.stderr.write(f"{question} ")
        self.stderr.flush()
        answer = self.stdin.readline()
        if not answer:
            self.end_line()
            raise ThvLlmError(CANCELLED, why=why)
        return answer.strip()

    def confirm(
        self, what: str, question: str = "Continue?", *, default: bool = True, kept: str = ""
    ) -> None:
        """Ask the user at a terminal whether to go on; elsewhere it goes on.

        Args:
            default: what a bare Enter means.
            kept: what stays all the same when the user says no.

        Raises:
            ThvLlmError: the user says no.
            UsageError: a program runs this command.
        """
        if self.in_json:
            raise UsageError("there is a question to answer", why=what or question, next_step="add --yes")
        if not self.has_terminal:
            return
        if what:
            self.say(what)
        why = f"{NOTHING_CHANGED}; {kept}" if kept else NOTHING_CHANGED
        answer = self.ask(f"{question} {'[Y/n]' if default else '[y/N]'}", why).lower()
        if answer not in ("y", "yes") and not (default and not answer):
            raise ThvLlmError(CANCELLED, why=why)

    def show(self, text: str) -> None:
        """Print a result for a user, in lines that fit the terminal."""
        self.result(self._fitted(text, self.stdout))

    def result(self, line: str) -> None:
        """Print one line of what was asked for, as it is."""
        self.settle()
        with naming_stdout():
            print(line, file=self.stdout, flush=True)

    def event(self, name: str, **members: object) -> None:
        """Tell the program that runs this command what happens, if one does."""
        if self.in_json:
            import json

            self.result(json.dumps({"schema": SCHEMA, "event": name, **members}))

    def note(self, name: str, **members: object) -> None:
        """Add an object to a list in the last event, the result."""
        self.facts.setdefault(name, []).append(members)

    def for_program(self) -> Context:
        """Return the context of a command that a program runs: it answers no question."""
        return replace(self, stdin=io.StringIO(), in_json=True)


class _Closed(io.StringIO):
    """Stands for a stdout that was closed before the start: a result has nowhere to go."""

    def write(self, _text: str) -> int:
        raise OSError(errno.EBADF, "stdout is closed")


@contextlib.contextmanager
def naming_stdout() -> Iterator[None]:
    """Have an error of the system say that it is about stdout."""
    try:
        yield
    except OSError as error:
        error.filename = STDOUT
        raise


def discard(stream: TextIO) -> None:
    """Lead a stream that cannot be written to nowhere: Python flushes it once more when it exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def real() -> Context:
    """Return the context of this process; streams that were closed before it began are stood in for.

    What a stream's encoding lacks is shown in ASCII: a locale is no reason to say nothing.
    """
    codecs.register_error(IN_ASCII, terminal.in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if system.NAME == "win32":  # whose own encoding of a pipe has 200 characters
                stream.reconfigure(encoding="utf-8", newline="\n")
            stream.reconfigure(errors=IN_ASCII)
    return Context(
        environ=os.environ,
        stdin=sys.stdin or io.StringIO(),
        stdout=sys.stdout or _Closed(),
        stderr=sys.stderr or io.StringIO(),
    )
