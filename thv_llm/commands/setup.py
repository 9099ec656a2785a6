"""`thv-llm setup`: find the tools, log in, wire them, start what must run.

The order is a promise: nothing is written before every edit is planned and the login has
worked; the undo of each edit is on disk before the edit; settings and service come last.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thv_llm import paths, settings, state
from thv_llm.commands import connection, session, wiring
from thv_llm.errors import ExitCode, ThvLlmError, UsageError
from thv_llm.tools import engine
from thv_llm.tools.engine import Mode, Outcome, Place, Plan, Tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thv_llm.secret import Secret
    from thv_llm.settings import Settings
    from thv_llm.tools.engine import Values
    from thv_llm.world import World

SUMMARY = "find tools, log in, wire them, start the service"
EXAMPLES = """
thv-llm setup --gateway-url https://llm.example.com \\
              --issuer https://id.example.com --client-id thv-llm
thv-llm setup --dry-run           show every change as a diff, make none
thv-llm setup --client codex      only this tool
thv-llm setup                     again: put right what has changed
thv-llm setup --lazy --yes …      unattended; people log in later
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what setup takes besides the settings."""
    parser.add_argument(
        "--client", metavar="TOOL", action="append", default=[], help="only this tool; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="print a diff of every file, change nothing")
    parser.add_argument("--lazy", action="store_true", help="do not log in now")
    parser.add_argument("--no-service", action="store_true", help="do not start the service")
    parser.add_argument("--yes", action="store_true", help="do not ask before changing files")
    session.add_flow(parser)
    connection.add_arguments(parser)


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Do it, in the order of the module's promise."""
    changes, wanted = connection.effective(args, world.paths.settings)
    wanted.require_configured()
    connection.warn(wanted, world.say)
    setup = Setup(world, wanted, wiring.place(world))
    tools = setup.choose(args.client)
    if not tools:
        return ExitCode.DONE
    models = wanted.models or (wiring.PLACEHOLDER_MODEL,)
    draft = setup.plan(tools, wiring.values(world, wanted, models=models))
    if not draft:
        return ExitCode.FAILED
    if args.dry_run:
        return setup.show(draft)
    setup.check_service(draft)
    session.say_left_behind(world, connection.readable(world.paths.settings), wanted)
    begun = None if args.lazy else session.begin(world, wanted, flow=session.flow(args))
    if setup.must_find_anthropic(draft) and (path := setup.anthropic_path()):
        # kept, so that a later run without the network writes the same
        changes["anthropic_path_prefix"] = path
        wanted = wanted._replace(anthropic_path_prefix=path)
    models = wanted.models or (setup.models(draft, begun.token.value) if begun else ())
    state.local_key(world.paths)
    final = setup.plan([plan.tool for plan in draft], wiring.values(world, wanted, models=models))
    setup.confirm(final, assume_yes=args.yes)
    code = setup.carry_out(final, changes, with_service=not args.no_service)
    if begun:
        session.hand_over(world, begun)
    return code


@dataclass(frozen=True)
class Setup:
    """The steps of one run."""

    world: World
    wanted: Settings
    place: Place

    def choose(self, named: Sequence[str]) -> list[Tool]:
        """Return the tools to wire: the named ones, else those that are here; and those wired before."""
        wired = {tool.tool for tool in state.load(self.world.paths.state).wired}
        found = engine.find(self.place)
        if named:
            wanted = {engine.by_name(name).id for name in named}
        else:
            wanted = {one.tool.id for one in found if not one.directory_only and wiring.can_wire(one.tool)}
            wiring.say_found(found, self.world)
        tools = [tool for tool in engine.TOOLS if tool.id in wanted | wired]
        for tool in [tool for tool in tools if not wiring.can_wire(tool)]:
            tools.remove(tool)
            self.world.say(f"{tool.title} cannot be wired: {tool.reason or 'paste its snippet yourself'}.")
            self.world.say(f"  next: {tool.remedy or f'thv-llm tools {tool.id}'}")
        if not tools and not named:
            titles = ", ".join(tool.title for tool in engine.TOOLS if wiring.can_wire(tool))
            self.world.say(f"No AI tool was found. Looked for: {titles}.")
        if not tools and named:
            raise UsageError("none of the named tools can be wired", next_step="thv-llm tools")
        return tools

    def plan(self, tools: Sequence[Tool], values: Values) -> list[Plan]:
        """Plan every tool; say why one is skipped, and go on with the others."""
        known = state.load(self.world.paths.state)
        plans = []
        for tool in tools:
            try:
                plans.append(engine.plan(tool, self.place, values, known))
            except UsageError:
                raise
            except ThvLlmError as error:
                self.world.say(f"Skipped {tool.title}: {error}")
        return plans

    def show(self, plans: Sequence[Plan]) -> ExitCode:
        """Print the diffs; nothing else happens."""
        diffs = [diff for plan in plans if (diff := engine.diff(plan))]
        for diff in diffs:
            self.world.answer(diff.rstrip("\n"))
        if any(engine.needs_models(plan.tool) for plan in plans) and not self.wanted.models:
            self.world.say(f"{wiring.PLACEHOLDER_MODEL} stands for the models that the gateway will name.")
        if self.must_find_anthropic(plans):
            self.world.say("The gateway will be asked where it serves Anthropic's API.")
        self.world.say(
            "Nothing was changed (--dry-run)." if diffs else "Everything is as setup would leave it."
        )
        return ExitCode.DONE

    def check_service(self, plans: Sequence[Plan]) -> None:
        """Stop before anything is written when the service could not start: no socket, port taken."""
        paths.require_socket(self.world.paths.socket)
        if all(engine.mode(plan.tool) is not Mode.PROXY for plan in plans):
            return
        from thv_llm.service import background

        key = state.load(self.world.paths.state).local_key
        use = background.port_use(self.world.paths, self.wanted.proxy_port, key)
        if use.kind == "stranger":
            raise background.taken(self.wanted.proxy_port, use.owner)

    def confirm(self, plans: Sequence[Plan], *, assume_yes: bool) -> None:
        """Ask a person at a terminal before files are changed."""
        changed = [file.path for plan in plans for file in plan.files if file.before != file.after]
        if assume_yes or not changed or not (self.world.stdin.isatty() and self.world.stderr.isatty()):
            return
        self.world.say("These files will be changed (thv-llm setup --dry-run shows how):")
        for path in changed:
            self.world.say(f"  {path}")
        self.world.stderr.write("Go on? [Y/n] ")
        self.world.stderr.flush()
        answer = self.world.stdin.readline()
        if not answer:  # the input ended, and so must the line of the question
            self.world.say("")
            answer = "no"
        if answer.strip().lower() not in ("", "y", "yes"):
            raise ThvLlmError("stopped before anything was changed")

    def must_find_anthropic(self, plans: Sequence[Plan]) -> bool:
        """Whether a tool needs the place of Anthropic's API, which the settings do not name."""
        is_known = self.wanted.anthropic_path_prefix is not None
        return not is_known and any(engine.needs_anthropic(plan.tool) for plan in plans)

    def anthropic_path(self) -> str:
        """Ask the gateway where it serves Anthropic's API."""
        from thv_llm import gateway

        self.world.progress("Asking the gateway where it serves Anthropic's API …")
        return gateway.anthropic_path(self.wanted, self.world.environ)

    def models(self, plans: Sequence[Plan], token: Secret) -> tuple[str, ...]:
        """Return the gateway's model ids when a tool needs them; none when it does not say."""
        if not any(engine.needs_models(plan.tool) for plan in plans):
            return ()
        from thv_llm import gateway

        self.world.progress("Asking the gateway for its models …")
        try:
            return gateway.models(self.wanted, self.world.environ, token)
        except ThvLlmError as error:
            self.world.say(f"The gateway named no models: {error.why or error.what}.")
            return ()

    def carry_out(self, plans: Sequence[Plan], changes: dict[str, object], *, with_service: bool) -> ExitCode:
        """Write helper, tools' files and settings, start the service, and say what was done."""
        from thv_llm.service import background, helper

        helper.write(self.world.paths)
        outcomes = engine.apply(plans, self.world.paths)
        for outcome in outcomes:
            self._tell(outcome)
        if not plans or all(outcome.error for outcome in outcomes):
            return ExitCode.FAILED
        settings.save(self.world.paths, changes)
        state.update(self.world.paths, lambda known: wiring.with_service(known, wanted=with_service))
        line = background.match(self.world.paths, self.world.environ)
        if line:
            self.world.say(line)
        wiring.say_next_steps([outcome.plan for outcome in outcomes if not outcome.error], self.world)
        return ExitCode.DONE

    def _tell(self, outcome: Outcome) -> None:
        for line in outcome.lines:
            self.world.say(f"{outcome.tool.title}: {line}")
        if outcome.error:
            self.world.say(f"{outcome.tool.title}: {outcome.error}")
        elif not outcome.lines:
            self.world.say(f"{outcome.tool.title}: already wired")
        for warning in outcome.plan.warnings:
            self.world.say(f"{outcome.tool.title}: warning: {warning}")
