"""`thv-llm setup`: find the tools, log in, configure them, start what must run.

The order is a promise: preflight (what would fail later is tried first), confirmation, login,
settings, tools, service. Nothing is written before the login has worked, the undo of each edit is
on disk before the edit, and the settings are saved whatever becomes of the tools.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from thv_llm import files, paths, policy, providers, settings, state
from thv_llm.checks.local import no_command, path_advice
from thv_llm.commands import connection, screen, session, sources, wiring
from thv_llm.commands import parser as flags
from thv_llm.context import Context
from thv_llm.errors import ExitCode, ThvLlmError, UsageError
from thv_llm.gateway import PROTOCOLS, Routes
from thv_llm.providers import IdentityProvider
from thv_llm.service import autostart, background
from thv_llm.settings import Settings
from thv_llm.tools import engine
from thv_llm.tools.engine import Applied, Detection, Mode, Place, Plan, Tool, Values
from thv_llm.tools.undo import ForeignError

FOUND_EACH_TIME = {"service.network", "models_path", *(protocol.field for protocol in PROTOCOLS)}
"""Settings that setup finds out; without them saved, the next run does so again."""

SUMMARY = "find tools, log in, configure them, start the service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what setup takes besides the settings."""
    parser.add_argument("url", metavar="URL", nargs="?", help="the gateway, which can publish the rest")
    parser.add_argument(
        "--client", metavar="TOOL", action="append", default=[], help="only this tool; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="print a diff of every file, change nothing")
    parser.add_argument("--lazy", action="store_true", help="do not log in now")
    parser.add_argument("--no-service", action="store_true", help="do not start the service")
    parser.add_argument("--yes", action="store_true", help="do not ask before changing files")
    parser.add_argument(
        "--take-over", action="store_true", help="replace the settings of another thv-llm installation"
    )
    session.add_flow(parser)
    flags.add_format(parser)
    sources.add_from(parser)
    flags.add_settings(parser)


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Do it, in the order of the module's promise; an error names the whole line that helps.

    Returns:
        FAILED when a named tool, or none of those found, could be configured.
    """
    try:
        return _carried_out(args, context)
    except ThvLlmError as error:
        error.next_step = flags.retyped(error.next_step, args)
        raise


def _carried_out(args: argparse.Namespace, context: Context) -> ExitCode:
    context.facts.update(tools=[], left_to_do=[])
    named = [engine.by_name(name) for name in dict.fromkeys(args.client)]
    connection.typed_url(args)
    changes, wanted, ca_pem = sources.effective(args, context)
    typed = frozenset(changes)
    wanted, published = connection.complete(args, context, changes, wanted)
    wanted.require_configured()
    flags.warn(wanted, context.say)
    wanted = _with_network(changes, wanted, context)
    known = providers.of(wanted.oidc.issuer)
    wanted = _with_defaults(changes, wanted, context, known)
    setup = Setup(context, wanted, wiring.place(context), take_over=args.take_over, typed=typed)
    tools = setup.choose(named)
    wiring.say_without_effect(context, wanted, changes, tools)
    planned = wanted.models or (wiring.PLACEHOLDER_MODEL,)
    draft = setup.plan(tools, wiring.values(context, wanted, models=planned))
    draft = [plan for plan in draft if setup.can_work(plan)]
    if args.dry_run:
        return setup.show(draft)
    setup.require_room()
    sources.keep_ca(context, ca_pem)

    @functools.cache
    def ask_once() -> None:
        setup.confirm(final or draft, assume_yes=args.yes)

    final: list[Plan] = []
    begun = None
    if draft and not args.lazy:
        if not known and _is_new(wanted, context):
            ask_once()
            wanted = _with_defaults(changes, wanted, context, session.provider(context, wanted))
        session.say_left_behind(context, flags.readable(context.paths.settings), wanted)
        begun = session.begin(
            context,
            wanted,
            flow=args.flow,
            before_login=ask_once,
            is_published=bool(published),
        )
    begun_or_stored = begun or (session.stored(context, wanted) if draft else None)
    if begun_or_stored:
        if published:
            connection.check_audience(wanted, begun_or_stored.token.value)
        # saved, so that a later run without the network writes the same
        given = [key for key, value in changes.items() if value is not None]
        routes = wiring.find_routes(context, wanted, begun_or_stored.token.value, given=given)
        changes |= routes.prefixes
        wanted = settings.overlaid(wanted, routes.prefixes)
        draft = setup.that_are_served(draft, routes)
    models = wanted.models
    if begun_or_stored and not models:
        tools = [plan.tool for plan in draft]
        models = wiring.models_of(context, wanted, begun_or_stored.token.value, tools)
    if draft:
        final = setup.plan([plan.tool for plan in draft], wiring.values(context, wanted, models=models))
        ask_once()
        # from now on the values hold the keys themselves
        state.keys(context.paths, [plan.tool.id for plan in final if engine.has_key(plan.tool)])
        final = setup.plan([plan.tool for plan in final], wiring.values(context, wanted, models=models))
    configured = setup.carry_out(final, changes, with_service=not args.no_service)
    connection.remember(context, changes, wanted, published)
    if begun:
        session.hand_over(context, begun)
    setup.say_end(configured, is_lazy=args.lazy and not begun_or_stored)
    return ExitCode.FAILED if setup.skipped and (args.client or not configured) else ExitCode.DONE


def _with_network(changes: dict[str, object], wanted: Settings, context: Context) -> Settings:
    """Have the network variables of this environment saved for the service, unless a flag names them."""
    from thv_llm.service import network

    if "service.network" in changes:
        return wanted
    changes["service.network"] = found = network.to_save(context.environ, wanted.network)
    return wanted._replace(network=found)


def _with_defaults(
    changes: dict[str, object], wanted: Settings, context: Context, known: IdentityProvider | None
) -> Settings:
    """Take over what a new provider needs, unless it is named; what the one before needed goes.

    Settings that have worked with this issuer stay as they are: other ones would need another login.
    """
    saved = flags.readable(context.paths.settings)
    if not _is_new(wanted, context):
        return wanted
    if known and known.unusable:
        what = f"{known.title} cannot be used"
        raise UsageError(what, why=known.unusable, next_step="thv-llm help providers")
    found: dict[str, object] = {}
    before = providers.of(saved.oidc.issuer) if saved else None
    for row in settings.ROWS:
        if row.key in changes:
            continue
        value = wanted.get(row)
        if before and value == before.defaults.get(row.key, row.default) != row.default:
            value = found[row.key] = row.default
        if known and row.key in known.defaults and value == row.default:
            found[row.key] = known.defaults[row.key]
    if known and (needed := {key: value for key, value in found.items() if key in known.defaults}):
        taken = settings.options(f"Taken for {known.title}:", needed).replace(" \\\n ", "")
        context.say(screen.wrapped(f"{taken} (thv-llm help providers)", 0))
    changes |= found
    return settings.overlaid(wanted, found, policy.load())


def _is_new(wanted: Settings, context: Context) -> bool:
    """Tell whether a user is about to log in at another issuer than before."""
    saved = flags.readable(context.paths.settings)
    return wanted.oidc.grant == "user" and not (saved and saved.oidc.issuer == wanted.oidc.issuer)


@dataclass(frozen=True)
class Setup:
    """The steps of one run.

    Attributes:
        typed: the settings that the user gave, by key.
        skipped: the titles of tools that could not be configured, though they were found or named.
        changed: the ids of those with a new file.
    """

    context: Context
    wanted: Settings
    place: Place
    take_over: bool = False
    typed: frozenset[str] = frozenset()
    skipped: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def choose(self, named: Sequence[Tool]) -> list[Tool]:
        """Return the tools to configure: the named ones alone, else those found or configured before."""
        if named:
            chosen = list(named)
        else:
            wiring.say_found(self._found, self.context)
            ids = {one.tool.id for one in self._found if not one.directory_only and wiring.can_wire(one.tool)}
            ids |= {tool.tool for tool in state.load(self.context.paths.state).wired}
            chosen = [tool for tool in engine.TOOLS if tool.id in ids]
        for tool in chosen:
            if not wiring.can_wire(tool):
                reason = tool.reason or "its settings cannot be edited safely"
                self._skip(tool, reason, tool.remedy or f"thv-llm tools {tool.id}")
        return [tool for tool in chosen if wiring.can_wire(tool)]

    @cached_property
    def _found(self) -> tuple[Detection, ...]:
        return engine.find(self.place)

    def plan(self, tools: Sequence[Tool], values: Values) -> list[Plan]:
        """Plan every tool; say why one is skipped, and go on with the others."""
        known = state.load(self.context.paths.state)
        plans = []
        for tool in tools:
            try:
                plans.append(engine.plan(tool, self.place, values, known, take_over=self.take_over))
            except (UsageError, ForeignError):
                raise
            except ThvLlmError as error:
                self._skip(tool, error.short, error.next_step)
        return plans

    def _skip(self, tool: Tool, why: str, next_step: str) -> None:
        self.skipped.append(tool.title)
        self.context.note(
            "tools", tool=tool.id, result="skipped", files=[], reason=why, next=next_step or None
        )
        self.context.say(f"Skipped {tool.title}: {why}")
        if next_step:
            self.context.say(f"  next: {next_step}")

    def that_are_served(self, plans: Sequence[Plan], routes: Routes) -> list[Plan]:
        """Return the plans without those of tools whose API the gateway does not serve."""
        known = state.load(self.context.paths.state)
        for plan in plans:
            if why := routes.lacks(plan.tool):
                undo = f"; until then: thv-llm teardown {plan.tool.id}" if known.tool(plan.tool.id) else ""
                self._skip(plan.tool, why, routes.remedy(plan.tool) + undo)
        return [plan for plan in plans if not routes.lacks(plan.tool)]

    def can_work(self, plan: Plan) -> bool:
        """Tell whether a plan can be carried out and will work afterwards; say why if not."""
        if plan.mode is Mode.PROXY and self._port_owner is not None:
            number = self.wanted.proxy_port
            why = (
                f"port {number} on 127.0.0.1, the proxy's, is used by {self._port_owner or 'another program'}"
            )
            self._skip(plan.tool, why, f"thv-llm setup --proxy-port {number + 1}")
            return False
        if plan.values.helper_shell and engine.needs_program(plan.tool):
            why = f"its credential helper could not be run from {self.context.paths.directory} (noexec)"
            self._skip(plan.tool, why, "set THV_LLM_HOME to a directory that allows programs")
            return False
        try:
            for file in plan.files:
                if file.before != file.after:
                    files.require_writable(file.path)
        except ThvLlmError as error:
            by_hand = f"thv-llm tools {plan.tool.id} (shows what to add by hand)"
            self._skip(plan.tool, f"{error.what}: {error.why}", error.next_step or by_hand)
            return False
        return True

    @cached_property
    def _port_owner(self) -> str | None:
        """The foreign process that has the proxy's port ("" when unknown); None when the port can be had."""
        use = background.port_use(self.context.paths, self.wanted.proxy_port)
        return use.owner if use.kind == "foreign" else None

    def require_room(self) -> None:
        """Raise unless the settings can be saved, and the service can have its socket."""
        where = self.context.paths
        paths.require_socket(where.socket)
        if flags.readable(where.settings) != self.wanted and self._must_be_saved(self.wanted):
            files.require_writable(where.settings, is_ours=True)

    def _must_be_saved(self, wanted: Settings) -> bool:
        """Tell whether the settings file lacks more than what the next run will find out again."""
        saved = flags.readable(self.context.paths.settings)
        rows = [row for row in settings.ROWS if row.key in self.typed or row.key not in FOUND_EACH_TIME]
        return saved is None or any(saved.get(row) != wanted.get(row) for row in rows)

    def _save(self, changes: dict[str, object]) -> Settings:
        """Save the settings; where that cannot be (a link into a read-only store), say what was not saved."""
        where = self.context.paths
        try:
            return settings.save(where, changes)
        except ThvLlmError as error:
            wanted = settings.overlaid(self.wanted, changes)
            if self._must_be_saved(wanted):
                raise
            saved = flags.readable(where.settings) or wanted
            keys = [row.key for row in settings.ROWS if saved.get(row) != wanted.get(row)]
            self.context.say(
                f"Not saved: {', '.join(keys)}. The next setup finds out again.\n  why:  {error.short}"
            )
            return wanted

    def show(self, plans: Sequence[Plan]) -> ExitCode:
        """Print the diffs; nothing else happens."""
        diffs = {plan.tool.id: diff for plan in plans if (diff := engine.diff(plan))}
        if self.context.in_json:
            self.context.facts["changes"] = [{"tool": name, "diff": diff} for name, diff in diffs.items()]
        else:
            for diff in diffs.values():
                self.context.result(diff.rstrip("\n"))
        if any(engine.takes_models(plan.tool) for plan in plans) and not self.wanted.models:
            self.context.say(f"{wiring.PLACEHOLDER_MODEL} stands for the models that the gateway will name.")
        if plans and self.wanted.anthropic_path_prefix is None:
            self.context.say("The gateway will be asked where it serves each API.")
        saved = flags.readable(self.context.paths.settings) or settings.Settings()
        keys = [row.key for row in settings.ROWS if saved.get(row) != self.wanted.get(row)]
        if keys:
            self.context.say(f"Settings that would be saved: {', '.join(keys)}.")
        self.context.say(
            "Nothing was changed (--dry-run)." if diffs or keys else "Everything is as setup would leave it."
        )
        return ExitCode.DONE

    def confirm(self, plans: Sequence[Plan], *, assume_yes: bool) -> None:
        """Ask a user at a terminal before files are changed."""
        changed = [file.path for plan in plans for file in plan.files if file.before != file.after]
        if changed and not assume_yes:
            listed = "\n".join(f"  {path}" for path in changed)
            facts = state.load(self.context.paths.state).sessions.of(self.wanted.session_id)
            self.context.confirm(
                f"These files will be changed (thv-llm setup --dry-run shows how):\n{listed}",
                kept="you stay logged in (thv-llm logout ends the session)" if facts.store else "",
            )

    def carry_out(
        self, plans: Sequence[Plan], changes: dict[str, object], *, with_service: bool
    ) -> list[Plan]:
        """Write settings, helper and tools' files, start the service, and say what was done.

        Returns:
            What was configured.
        """
        from thv_llm.service import background, helper, network

        where, environ = self.context.paths, self.context.environ
        session.keep_secrets(self.context, self.wanted, changes, flags.readable(where.settings))
        saved = self._save(changes)
        self.context.facts["settings"] = where.settings
        try:
            network.keep_password(saved, where, environ)
        except ThvLlmError as error:
            self.context.say(f"The password of HTTPS_PROXY was not saved: {error.why or error.what}.")
        if plans:
            helper.write(where)
        outcomes = engine.apply(plans, where)
        for outcome in outcomes:
            self._tell(outcome)
        known = state.update(where, wiring.with_own_keys)
        background.renew_keys(where)
        is_for_tools = bool(known.wired) or known.service.wanted
        if is_for_tools:
            can_proxy = self._port_owner is None
            state.update(
                where, lambda old: wiring.with_service(old, wanted=with_service, can_proxy=can_proxy)
            )
        self._arrange_autostart(saved)
        if is_for_tools:
            if line := background.match(where, environ):
                self.context.say(line)
        elif (found := background.find(where)) and (
            not found.responds or background.reasons_to_restart(where, found.record)
        ):  # one that the user runs without a tool
            running = background.restart(where, environ)
            self.context.say(f"Restarted the service ({background.described(running.record)}).")
        return [outcome.plan for outcome in outcomes if not outcome.error]

    def say_end(self, configured: Sequence[Plan], *, is_lazy: bool) -> None:
        """Say what is left to do, how to undo, and what was skipped."""
        if configured:
            wiring.say_next_steps(configured, self.context, changed=self.changed, is_lazy=is_lazy)
        elif self.skipped:
            self.context.say("Settings saved. No tool was configured.")
        elif any(not wiring.can_wire(one.tool) for one in self._found):
            self.context.say(
                "Settings saved. Found no tool that setup can configure; run it again after installing one."
            )
        else:
            titles = ", ".join(tool.title for tool in engine.TOOLS if wiring.can_wire(tool))
            self.context.say(screen.wrapped(f"Looked for {titles}.", 0))
            self.context.say(
                "Settings saved. No AI tool found yet; run thv-llm setup again after installing one."
            )
            if is_lazy:
                self.context.say("What is left to do:\n  thv-llm login")
        if advice := path_advice(self.context.environ, paths.program()):
            self.context.say(f"Note: {no_command(self.context.environ)}.\n  next: {advice}")
        if configured and self.skipped:
            self.context.say(f"Skipped: {', '.join(self.skipped)} (the reasons are above).")

    def _arrange_autostart(self, saved: Settings) -> None:
        """Have the service started at every login when a tool cannot do without it, or no longer."""
        say, where, environ = self.context.say, self.context.paths, self.context.environ
        manager = autostart.of(environ, self.context.platform)
        service = state.load(where.state).service
        if not saved.autostart:
            if background.unmanage(where, manager):
                say(f"Removed {manager.file}: the service no longer starts at login.")
            return
        is_needed = (service.wanted and service.proxy) or manager.is_installed(where)
        if not is_needed or manager.is_current(where, environ):
            return
        if not manager.is_available():
            say(f"The service will not start at login: there is no {manager.kind} for this user here.")
            say("  next: after a reboot, thv-llm proxy start --background")
        else:
            try:
                running = background.manage(where, environ, manager)
            except ThvLlmError as error:
                say(f"thv-llm: warning: {error}")
                return
            say(f"Started the service ({background.described(running.record)}), now and at every login.")
            if manager.kind == "systemd" and autostart.goes_with_the_last_session(environ):
                say("It ends when you log out of this machine; to keep it: loginctl enable-linger")

    def _tell(self, outcome: Applied) -> None:
        result = "failed" if outcome.error else "configured" if outcome.lines else "unchanged"
        self.context.note(
            "tools",
            tool=outcome.tool.id,
            result=result,
            files=[file.path for file in outcome.plan.files],
            reason=str(outcome.error) if outcome.error else None,
            next=None,
        )
        for line in outcome.lines:
            self.context.say(f"{outcome.tool.title}: {line}")
        if outcome.lines:
            self.changed.append(outcome.tool.id)
        if outcome.error:
            self.skipped.append(outcome.tool.title)
            self.context.say(f"{outcome.tool.title}: {outcome.error}")
        elif not outcome.lines:
            self.context.say(f"{outcome.tool.title}: already configured")
        for warning in outcome.plan.warnings:
            self.context.say(f"{outcome.tool.title}: warning: {warning}")
