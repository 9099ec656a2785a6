"""`thv-llm teardown`: put back what setup changed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from thv_llm import state
from thv_llm.commands import wiring
from thv_llm.errors import ExitCode
from thv_llm.tools import engine

if TYPE_CHECKING:
    from thv_llm.tools.engine import Undone
    from thv_llm.world import World

SUMMARY = "put back what setup changed"
EXAMPLES = """
thv-llm teardown                   every tool
thv-llm teardown codex             only this one
thv-llm teardown --dry-run         show the changes as a diff, make none
thv-llm teardown --purge-tokens    also revoke and delete the session
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which tools, and what else goes."""
    parser.add_argument("tools", metavar="TOOL", nargs="*", help="only these tools")
    parser.add_argument(
        "--client", metavar="TOOL", action="append", default=[], help="the same as naming TOOL"
    )
    parser.add_argument("--purge-tokens", action="store_true", help="revoke and delete the session, too")
    parser.add_argument("--dry-run", action="store_true", help="print a diff of every file, change nothing")


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Undo the named tools, or all; one failure never stops the others."""
    named = [*args.tools, *args.client] or None
    undone = engine.revert(world.paths, wiring.place(world), named, dry_run=args.dry_run)
    if args.dry_run:
        return _show(undone, world)
    for one in undone:
        _tell(one, world)
    if not undone:
        world.say("No tool is wired.")
    _narrow_service(world)
    if args.purge_tokens:
        from thv_llm.commands import session

        session.end(world)
    return ExitCode.FAILED if any(one.error for one in undone) else ExitCode.DONE


def _narrow_service(world: World) -> None:
    """Drop the proxy with the last proxy tool, and the service with the last tool."""
    from thv_llm.service import background

    if not state.load(world.paths.state).service.wanted:
        return
    state.update(world.paths, lambda known: wiring.with_service(known, wanted=known.service.wanted))
    line = background.match(world.paths, world.environ)
    if line:
        world.say(line)


def _show(undone: tuple[Undone, ...], world: World) -> ExitCode:
    key = state.load(world.paths.state).local_key or wiring.PLACEHOLDER_KEY
    for one in undone:
        diff = engine.diff_of_undo(one, key, world.paths.helper)
        if diff:
            world.answer(diff.rstrip("\n"))
        elif one.error:
            _tell(one, world)
    world.say("Nothing was changed (--dry-run).")
    return ExitCode.DONE


def _tell(one: Undone, world: World) -> None:
    for line in one.lines():
        world.say(line[:1].upper() + line[1:])
    if one.error:
        world.say(f"{one.path}: {one.error}")
