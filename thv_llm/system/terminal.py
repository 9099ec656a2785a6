"""The user's terminal: is there one, one typed line at a time, colors, its width, its characters.

It is read by `select`, not by a thread: a thread would still sit in the terminal when what it reads for
has ended another way, and take the next thing that is typed. Windows' console has no `select`, but tells
whether a key was pressed; what echo and the backspace do there is done here. And every character device
of Windows calls itself a terminal, NUL too, so that it is the console that is asked.
"""

from __future__ import annotations

import os
import re
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol, TextIO

    class Keys(Protocol):
        """What `msvcrt` offers of a console."""

        def kbhit(self) -> bool:
            """Tell whether a key waits."""

        def getwch(self) -> str:
            """Return the next character, which is not shown."""

        def putwch(self, character: str, /) -> None:
            """Show a character."""


MAX_LINE_BYTES = 16384  # a pasted redirect URL; codes of a few kB exist
POLL_S = 0.02
"""A pasted address has some hundred characters, which all wait by then."""
INTERRUPT, BACKSPACE = "\x03", "\b"
SPECIAL = ("\0", "\xe0")
"""What an arrow or function key begins with; a second character says which."""
USUAL_COLUMNS = 80
COLOR = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
LABEL = re.compile(r" *(?:\S+(?: \S+)* {2,}|\w+: +)")
ERASE = "\r\x1b[K"
"""Takes back the line that the cursor is on."""
SOFT_BREAK = "\ue000"
"""Between lines that were broken for `USUAL_COLUMNS`: a narrower terminal breaks them anew."""
ASCII = {"…": "...", "·": "-", "→": "->", "–": "-", "─": "-", "│": "|"}
ASCII |= {**dict.fromkeys("┌┐└┘", "+"), **dict.fromkeys("“”", '"')}
SHOWS_COLORS = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING


def is_one(stream: TextIO) -> bool:
    """Tell whether a user is at the other end of a stream."""
    try:
        if not stream.isatty():
            return False
        if sys.platform == "win32":
            from thv_llm.system import windows

            return windows.console_mode(stream.fileno()) is not None
        return True
    except (OSError, ValueError):
        return False


def takes_colors(stream: TextIO) -> bool:
    """Have a terminal obey the escape sequences of colors, if it can."""
    if not is_one(stream):
        return False
    if sys.platform == "win32":
        from thv_llm.system import windows

        return windows.add_console_mode(stream.fileno(), SHOWS_COLORS)
    return True


def columns(stream: TextIO, environ: Mapping[str, str]) -> int:
    """Return how wide a terminal is; 0 for what is none, or does not tell."""
    if not is_one(stream):
        return 0
    named = environ.get("COLUMNS", "")
    if named.isascii() and named.isdigit() and int(named) > 0:
        return int(named)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return 0


def fitted(text: str, width: int) -> str:
    """Return text whose lines are broken between words where they are wider than a terminal (0: is none).

    What follows a label (`next: …`, or a word and a wide gap) stays in its column. A word that is wider
    than the terminal stays whole.
    """
    if 0 < width < USUAL_COLUMNS:
        text = re.sub(f"{SOFT_BREAK} *", " ", text)
    text = text.replace(SOFT_BREAK, "\n")
    return "\n".join(_fitted(line, width) for line in text.split("\n")) if width else text


def _fitted(line: str, width: int) -> str:
    if _width(line) <= width:
        return line
    plain = COLOR.sub("", line)
    margin = len(plain) - len(plain.lstrip())
    label = LABEL.match(plain)
    hang = label.end() if label else margin
    if hang > width // 2:
        hang = min(margin + 2, width // 4)
    first, *words = re.findall(r"\s*\S+", line)
    if margin > width // 2:
        first = " " * hang + first.lstrip()
    lines = [first]
    for spaced in words:
        if _width(lines[-1]) + _width(spaced) <= width:
            lines[-1] += spaced
        else:
            word = spaced.lstrip()
            lines.append(" " * max(0, min(hang, width - _width(word))) + word)
    return "\n".join(lines)


def _width(text: str) -> int:
    return len(COLOR.sub("", text))


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks: a handler for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        ASCII.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lost
    ), error.end


def lines(stream: TextIO) -> Callable[[float], str | None] | None:
    """Return what reads a line within so many seconds (None when there was none); None for no terminal."""
    if not is_one(stream):
        return None
    if sys.platform == "win32":
        import msvcrt

        return TypedLines(msvcrt).read
    try:
        return _Lines(stream.fileno()).read
    except (OSError, ValueError):  # a stream that only says so
        return None


class _Lines:
    """The lines of a terminal that is a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""
        self._is_open = True

    def read(self, timeout_s: float) -> str | None:
        """Return one line without its end, None when there is none in time."""
        import select

        until = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            rest_s = max(0.0, until - time.monotonic())
            if not self._is_open:
                time.sleep(rest_s)  # the terminal is closed; keep the pace of one that is silent
                return None
            if not select.select([self._descriptor], [], [], rest_s)[0]:
                return None
            self._fill()
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    def _fill(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            data = b""
        self._is_open = bool(data)
        self._pending = (self._pending + data)[-MAX_LINE_BYTES:]


class TypedLines:
    """The lines of a console that gives single keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._line = ""

    def read(self, timeout_s: float) -> str | None:
        """Return one line without its end, None when there is none in time.

        Raises:
            KeyboardInterrupt: Ctrl-C is a key, too, while one is waited for.
        """
        until = time.monotonic() + timeout_s
        while True:
            while self._keys.kbhit():
                key = self._keys.getwch()
                if key in ("\r", "\n"):
                    self._show("\r\n")
                    line, self._line = self._line, ""
                    return line.strip()
                self._take(key)
            if time.monotonic() >= until:
                return None
            time.sleep(POLL_S)

    def _take(self, key: str) -> None:
        if key == INTERRUPT:
            raise KeyboardInterrupt
        if key in SPECIAL:
            self._keys.getwch()
        elif key == BACKSPACE:
            self._show("\b \b" if self._line else "")
            self._line = self._line[:-1]
        elif key.isprintable():
            self._line = (self._line + key)[-MAX_LINE_BYTES:]
            self._show(key)

    def _show(self, text: str) -> None:
        for character in text:
            self._keys.putwch(character)
