"""`thv-llm config set|show|get|reset`: the settings by hand."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from thv_llm import policy, settings, state
from thv_llm.commands import connection, screen, session, sources, wiring
from thv_llm.commands import parser as flags
from thv_llm.commands.parser import add_format
from thv_llm.context import Context
from thv_llm.errors import ExitCode, ThvLlmError, UsageError, did_you_mean, shown
from thv_llm.settings import BY_KEY, ROWS, Settings
from thv_llm.state import State
from thv_llm.tools import engine
from thv_llm.validation import SettingValue

SUMMARY = "settings by hand: set, show, get, reset"
NOT_CONFIGURED = f"not configured; run: {settings.SET_UP}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    change = actions.add_parser(
        "set",
        help="change settings; the service and configured tools stay as they are",
        description="change settings; an empty value means the default, unless the flag says otherwise",
    )
    flags.add_settings(change)
    show = actions.add_parser(
        "show",
        help="print all settings in effect",
        description="print all settings in effect, the session and the configured tools",
    )
    add_format(show)
    show.add_argument(
        "--export", action="store_true", help="print a file for setup --from, without what is of this machine"
    )
    one = actions.add_parser(
        "get",
        help="print one setting in effect",
        description="print one setting in effect; a list with a space between its items",
    )
    one.add_argument("key", metavar="KEY", help="as in llm.toml, such as oidc.client_id")
    actions.add_parser(
        "reset",
        help="forget settings and session",
        description="forget settings and session; configured tools must be torn down first",
    )


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Do what `args.action` names."""
    actions = {"set": _set, "show": _show, "get": _get, "reset": _reset}
    if args.action is None:
        why = f"it is one of: {', '.join(actions)}"
        raise UsageError("config needs an action", why=why, next_step="thv-llm config show")
    return actions[args.action](args, context)


def _get(args: argparse.Namespace, context: Context) -> ExitCode:
    if args.key not in BY_KEY:
        why = did_you_mean(args.key, BY_KEY)
        raise UsageError(f"{shown(args.key)} is not a setting", why=why, next_step="thv-llm config show")
    value = settings.load(context.paths.settings).get(BY_KEY[args.key])
    context.result("" if value in (None, "", ()) else _text(value))
    return ExitCode.DONE


def _set(args: argparse.Namespace, context: Context) -> ExitCode:
    before = flags.readable(context.paths.settings)
    changes, wanted, _ = sources.effective(args, context)
    if not changes:
        raise UsageError("nothing to set", next_step="thv-llm config set --help")
    session.keep_secrets(context, wanted, changes, before)
    after = settings.save(context.paths, changes)
    connection.remember(context, changes, after, ())
    flags.warn(after, context.say)
    decided = policy.load()
    locked = [key for key in changes if key in decided.locked]
    if saved := [key for key in changes if key not in locked]:
        context.say(f"Saved {', '.join(saved)} in {context.paths.settings}.")
    if locked:
        context.say(f"Not saved: {', '.join(locked)}. {decided.path} has locked the same value.")
    session.say_left_behind(context, before, after)
    if before == after:
        return ExitCode.DONE
    if wired := state.load(context.paths.state).wired:
        ids = {tool.tool for tool in wired}
        tools = [tool for tool in engine.TOOLS if tool.id in ids]
        wiring.say_without_effect(context, after, changes, tools)
        context.say(
            "Configured tools and the running service still use the old values; thv-llm setup updates them."
        )
    return ExitCode.DONE


def _show(args: argparse.Namespace, context: Context) -> ExitCode:
    decided = policy.load()
    found = settings.load(context.paths.settings, decided=decided)
    known = state.load(context.paths.state)
    configured = any(found.get(row) for row in ROWS if row.required)
    if args.export:
        found.require_configured()
        return _export(found, context)
    origin = settings.sources(context.paths.settings, decided)
    if args.format == "json":
        document = {**_document(found, known), "sources": origin, "locked": decided.locked}
        context.result(screen.as_json(document if configured else {}))
    elif configured:
        _show_text(found, known, context, origin, decided.locked)
    else:
        context.show(NOT_CONFIGURED)
    return ExitCode.DONE


def _export(found: Settings, context: Context) -> ExitCode:
    import tomli_w

    tables, left_out = sources.exported(found, context.paths.home)
    context.result(tomli_w.dumps(tables, multiline_strings=True).rstrip("\n"))
    if left_out:
        context.say(f"Not exported, as it is for this machine alone: {', '.join(left_out)}.")
    return ExitCode.DONE


def _show_text(
    found: Settings, known: State, context: Context, origin: Mapping[str, str], locked: Collection[str]
) -> None:
    """Print a line for each value; with where it comes from."""
    for row in ROWS:
        notes = [origin[row.key]] if row.key in origin else ["default"]
        notes += ["locked"] if row.key in locked else []
        context.show(f"{row.key:<24}{_text(found.get(row))}  ({', '.join(notes)})")
    store = known.sessions.of(found.session_id).store
    context.show(f"{'session':<24}{f'kept in {store}' if store else 'none'}")
    for tool in known.wired:
        context.show(
            f"{'configured':<24}{tool.tool} ({tool.mode})  {' '.join(file.path for file in tool.files)}"
        )
    if not known.wired:
        context.show(f"{'configured':<24}none")


def _text(value: SettingValue | None) -> str:
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
    document["auth"] = {"cached_token_expiry": known.sessions.of(found.session_id).expires_at}
    document["configured_tools"] = [
        {"tool": tool.tool, "mode": tool.mode, "config_path": tool.files[0].path if tool.files else None}
        for tool in known.wired
    ]
    return document


def _reset(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - one signature for all actions
    known = state.load(context.paths.state)
    if known.wired:
        raise ThvLlmError(
            "there are configured tools",
            why=f"their files hold values of thv-llm: {', '.join(tool.tool for tool in known.wired)}",
            next_step="thv-llm teardown, then thv-llm config reset",
        )
    from thv_llm.commands import teardown

    teardown.remove_all(context)
    return ExitCode.DONE
