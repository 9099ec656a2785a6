"""`thv-llm tools [NAME]` and `thv-llm models`: what can be used here, and how."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from thv_llm import gateway, settings, state
from thv_llm.commands import parser as flags
from thv_llm.commands import screen, watching, wiring
from thv_llm.commands.parser import Command, add_format
from thv_llm.context import Context
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.service import background
from thv_llm.tools import engine
from thv_llm.tools.engine import Mode, Tool
from thv_llm.tools.model import Value
from thv_llm.tools.values import leaves

INDENT = 20
WIRABLE = (Mode.DIRECT.value, Mode.PROXY.value)
GROUPS = {
    "Not found here": WIRABLE,
    "Set up by hand (thv-llm tools NAME shows how)": (Mode.MANUAL.value,),
    "Not possible (thv-llm tools NAME says why, and what else can be done)": (Mode.NONE.value,),
}


def _add_tools(parser: argparse.ArgumentParser) -> None:
    """Declare the name and the format."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="one tool")
    add_format(parser)


def _run_tools(args: argparse.Namespace, context: Context) -> ExitCode:
    """Print the table, or one tool."""
    if args.name:
        _one(engine.by_name(args.name), args.format, context)
    else:
        _table(_rows(context), args.format, context)
    return ExitCode.DONE


TOOLS = Command("what is supported, found and configured", _add_tools, _run_tools)


def _rows(context: Context) -> list[dict[str, Any]]:
    found = {one.tool.id: one for one in engine.find(wiring.place(context))}
    known = state.load(context.paths.state)
    wanted = flags.readable(context.paths.settings) or settings.Settings()
    drifted = {drift.tool: drift for drift in wiring.drift(context, known, wanted)}
    rows = []
    for tool in engine.TOOLS:
        here, wired = found.get(tool.id), known.tool(tool.id)
        rows.append(
            {
                "tool": tool.id,
                "title": tool.title,
                "mode": engine.mode(tool).value,
                "found": here.how.value if here else None,
                "where": here.where if here else None,
                "wired": wired is not None,
                "state": drifted[tool.id].condition.value if tool.id in drifted else "ok" if wired else None,
                "next": drifted[tool.id].next_step if tool.id in drifted else None,
                "files": [file.path for file in wired.files] if wired else [],
                "left_to_do": list(tool.afterwards) if wired else [],
                "reason": tool.reason or None,
                "remedy": tool.remedy or None,
            }
        )
    return rows


def _table(rows: list[dict[str, Any]], form: str, context: Context) -> None:
    if form == "json":
        context.result(screen.as_json({"tools": rows}))
        return
    here = [row for row in rows if row["found"] or row["wired"]]
    elsewhere = [row for row in rows if row not in here]
    context.show("On this machine:" if here else "None of the tools was found on this machine.")
    for row in here:
        for line in _lines(row, context):
            context.show(line)
    for title, modes in GROUPS.items():
        names = [row["tool"] for row in elsewhere if row["mode"] in modes]
        if names:
            context.show(f"\n{title}:")
            context.show(f"  {screen.wrapped(', '.join(names), 2)}")


def _lines(row: dict[str, Any], context: Context) -> Iterator[str]:
    wiring = {"ok": "configured", None: "not configured"}.get(row["state"], row["state"])
    where = screen.short(row["where"] or "", context.paths.home)
    yield f"  {row['tool']:<18}{row['mode']:<8}{wiring:<15}{row['found'] or 'not found'} {where}".rstrip()
    for label, text in _left_to_do(row):
        yield f"{' ' * INDENT}{label}: {screen.wrapped(text, INDENT + len(label) + 2)}"


def _left_to_do(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if row["next"]:
        yield "next", row["next"]
    elif row["wired"]:
        yield from (("then", step) for step in row["left_to_do"])
    elif row["mode"] not in WIRABLE:
        yield "next", f"thv-llm tools {row['tool']}"
    elif row["found"] == engine.How.DIRECTORY.value:
        yield "next", f"thv-llm setup --client {row['tool']}"
    else:
        yield "next", "thv-llm setup"


def _one(tool: Tool, form: str, context: Context) -> None:
    found = background.find(context.paths)
    facts = background.facts(context.paths) if found and found.responds else {}
    seen = watching.of_tool(facts, tool.id, is_told_apart=engine.is_told_apart(tool))
    details = {**_details(tool, context, shows_key=form != "json"), **seen}
    if form == "json":
        context.result(screen.as_json(details))
        return
    context.show(f"{tool.title} ({tool.id}), {details['mode']}")
    for label in ("checked", "reason", "remedy", "note"):
        if details[label]:
            context.show(f"{label + ':':<10}{details[label]}")
    for step in tool.afterwards:
        context.show(f"{'then:':<10}{step}")
    for line in watching.tool_lines(seen, found, context.now()):
        context.show(f"{'seen:':<10}{screen.wrapped(line, 10)}")
    for file in details["files"]:
        context.result(f"\n{file['path']}\n{file['content']}".rstrip("\n"))
    if details["snippet"]:
        context.result(f"\n{details['snippet']}")


def _details(tool: Tool, context: Context, *, shows_key: bool) -> dict[str, Any]:
    """Return what is known of a tool.

    Args:
        shows_key: a snippet to be pasted has the tool's key in it.
    """
    wanted = settings.load(context.paths.settings)
    models = wanted.models or (wiring.PLACEHOLDER_MODEL,)
    values = replace(
        wiring.values(context, wanted, models=models),
        keys={},  # the real one is a secret, and setup writes it by itself
    )
    try:
        preview = engine.preview(tool, wiring.place(context), values) if wiring.can_wire(tool) else ()
    except ThvLlmError as error:
        preview = (("", str(error)),)
    return {
        "tool": tool.id,
        "title": tool.title,
        "mode": engine.mode(tool).value,
        "checked": tool.checked,
        "reason": tool.reason or None,
        "remedy": tool.remedy or None,
        "note": tool.note or None,
        "afterwards": list(tool.afterwards),
        "files": [{"path": path, "content": content} for path, content in preview],
        "snippet": _snippet(tool, wanted, context, shows_key=shows_key) or None,
    }


def _snippet(tool: Tool, wanted: settings.Settings, context: Context, *, shows_key: bool) -> str:
    """Return what to paste, with the tool's key and the gateway's model in it as far as they are known."""
    if tool.snippet is None:
        return ""
    if wanted.gateway_url and engine.has_key(tool) and shows_key:
        state.keys(context.paths, [tool.id])
    asks = wanted.gateway_url and Value.MODEL in leaves(tool.snippet)
    models = wiring.known_models(context, wanted) if asks else ()
    values = wiring.values(context, wanted, models=models)
    return engine.snippet(tool, values if shows_key else replace(values, keys={}))


def _run_models(args: argparse.Namespace, context: Context) -> ExitCode:
    """Ask the gateway, with an access token.

    Raises:
        LoginRequiredError: there is no session.
        NoResponseError: provider or gateway cannot be reached.
        ThvLlmError: the gateway does not list its models.
    """
    from thv_llm.service import cold_token

    found = settings.load(context.paths.settings)
    found.require_configured()
    token = cold_token.token(context.paths, context.environ)
    ids = gateway.models(found, context.environ, token.value)
    context.result(screen.as_json({"models": ids}) if args.format == "json" else "\n".join(ids))
    return ExitCode.DONE


MODELS = Command("model ids of the gateway", add_format, _run_models)
