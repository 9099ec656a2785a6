"""`token` killed (-9) at random moments of its run: alone, and with its whole process group.

What it leaves must be a session that works. The moments are spread over the time that an
undisturbed run takes just then, which is measured again and again, because a busy machine is slower.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field

from tests.logged_in import User, wait_for_worker

MEASURE_EVERY = 10


@dataclass
class Tally:
    """What kills have come to.

    Attributes:
        kills: those that hit a running process.
        rotated: after so many of them the session was a new one: the worker had finished its work.
        lost: so many sessions.
        problems: what undisturbed runs in between said when they failed.
    """

    kills: int = 0
    rotated: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


def kill(user: User, number: int, chance: random.Random) -> Tally:
    """Hit that many runs, of the helper and of the program by turns."""
    tally, turn, window_s = Tally(), 0, 0.0
    while tally.kills < number and tally.lost < number:
        if turn % MEASURE_EVERY == 0:
            window_s = _undisturbed(user, tally)
        before = user.refresh_token
        is_hit = _hit(user, turn, chance.uniform(0, window_s))
        wait_for_worker(user)
        turn += 1
        tally.kills += is_hit
        tally.rotated += is_hit and user.refresh_token != before
        if not user.is_alive:
            tally.lost += 1
            user.log_in()
    return tally


def _undisturbed(user: User, tally: Tally) -> float:
    """Return how many seconds a run takes."""
    began = time.monotonic()
    done = user.token()
    took_s = time.monotonic() - began
    if done.returncode:
        tally.problems.append(done.stderr)
    wait_for_worker(user)
    return took_s


def _hit(user: User, turn: int, after_s: float) -> bool:
    """Kill one run; False when it had ended before."""
    process = user.start(user.command() if turn % 4 < 2 else [user.paths.helper])
    time.sleep(after_s)
    if turn % 2:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL
