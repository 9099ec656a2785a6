"""The person at the machine, as a login sees them.

Plain values, so that a test can be that person.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interaction:
    """What a login can ask of the user.

    Attributes:
        say: show one line.
        open_browser: show a URL; False when no browser could be started.
        read_line: wait at most that many seconds for one line; None when none came. The
            attribute itself is None when there is no terminal to read from.
        announce: told the URL at which the user can finish this login (see `login.one_at_a_time`);
            of a login by code also that code, and for how many seconds it is good.
        sleep: wait that many seconds.
    """

    say: Callable[[str], None]
    open_browser: Callable[[str], bool]
    read_line: Callable[[float], str | None] | None = None
    announce: Callable[..., None] = lambda *_: None
    sleep: Callable[[float], None] = time.sleep
