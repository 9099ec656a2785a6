"""`thv-llm status`: gateway, session, service, tools on one screen; no network unless asked."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from thv_llm import files, settings, state
from thv_llm.commands import screen, watching
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, ThvLlmError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thv_llm.checks import Check
    from thv_llm.service.background import Running
    from thv_llm.sessions import SessionFacts
    from thv_llm.settings import Settings
    from thv_llm.state import State, WiredFile
    from thv_llm.tools.engine import Drift
    from thv_llm.world import World

SUMMARY = "one screen: gateway, session, service, tools"
EXAMPLES = """
thv-llm status                    what is known here, at once
thv-llm status --check            ask provider and gateway, too
thv-llm status --format json      for scripts
"""
COLUMN = 10
CHECKED = ("provider", "session", "token", "gateway")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the form of the answer, and whether to ask around."""
    parser.add_argument(
        "--check", action="store_true", help="ask provider and gateway whether the session is good"
    )
    add_format(parser)


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Show it; exit code 0 whatever it shows, unless `--check` finds a fault."""
    found = settings.load(world.paths.settings)
    known = state.load(world.paths.state)
    running, facts, reasons = _service(world)
    checked = _check(world) if args.check else []
    drifted = _drift(known)
    if args.format == "json":
        document = _document(found, known, drifted, facts)
        document["service"] = watching.document(running, facts, reasons)
        document["checks"] = [
            {"level": c.level.value.lower(), "name": c.name, "reason": c.reason} for c in checked
        ]
        world.answer(screen.as_json(document))
    else:
        _show(world, "gateway", _gateway_lines(found))
        _show(world, "session", _session_lines(known, found, facts, world))
        _show(world, "service", _service_lines(known, running, facts, reasons, world.now()))
        _show(world, "tools", _tool_lines(world, known, drifted))
        for check in checked:
            said = screen.wrapped(f"{check.level.value}: {check.reason}", COLUMN).split("\n" + " " * COLUMN)
            _show(world, check.name, [*said, *_next(check.remedy)])
    return ExitCode.FAILED if any(c.level.value == "FAIL" for c in checked) else ExitCode.DONE


def _service(world: World) -> tuple[Running | None, dict[str, Any], list[str]]:
    from thv_llm.service import background

    running = background.find(world.paths)
    facts = background.facts(world.paths) if running and running.answers else {}
    reasons = background.reasons_to_restart(world.paths, running.record) if running else []
    return running, facts, reasons


def _drift(known: State) -> Sequence[Drift]:
    if all(_is_as_written(file) for tool in known.wired for file in tool.files):
        return ()  # the usual case, without the editors of all formats
    from thv_llm.tools import engine

    return engine.drift(known)


def _is_as_written(file: WiredFile) -> bool:
    import hashlib

    data = files.read(file.path)
    if data is None or not file.is_settled:
        return False
    return hashlib.sha256(data).hexdigest() == file.editions[-1].after


def _check(world: World) -> list[Check]:
    from thv_llm import checks

    ground = checks.Ground(world.environ, world.paths, world.platform, world.now, world.progress)
    return list(checks.run(ground, only=CHECKED))


def _show(world: World, title: str, lines: Sequence[str]) -> None:
    on = screen.colours(world.stdout, world.environ)
    for number, line in enumerate(lines):
        head = screen.painted(f"{title:<{COLUMN}}", "bold", on=on) if number == 0 else " " * COLUMN
        world.answer(f"{head}{line}")


def _next(command: str) -> list[str]:
    return [f"  next: {command}"] if command else []


def _gateway_lines(found: Settings) -> list[str]:
    try:
        found.require_configured()
    except ThvLlmError as error:
        return [error.what, *_next(error.next_step)]
    return [found.gateway_url, f"provider {found.oidc.issuer}"]


def _session(found: Settings, known: State) -> SessionFacts:
    from thv_llm.tokens.session import session_key

    return known.sessions.of(session_key(found.oidc))


def _why_ended(found: Settings, world: World) -> str:
    from thv_llm.tokens.failure import FailureMemory
    from thv_llm.tokens.session import session_key

    failures = FailureMemory(world.paths.refresh_failure, session_key(found.oidc), now=world.now)
    ended = failures.why_ended()
    return ended.why if ended else ""


def _session_lines(known: State, found: Settings, facts: dict[str, Any], world: World) -> list[str]:
    session, now = _session(found, known), world.now()
    if not session.store and (adopted_until := facts.get("adopted_until") or 0) > now:
        left_s = adopted_until - now
        return ["logged in without a refresh token", f"the service has a token for {screen.duration(left_s)}"]
    if not session.store:
        left = ["there is one of earlier settings", *_next("thv-llm logout")] if known.sessions.stored else []
        why = _why_ended(found, world)
        return [f"none: {why}" if why else "none", *_next("thv-llm login"), *left]
    who = session.who or session.subject or "logged in"
    since = f", since {screen.duration(now - session.logged_in_at)}" if session.logged_in_at else ""
    lines = [f"{who}{since}", f"kept in {STORES.get(session.store, session.store)}"]
    expires_at = facts.get("token_expires_at") or session.expires_at
    if expires_at and expires_at > now:  # one that is not: the next use gets another
        lines.append(f"token good for {screen.duration(expires_at - now)}")
    return lines


STORES = {
    "secret-service": "the Secret Service (your desktop's keyring)",
    "keyring": "the system's keyring",
    "file": "the encrypted file llm-session.enc",
}


def _service_lines(
    known: State, running: Running | None, facts: dict[str, Any], reasons: Sequence[str], now: float
) -> list[str]:
    if running is None:
        if known.service.wanted:
            return ["not running, though tools need it", *_next("thv-llm proxy restart")]
        return ["not running"]
    lines = [watching.service(running, now=now)]
    if isinstance(facts.get("proxy"), dict):
        lines.append(watching.summary(facts["proxy"]))
    if not running.answers:
        lines += ["does not answer", *_next("thv-llm proxy restart")]
    for reason in reasons:
        lines += [screen.wrapped(reason, COLUMN), *_next("thv-llm proxy restart")]
    return lines


def _tool_lines(world: World, known: State, drifted: Sequence[Drift]) -> list[str]:
    if not known.wired:
        return ["none wired", *_next("thv-llm setup")]
    width = max(len(tool.tool) for tool in known.wired) + 2
    lines = []
    for tool in known.wired:
        lost = [one for one in drifted if one.tool == tool.tool]
        files = ", ".join(screen.short(file.path, world.paths.home) for file in tool.files)
        lines.append(f"{tool.tool:<{width}}{tool.mode:<8}{'changed' if lost else 'ok':<9}{files}")
        lines += [
            f"  {screen.short(one.path, world.paths.home)}: {one.why or ', '.join(one.keys)}" for one in lost
        ]
        lines += _next(f"thv-llm setup --client {tool.tool}") if lost else []
    return lines


def _document(
    found: Settings, known: State, drifted: Sequence[Drift], facts: dict[str, Any]
) -> dict[str, Any]:
    session = _session(found, known)
    return {
        "gateway": {"url": found.gateway_url, "issuer": found.oidc.issuer, "client_id": found.oidc.client_id},
        "session": {
            "exists": bool(session.store),
            "who": session.who,
            "subject": session.subject,
            "store": session.store,
            "logged_in_at": session.logged_in_at,
            "token_expires_at": facts.get("token_expires_at") or session.expires_at,
        },
        "tools": [
            {
                "tool": tool.tool,
                "mode": tool.mode,
                "files": [file.path for file in tool.files],
                "changed": [
                    key for one in drifted if one.tool == tool.tool for key in one.keys or (one.why,)
                ],
            }
            for tool in known.wired
        ],
    }
