"""`thv-llm doctor`: check everything that can be wrong, and name (or run) the command that fixes it."""

from __future__ import annotations

import argparse
import subprocess
from typing import TYPE_CHECKING

from thv_llm import paths, system
from thv_llm.commands import screen
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thv_llm.checks import Check
    from thv_llm.context import Context

SUMMARY = "check everything, and name the command that fixes it"
NAME_COLUMN, TEXT_COLUMN = 6, 20
COLORS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the format, and whether to fix what is found."""
    parser.add_argument(
        "--fix", action="store_true", help="run the commands that need no user; settings and login stay"
    )
    add_format(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Run all checks and show each as it is done; with `--fix`, run what can be run, and check again."""
    is_text = args.format == "text"
    found = _checked(context, is_shown=is_text)
    fixes = _merged(check.fix for check in found if check.fix) if args.fix else []
    if fixes:
        _run_all(fixes, context)
        found = _checked(context, is_shown=is_text)
    elif args.fix:
        context.say("Nothing here can be fixed without a user.")
    fails, warns = (sum(check.level.value == level for check in found) for level in ("FAIL", "warn"))
    if is_text:
        context.show("")
        context.show(_verdict(fails, warns))
    else:
        document = {"failed": fails, "warned": warns, "checks": [_plain(check) for check in found]}
        if args.fix:
            document["ran"] = [list(fix) for fix in fixes]
        context.result(screen.as_json(document))
    return ExitCode.FAILED if fails else ExitCode.DONE


def _checked(context: Context, *, is_shown: bool) -> list[Check]:
    from thv_llm import checks

    here = checks.Installation(
        context.environ, context.paths, context.platform, context.now, context.progress
    )
    found = []
    for check in checks.run(here):
        found.append(check)
        if is_shown:
            _show(check, context)
    return found


def _merged(fixes: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return each command once; what differs in the tools alone is one command for all of them."""
    tools: dict[tuple[str, ...], list[str]] = {}
    for fix in fixes:
        pairs = [at for at, word in enumerate(fix) if word == "--client"]
        words = tuple(word for at, word in enumerate(fix) if at not in pairs and at - 1 not in pairs)
        tools.setdefault(words, []).extend(fix[at + 1] for at in pairs)
    return [
        (*words, *(word for tool in dict.fromkeys(names) for word in ("--client", tool)))
        for words, names in tools.items()
    ]


def _run_all(fixes: Sequence[tuple[str, ...]], context: Context) -> None:
    """List the commands, then run each; one that fails says so itself, and the checks see what is left."""
    context.say("\nWill run:")
    for fix in fixes:
        context.say(f"  {system.command_line(fix)}")
    for fix in fixes:
        context.say(f"\n$ {system.command_line(fix)}")
        command = paths.own_command(*fix[1:]) if fix[0] == "thv-llm" else list(fix)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=dict(context.environ)
        )
        context.say((done.stdout + done.stderr).decode("utf-8", "replace").rstrip())
    context.say("")


def _show(check: Check, context: Context) -> None:
    word = check.level.value
    on = screen.colors(context.stdout, context.environ)
    painted = screen.painted(f"{word:<{NAME_COLUMN}}", COLORS[word], on=on)
    gap = " " * (TEXT_COLUMN - NAME_COLUMN - len(check.name)) or " "
    context.show(f"{painted}{check.name}{gap}{screen.wrapped(check.reason, TEXT_COLUMN)}")
    if check.remedy:
        context.show(f"{'':<{TEXT_COLUMN - 6}}next: {check.next_step}")


def _verdict(fails: int, warns: int) -> str:
    if not fails and not warns:
        return "All is well."
    parts = [
        f"{count} {word}{'s' if count != 1 else ''}"
        for count, word in ((fails, "failure"), (warns, "warning"))
        if count
    ]
    return f"{' and '.join(parts)}." if fails else f"Nothing fails; {parts[0]}."


def _plain(check: Check) -> dict[str, object]:
    return {
        "level": check.level.value.lower(),
        "name": check.name,
        "reason": check.reason,
        "remedy": check.next_step,
        "command": None if isinstance(check.remedy, str) else list(check.remedy),
        "fix": list(check.fix) or None,
    }
