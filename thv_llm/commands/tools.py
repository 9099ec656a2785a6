"""`thv-llm tools [NAME]`: what is supported, found and wired, and how."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thv_llm import settings, state
from thv_llm.commands import wiring
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.tools import engine
from thv_llm.tools.engine import Mode, Tool

if TYPE_CHECKING:
    from thv_llm.world import World

SUMMARY = "what is supported, found and wired"
EXAMPLES = """
thv-llm tools                     the table
thv-llm tools codex               what setup writes for it, or what to paste
thv-llm tools --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the name and the format."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="one tool")
    add_format(parser)


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Print the table, or one tool."""
    if args.name:
        _one(engine.by_name(args.name), args.format, world)
    else:
        _table(_rows(world), args.format, world)
    return ExitCode.DONE


def _rows(world: World) -> list[dict[str, Any]]:
    found = {one.tool.id: one for one in engine.find(wiring.place(world))}
    known = state.load(world.paths.state)
    drifted = {drift.tool for drift in engine.drift(known)}
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
                "drifted": tool.id in drifted,
                "files": [file.path for file in wired.files] if wired else [],
                "left_to_do": list(tool.afterwards) if wired else [],
                "reason": tool.reason or None,
                "remedy": tool.remedy or None,
            }
        )
    return rows


def _table(rows: list[dict[str, Any]], form: str, world: World) -> None:
    if form == "json":
        import json

        world.answer(json.dumps({"tools": rows}, indent=2))
        return
    world.answer(f"{'TOOL':<20}{'MODE':<8}{'FOUND':<16}{'WIRED':<9}LEFT TO DO")
    for row in rows:
        wired = "drifted" if row["drifted"] else "yes" if row["wired"] else "-"
        left = _left_to_do(row)
        world.answer(f"{row['tool']:<20}{row['mode']:<8}{row['found'] or '-':<16}{wired:<9}{left}".rstrip())


def _left_to_do(row: dict[str, Any]) -> str:
    if row["drifted"]:
        return "thv-llm setup"
    if row["wired"]:
        return "; ".join(row["left_to_do"])
    if row["found"] == "directory only":
        return f"thv-llm setup --client {row['tool']}"
    if row["found"]:
        can_wire = row["mode"] in (Mode.DIRECT.value, Mode.PROXY.value)
        return "thv-llm setup" if can_wire else f"thv-llm tools {row['tool']}"
    return ""


def _one(tool: Tool, form: str, world: World) -> None:
    details = _details(tool, world)
    if form == "json":
        import json

        world.answer(json.dumps(details, indent=2))
        return
    world.answer(f"{tool.title} ({tool.id}), {details['mode']}")
    for label in ("checked", "reason", "remedy", "note"):
        if details[label]:
            world.answer(f"{label + ':':<10}{details[label]}")
    for step in tool.afterwards:
        world.answer(f"{'then:':<10}{step}")
    for file in details["files"]:
        world.answer(f"\n{file['path']}\n{file['content']}".rstrip("\n"))
    if details["snippet"]:
        world.answer(f"\n{details['snippet']}")


def _details(tool: Tool, world: World) -> dict[str, Any]:
    wanted = settings.load(world.paths.settings)
    models = wanted.models or (wiring.PLACEHOLDER_MODEL,)
    values = replace(
        wiring.values(world, wanted, models=models, anthropic_path=wanted.anthropic_path_prefix or ""),
        local_key=wiring.PLACEHOLDER_KEY,  # the real one is a secret, and setup writes it by itself
    )
    try:
        preview = engine.preview(tool, wiring.place(world), values) if wiring.can_wire(tool) else ()
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
        "snippet": engine.snippet(tool, values) or None,
    }
