"""`thv-llm status`: gateway, session, service, tools on one screen; no network unless asked."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from thv_llm import settings, state
from thv_llm.commands import screen, watching
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, LoginRequiredError, ThvLlmError
from thv_llm.service import background
from thv_llm.sessions import SessionFacts
from thv_llm.store import choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thv_llm.checks import Check
    from thv_llm.context import Context
    from thv_llm.service.background import Running
    from thv_llm.settings import Settings
    from thv_llm.state import State
    from thv_llm.tools.engine import Drift

SUMMARY = "one screen: gateway, session, service, tools"
COLUMN = 10
NOT_LOGGED_IN = "not logged in"
CHECKED = ("provider", "session", "token", "gateway")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the form of the result, and whether to test at provider and gateway."""
    parser.add_argument("--check", action="store_true", help="also test the session at provider and gateway")
    add_format(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Show it.

    Returns:
        DONE; NOT_CONFIGURED, LOGIN_REQUIRED; FAILED when something that is configured cannot work.
    """
    found = settings.load(context.paths.settings)
    known = state.load(context.paths.state)
    running, facts, reasons = watching.seen(context)
    session = _session(found, known, facts, context)
    checked = _check(context) if args.check else []
    from thv_llm.commands import wiring

    drifted = wiring.drift(context, known, found)
    proxied = tuple(tool.tool for tool in known.wired if tool.mode == "proxy")
    has_proxy = bool(running and running.responds and running.record.port)
    lacking = {} if has_proxy else dict.fromkeys(proxied, _without_proxy(running))
    if args.format == "json":
        document = _document(found, known, drifted, lacking, session, facts, context.now())
        document["service"] = watching.document(running, facts, reasons)
        document["checks"] = [
            {"level": c.level.value.lower(), "name": c.name, "reason": c.reason} for c in checked
        ]
        context.result(screen.as_json(document))
    else:
        _show(context, "gateway", _gateway_lines(found))
        can_log_in = not found.missing()
        _show(context, "session", _session_lines(known, session, context.now(), can_log_in=can_log_in))
        _show(context, "service", _service_lines(context, known, running, facts, reasons, context.now()))
        _show(context, "tools", _tool_lines(context, known, drifted, lacking, running, facts))
        for check in checked:
            said = screen.wrapped(f"{check.level.value}: {check.reason}", COLUMN)
            _show(context, check.name, [said, *_next(check.next_step)])
    if found.missing():
        return ExitCode.NOT_CONFIGURED
    if not session.exists or (session.needs_login and not session.token_s):
        return ExitCode.LOGIN_REQUIRED
    is_missed = bool(lacking) or (known.service.wanted and not (running and running.responds))
    has_failed = session.failed and not session.token_s
    has_fault = any(check.level.value == "FAIL" for check in checked)
    return ExitCode.FAILED if is_missed or has_failed or drifted or has_fault else ExitCode.DONE


class Session(NamedTuple):
    """What was seen of the session.

    Attributes:
        adopted_until: until when the service has the token of a login without a refresh token; else None.
        token_s: for how long the access token in the service's memory is valid; 0 without one.
        failed: when the latest refresh failed, why, and what helps; None when none did since the latest
            token.
        needs_login: that is because the provider wants its user.
    """

    facts: SessionFacts
    adopted_until: float | None
    token_s: float
    failed: tuple[float, str, str] | None
    needs_login: bool = False

    @property
    def exists(self) -> bool:
        """Whether a session is stored, or the service has the token of one that cannot be."""
        return bool(self.facts.store or self.adopted_until)


def _session(found: Settings, known: State, facts: dict[str, Any], context: Context) -> Session:
    from thv_llm.tokens.failure import FailureMemory

    latest = FailureMemory(context.paths.refresh_failure, found.session_id, now=context.now).latest()
    failures = [(latest[0], latest[1].cause, latest[1].next_step)] if latest else []
    told = facts.get("refresh_failed")
    # The service repeats what the memory knows better: when it happened, and how long the pause still is.
    if isinstance(told, dict) and told["why"] not in [why for _, why, _ in failures]:
        failures.append((float(told["at"]), str(told["why"]), str(told.get("next", ""))))
    failed = max(failures, default=None)
    adopted_until = facts.get("adopted_until") or 0.0
    of_session = known.sessions.of(found.session_id)
    if not of_session.store and _is_in_file(context, found.session_id):  # the record is lost
        of_session = SessionFacts("file")
    is_file_gone = of_session.store == "file" and not os.path.exists(context.paths.session_file)
    if is_file_gone or (failed and failed[1] == NOT_LOGGED_IN):  # seen, whatever was recorded
        of_session = SessionFacts()
    if found.oidc.grant != "user":
        of_session = SessionFacts("none", who=f"a workload (oidc.grant = {found.oidc.grant})")
    return Session(
        of_session,
        adopted_until if adopted_until > context.now() else None,
        facts.get("token_remaining_s") or 0.0,
        failed,
        latest is not None and isinstance(latest[1], LoginRequiredError),
    )


def _is_in_file(context: Context, key: str) -> bool:
    """Tell whether the encrypted file holds a session of which no login is recorded."""
    if not os.path.exists(context.paths.session_file):
        return False
    with contextlib.suppress(ThvLlmError):
        return choice.open_named("file", context.paths, context.environ).load(key) is not None
    return False


def _check(context: Context) -> list[Check]:
    from thv_llm import checks

    here = checks.Installation(
        context.environ, context.paths, context.platform, context.now, context.progress
    )
    return list(checks.run(here, only=CHECKED))


def _show(context: Context, title: str, lines: Sequence[str]) -> None:
    on = screen.colors(context.stdout, context.environ)
    for number, line in enumerate(lines):
        head = screen.painted(f"{title:<{COLUMN}}", "bold", on=on) if number == 0 else " " * COLUMN
        context.show(f"{head}{line}")


def _next(command: str) -> list[str]:
    return [f"  next: {command}"] if command else []


def _gateway_lines(found: Settings) -> list[str]:
    try:
        found.require_configured()
    except ThvLlmError as error:
        return [error.what, *_next(error.next_step)]
    if found.oidc.grant == "token-file":  # no provider is asked
        return [found.gateway_url, f"tokens from {found.oidc.token_file}"]
    return [found.gateway_url, f"provider {found.oidc.issuer}"]


def _session_lines(known: State, session: Session, now: float, *, can_log_in: bool) -> list[str]:
    if not session.exists:
        left = ["a session of earlier settings is stored", *_next("thv-llm logout")]
        why = session.failed[1].removeprefix(NOT_LOGGED_IN) if session.failed else ""
        remedy = _next("thv-llm login") if can_log_in else []
        told = screen.wrapped(f"{NOT_LOGGED_IN}{f': {why}' if why else ''}", COLUMN)
        return [told, *remedy, *(left if known.sessions.stored else [])]
    facts = session.facts
    if not facts.store:
        lines = ["logged in without a refresh token"]
    else:
        since = f", logged in{screen.ago(now, facts.logged_in_at)}" if facts.logged_in_at else ""
        lines = [
            f"{facts.who or facts.subject or 'name unknown'}{since}",
            _place(facts, now),
        ]
    if facts.store and facts.ends_at and facts.ends_at > now:
        unless = " unless it is used" if facts.ends_later else ""
        lines.append(f"session ends in {screen.duration(facts.ends_at - now)}{unless}")
        lines += _next("thv-llm login --force") if facts.ending_s(now) else []
    if session.token_s:
        lines.append(f"access token expires in {screen.duration(session.token_s)}")
    if session.failed:
        at, why, next_step = session.failed
        none = "" if session.token_s else "no access token; "
        lines.append(screen.wrapped(f"{none}the last refresh failed{screen.ago(now, at)}: {why}", COLUMN))
        lines += _next(next_step or "thv-llm doctor")
    return lines


def _place(facts: SessionFacts, now: float) -> str:
    """Say where the session is; a keyring, which is not looked into here, with the age of the record."""
    where = choice.WORDS.get(facts.store, facts.store)
    if facts.store in ("file", "none"):  # the one was seen, the other is nothing to see
        return f"kept in {where}"
    age = screen.ago(now, facts.logged_in_at) if facts.logged_in_at else " at an unknown time"
    return f"stored in {where}{age}"


def _service_lines(
    context: Context,
    known: State,
    running: Running | None,
    facts: dict[str, Any],
    reasons: Sequence[str],
    now: float,
) -> list[str]:
    needed = any(tool.mode == "proxy" for tool in known.wired)
    obstacle = background.obstacle(context.paths)
    if obstacle and (known.service.wanted or needed) and not (running and running.responds):
        return [screen.wrapped(f"not running: {obstacle.short}", COLUMN), *_next(obstacle.next_step)]
    if running is None:
        if known.service.wanted:
            return ["not running, though tools need it", *_next("thv-llm setup")]
        return ["not running", *_next("thv-llm proxy start --background" if needed else "")]
    lines = [watching.service(running, now=now)]
    if isinstance(facts.get("proxy"), dict):
        lines.append(f"requests {watching.summary(facts['proxy'])}")
    if not running.responds:
        why = background.silence(context.paths, known)
        lines += [screen.wrapped(why, COLUMN), *_next("thv-llm setup")]
    for reason in reasons:
        lines += [screen.wrapped(reason, COLUMN), *_next("thv-llm setup")]
    return lines


def _tool_lines(
    context: Context,
    known: State,
    drifted: Sequence[Drift],
    lacking: Mapping[str, str],
    running: Running | None,
    facts: dict[str, Any],
) -> list[str]:
    if not known.wired:
        return ["none configured", *_next("thv-llm setup")]
    from thv_llm.commands import wiring
    from thv_llm.tools import engine

    width = max(len(tool.tool) for tool in known.wired) + 2
    lines = []
    for tool in known.wired:
        lost = [one for one in drifted if one.tool == tool.tool]
        files = ", ".join(screen.short(file.path, context.paths.home) for file in tool.files)
        condition = _condition(tool.tool, drifted, lacking)
        lines.append(f"{tool.tool:<{width}}{tool.mode:<8}{condition:<9}{files}")
        lines += [
            f"  {screen.wrapped(f'{screen.short(one.path, context.paths.home)}: {one}', COLUMN + 2)}"
            for one in lost
        ]
        lines += _next(lost[0].next_step) if lost else []
        for line in watching.tool_lines(_figures(facts, tool.tool), running, context.now()):
            lines.append(f"  {screen.wrapped(line, COLUMN + 2)}")
    if found := engine.not_configured(wiring.place(context), known):
        lines.append(f"{', '.join(tool.id for tool in found)}: found, not configured (thv-llm setup)")
    return lines


def _figures(facts: dict[str, Any], name: str) -> dict[str, Any]:
    from thv_llm.tools import engine

    apart = any(tool.id == name and engine.is_told_apart(tool) for tool in engine.TOOLS)
    return watching.of_tool(facts, name, is_told_apart=apart)


def _without_proxy(running: Running | None) -> str:
    """Return the state of a tool whose proxy has not responded; one that is there can serve all the same."""
    return "unknown" if running and running.record.port else "stopped"


def _condition(tool: str, drifted: Sequence[Drift], lacking: Mapping[str, str]) -> str:
    """Return the state of a tool's files; where these are right and the proxy is not, that of the proxy."""
    return next((one.condition.value for one in drifted if one.tool == tool), lacking.get(tool, "ok"))


def _document(
    found: Settings,
    known: State,
    drifted: Sequence[Drift],
    lacking: Mapping[str, str],
    session: Session,
    seen: dict[str, Any],
    now: float,
) -> dict[str, Any]:
    facts, failed = session.facts, session.failed
    return {
        "gateway": {
            "url": found.gateway_url or None,
            "issuer": found.oidc.issuer or None,
            "client_id": found.oidc.client_id or None,
        },
        "session": {
            "exists": bool(facts.store),
            "who": facts.who or None,
            "subject": facts.subject or None,
            "store": facts.store or None,
            "logged_in_at": facts.logged_in_at,
            "ends_at": facts.ends_at,
            "token_expires_at": now + session.token_s if session.token_s else None,
            "refresh_failed": {"at": failed[0], "why": failed[1]} if failed else None,
        },
        "tools": [
            {
                "tool": tool.tool,
                "mode": tool.mode,
                "state": _condition(tool.tool, drifted, lacking),
                "files": [file.path for file in tool.files],
                "changed": [
                    key for one in drifted if one.tool == tool.tool for key in one.keys or (one.why,)
                ],
                **_figures(seen, tool.tool),
            }
            for tool in known.wired
        ],
    }
