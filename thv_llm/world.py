"""What tests replace, as one value: environment, streams, clock, browser.

Commands get a `World` and touch the outside through it and through the doors that the map in
`thv_llm/__init__.py` names. Nothing below this layer knows it: lower modules take plain
values (a path, a `now` function, an environment mapping).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from thv_llm import paths


@dataclass(frozen=True)
class World:
    """The outside of one run.

    Attributes:
        now: seconds since the epoch.
        sleep: wait that many seconds.
        open_browser: show a URL to the user; False when no browser could be started.
        platform: `sys.platform` ("linux", "darwin", …).
    """

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    paths: paths.Paths
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    open_browser: Callable[[str], bool] = field(default=lambda url: _open_browser(url))
    platform: str = sys.platform

    def say(self, line: str = "") -> None:
        """Tell the person at the terminal something; stdout stays for answers."""
        print(line, file=self.stderr, flush=True)

    def answer(self, line: str) -> None:
        """Print one line of what was asked for."""
        print(line, file=self.stdout, flush=True)


def real() -> World:
    """Return the world of this process."""
    return World(
        environ=os.environ,
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
        paths=paths.find(os.environ),
    )


def _open_browser(url: str) -> bool:
    import webbrowser

    return webbrowser.open(url)
