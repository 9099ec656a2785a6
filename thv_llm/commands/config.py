"""`thv-llm config set|show|reset`: the settings by hand."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from thv_llm import settings, state
from thv_llm.commands import connection, screen, session
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, ThvLlmError, UsageError
from thv_llm.settings import ROWS, Settings
from thv_llm.tokens.session import session_key
from thv_llm.validation import Value

if TYPE_CHECKING:
    from thv_llm.state import State
    from thv_llm.world import World

SUMMARY = "settings by hand: set, show, reset"
EXAMPLES = """
thv-llm config show                      all in effect, defaults included
thv-llm config set --proxy-port 14001    change one setting
thv-llm config set --audience ""         back to the default
thv-llm config reset                     forget settings and session
"""
NOT_CONFIGURED = "not configured; run: thv-llm setup --gateway-url URL --issuer URL --client-id ID"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    change = actions.add_parser(
        "set",
        help="change settings; services and wired tools stay as they are",
        description="change settings; an empty value means the default, unless the flag says otherwise",
        examples='thv-llm config set --gateway-url https://llm.example.com\nthv-llm config set --audience ""',
    )
    connection.add_arguments(change)
    show = actions.add_parser(
        "show",
        help="print all settings in effect",
        description="print all settings in effect, the session and the wired tools",
        examples="thv-llm config show\nthv-llm config show --format json",
    )
    add_format(show)
    actions.add_parser(
        "reset",
        help="forget settings and session",
        description="forget settings and session; wired tools must be torn down first",
        examples="thv-llm teardown\nthv-llm config reset",
    )


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Do what `args.action` names."""
    return {"set": _set, "show": _show, "reset": _reset}[args.action](args, world)


def _set(args: argparse.Namespace, world: World) -> ExitCode:
    before = connection.readable(world.paths.settings)
    changes = connection.given(args, before)
    if not changes:
        raise UsageError("nothing to set", next_step="thv-llm config set --help")
    after = settings.save(world.paths, changes)
    connection.warn(after, world.say)
    world.say(f"Saved {', '.join(changes)} in {world.paths.settings}.")
    session.say_left_behind(world, before, after)
    if state.load(world.paths.state).wired:
        world.say("Wired tools and the running service still use the old values; thv-llm setup updates them.")
    return ExitCode.DONE


def _show(args: argparse.Namespace, world: World) -> ExitCode:
    found = settings.load(world.paths.settings)
    known = state.load(world.paths.state)
    configured = any(found.get(row) for row in ROWS if row.required)
    if args.format == "json":
        world.answer(screen.as_json(_document(found, known) if configured else {}))
    elif configured:
        _show_text(found, known, world)
    else:
        world.answer(NOT_CONFIGURED)
    return ExitCode.DONE


def _show_text(found: Settings, known: State, world: World) -> None:
    for row in ROWS:
        world.answer(f"{row.key:<24}{_text(found.get(row))}")
    store = known.sessions.of(session_key(found.oidc)).store
    world.answer(f"{'session':<24}{f'kept in {store}' if store else 'none'}")
    for tool in known.wired:
        world.answer(f"{'wired':<24}{tool.tool} ({tool.mode})  {' '.join(file.path for file in tool.files)}")
    if not known.wired:
        world.answer(f"{'wired':<24}none")


def _text(value: Value | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = " ".join(value)
    return "-" if value in (None, "") else str(value)


def _document(found: Settings, known: State) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for row in ROWS:
        table, _, name = row.key.rpartition(".")
        (document.setdefault(table, {}) if table else document)[name] = found.get(row)
    document["auth"] = {"cached_token_expiry": known.sessions.of(session_key(found.oidc)).expires_at}
    document["configured_tools"] = [
        {"tool": tool.tool, "mode": tool.mode, "config_path": tool.files[0].path if tool.files else None}
        for tool in known.wired
    ]
    return document


def _reset(args: argparse.Namespace, world: World) -> ExitCode:  # noqa: ARG001 - one signature for all actions
    known = state.load(world.paths.state)
    if known.wired:
        raise ThvLlmError(
            "there are wired tools",
            why=f"their files hold our values: {', '.join(tool.tool for tool in known.wired)}",
            next_step="thv-llm teardown, then thv-llm config reset",
        )
    from thv_llm.service import autostart, background

    session.end(world)
    manager = autostart.of(world.environ, world.platform)
    if manager.uninstall(world.paths):
        world.say(f"Removed {manager.file}.")
    background.stop(world.paths)
    ours = world.paths
    for path in (ours.settings, ours.state, ours.discovery_cache, ours.helper, ours.log, f"{ours.log}.1"):
        _remove(path, world)
    return ExitCode.DONE


def _remove(path: str, world: World) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    world.say(f"Removed {path}.")
