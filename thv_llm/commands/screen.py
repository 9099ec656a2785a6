"""How things are shown to people: color, times, sizes.

Color only on a terminal and without `NO_COLOR` (https://no-color.org); nothing here is wider
than 80 columns unless a name or a path is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

from thv_llm.system import terminal

WIDTH = 80
CLOCK_SLACK_S = 60.0
CODES = {"green": "32", "yellow": "33", "red": "31", "bold": "1"}


def colors(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether color can be written to this stream."""
    wanted = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return wanted and terminal.takes_colors(stream)


def painted(text: str, color: str, *, on: bool) -> str:
    """Return the text in a color of `CODES`, or as it is when color is off."""
    return f"\x1b[{CODES[color]}m{text}\x1b[0m" if on else text


def duration(seconds: float) -> str:
    """Return a span in the units that matter: "45 s", "3 min 5 s", "59 min", "2 h 10 min", "4 days"."""
    whole = max(0, int(seconds))
    if 300 <= whole < 3600:
        whole -= whole % 60
    for limit, unit, lower, below in ((60, "s", 1, ""), (3600, "min", 60, "s"), (86400, "h", 3600, "min")):
        if whole < limit:
            rest = whole % lower // (1 if below == "s" else 60)
            return f"{whole // lower} {unit}" + (f" {rest} {below}" if rest and below else "")
    days, hours = whole // 86400, whole % 86400 // 3600
    return f"{days} day{'s' if days != 1 else ''}" + (f" {hours} h" if hours and days < 3 else "")


def ago(now: float, then: float) -> str:
    """Return " 3 min ago", or that the clock was set back since."""
    is_past = then <= now + CLOCK_SLACK_S
    return f" {duration(now - then)} ago" if is_past else " (this clock was set back since)"


def size(count: float) -> str:
    """Return a number of bytes: "812 B", "14.2 kB", "3.1 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(value: float) -> str:
    """Return a short time: "0.4 ms", "210 ms", "1.84 s"."""
    if value >= 9_995:
        return f"{value / 1000:.1f} s"
    if value >= 999.5:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 9.95 else f"{value:.1f} ms"


def wrapped(text: str, indent: int) -> str:
    """Return text broken into lines that fit, the later ones indented; `terminal.fitted` completes it."""
    import textwrap

    pad = " " * indent
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=pad, subsequent_indent=pad, break_long_words=False, break_on_hyphens=False
    )
    return terminal.SOFT_BREAK.join(lines).removeprefix(pad)


def short(path: str, home: str) -> str:
    """Return a path with `~` for the home directory."""
    return f"~{path[len(home) :]}" if path.startswith(os.path.join(home, "")) else path


def as_json(document: object) -> str:
    """Return the stable form that `--format json` prints."""
    import json

    return json.dumps(document, indent=2)
