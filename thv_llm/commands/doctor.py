"""`thv-llm doctor`: check everything that can be wrong, and name the command that mends it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm.commands import screen
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from thv_llm.checks import Check
    from thv_llm.world import World

SUMMARY = "check everything, and name the command that mends it"
EXAMPLES = """
thv-llm doctor                    a line per check; FAIL comes with a command
thv-llm doctor --format json      for scripts; exit code 1 if something fails
"""
NAME_COLUMN, TEXT_COLUMN = 6, 20
COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the form of the answer."""
    add_format(parser)


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Run all checks and show each as it is done."""
    from thv_llm import checks

    ground = checks.Ground(world.environ, world.paths, world.platform, world.now, world.progress)
    found = []
    for check in checks.run(ground):
        found.append(check)
        if args.format == "text":
            _show(check, world)
    counts = {level: sum(check.level is level for check in found) for level in checks.Level}
    fails, warns = counts[checks.Level.FAIL], counts[checks.Level.WARN]
    if args.format == "json":
        world.answer(screen.as_json({"failed": fails, "warned": warns, "checks": [_plain(c) for c in found]}))
    else:
        world.answer("")
        world.answer(_verdict(fails, warns))
    return ExitCode.FAILED if fails else ExitCode.DONE


def _show(check: Check, world: World) -> None:
    word = check.level.value
    painted = screen.painted(f"{word:<{NAME_COLUMN}}", COLOURS[word], on=_in_colour(world))
    gap = " " * (TEXT_COLUMN - NAME_COLUMN - len(check.name)) or " "
    world.answer(f"{painted}{check.name}{gap}{screen.wrapped(check.reason, TEXT_COLUMN)}")
    if check.remedy:
        world.answer(f"{'':<{TEXT_COLUMN - 6}}next: {check.remedy}")


def _in_colour(world: World) -> bool:
    return screen.colours(world.stdout, world.environ)


def _verdict(fails: int, warns: int) -> str:
    if not fails and not warns:
        return "All is well."
    parts = [
        f"{count} {word}{'s' if count != 1 else ''}"
        for count, word in ((fails, "failure"), (warns, "warning"))
        if count
    ]
    return f"{' and '.join(parts)}." if fails else f"Nothing fails; {parts[0]}."


def _plain(check: Check) -> dict[str, str]:
    return {
        "level": check.level.value.lower(),
        "name": check.name,
        "reason": check.reason,
        "remedy": check.remedy,
    }
