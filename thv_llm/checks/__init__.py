"""What `doctor` checks and `status --check` asks: each check is a function that yields `Check`s.

A check says what it found, why that is wrong, and the command that fixes it. It changes
nothing, and shows no secret. One that breaks is itself a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from thv_llm import log
from thv_llm.checks import local, remote
from thv_llm.checks.model import Check, Installation, Level, failed
from thv_llm.errors import ThvLlmError

__all__ = ("Check", "Installation", "Level", "run")

Checker = Callable[[Installation], Iterable[Check]]

ALWAYS: tuple[tuple[str, Checker], ...] = (
    ("python", local.python),
    ("program", local.program),
    ("files", local.modes),
    ("state", local.state_file),
    ("settings", local.settings_file),
)
"""These need nothing; when one of them fails, the rest would only repeat it."""

CONFIGURED: tuple[tuple[str, Checker], ...] = (
    ("provider", remote.provider),
    ("session", remote.session),
    ("token", remote.token),
    ("published", remote.published),
    ("gateway", remote.gateway),
    ("service", local.service),
    ("port", local.port),
    ("autostart", local.autostarted),
    ("helper", local.helper_program),
    ("tools", local.tools),
    ("environment", local.environment),
)


def run(here: Installation, *, only: tuple[str, ...] = ()) -> Iterator[Check]:
    """Run the checks one after the other, yielding what each found as soon as it is known.

    Args:
        only: names of groups; all when empty.
    """
    is_sound = True
    for name, checker in ALWAYS:
        for check in _guarded(name, checker, here):
            is_sound = is_sound and (check.level is not Level.FAIL or name == "files")
            if not only or name in only or check.level is Level.FAIL:
                yield check
    for name, checker in CONFIGURED if is_sound else ():
        if not only or name in only:
            yield from _guarded(name, checker, here)


def _guarded(name: str, checker: Checker, here: Installation) -> Iterator[Check]:
    try:
        yield from checker(here)
    except ThvLlmError as error:
        log.debug(f"{name} came from: {log.trail(error)}")
        yield failed(name, error)
    except Exception as error:
        yield Check(
            Level.FAIL, name, f"the check itself broke: {log.place(error)}", "please report these lines"
        )
