"""What `setup`, `teardown` and `tools` share: where tools are looked for, what is written, what is said."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from thv_llm import gateway, paths, settings, state
from thv_llm.context import Context
from thv_llm.errors import ThvLlmError
from thv_llm.gateway import Routes
from thv_llm.secret import Secret
from thv_llm.settings import Settings
from thv_llm.state import State
from thv_llm.tools import engine
from thv_llm.tools.engine import Condition, Detection, Drift, Mode, Place, Plan, Tool, Values
from thv_llm.tools.values import without_effect

MAY_BE_WRITTEN = (Condition.OUTDATED, Condition.MISSING)
"""Files that no user has changed since."""
PLACEHOLDER_MODEL = "MODEL"
"""Stands for the gateway's model ids as long as it was not asked."""


def place(context: Context) -> Place:
    """Return the machine in which tools are looked for.

    Raises:
        ThvLlmError: there is no home directory.
    """
    if not context.paths.home:
        raise paths.no_home(context.environ)
    return engine.Place(context.environ, context.paths.home, context.platform)


def can_wire(tool: Tool) -> bool:
    """Tell whether setup can write the tool's settings."""
    return engine.mode(tool) in (Mode.DIRECT, Mode.PROXY)


def find_routes(context: Context, wanted: Settings, token: Secret, *, given: Collection[str] = ()) -> Routes:
    """Ask the gateway where it serves each API, and say what is odd about its URL."""
    context.progress("Asking the gateway where it serves each API …")
    found = gateway.find_routes(wanted, context.environ, token, given=given)
    after = settings.overlaid(wanted, found.prefixes)
    for what, next_step in gateway.remarks(after, context.environ, token):
        context.say(f"Note: {what}.\n  next: {next_step}")
    return found


def catch_up(context: Context, wanted: Settings, token: Secret) -> None:
    """Find out with the first token what `setup --lazy` could not, and bring the tools' files up to date.

    What a user has changed in them since is left alone.
    """
    from thv_llm.service import background

    where = context.paths
    known = state.load(where.state)
    if not known.wired or wanted.anthropic_path_prefix is not None:
        return
    routes = find_routes(context, wanted, token)
    wanted = settings.save(where, routes.prefixes)
    changed = {one.tool for one in drift(context, known, wanted) if one.condition not in MAY_BE_WRITTEN}
    tools = [tool for tool in engine.TOOLS if known.tool(tool.id) and tool.id not in changed]
    models = wanted.models or models_of(context, wanted, token, tools)
    plans = []
    for tool in tools:
        if why := routes.lacks(tool):
            context.say(f"{tool.title} will not work: {why}.\n  next: {routes.remedy(tool)}")
        recorded = known.tool(tool.id)
        own = values(context, wanted, models=models or (recorded and recorded.models) or ())
        try:
            plans.append(engine.plan(tool, place(context), own, known))
        except ThvLlmError as error:
            context.say(f"{tool.title} was not brought up to date: {error.short}")
    for outcome in engine.apply([plan for plan in plans if any(file.new for file in plan.files)], where):
        for line in (*outcome.lines, *([str(outcome.error)] if outcome.error else [])):
            context.say(f"{outcome.tool.title}: {line}")
        for step in outcome.plan.next_steps:
            context.say(f"  next: {step}")
    if line := background.match(where, context.environ):
        context.say(line)
    if others := engine.not_configured(place(context), known):
        titles = ", ".join(tool.title for tool in others)
        context.say(f"Found, not configured: {titles}.\n  next: thv-llm setup")


def models_of(context: Context, wanted: Settings, token: Secret, tools: Collection[Tool]) -> tuple[str, ...]:
    """Return the gateway's model ids when a tool needs them; none when it does not say."""
    if not any(engine.takes_models(tool) for tool in tools):
        return ()

    context.progress("Asking the gateway for its models …")
    try:
        return gateway.models(wanted, context.environ, token)
    except ThvLlmError as error:
        context.say(f"The gateway named no models: {error.why or error.what}.")
        return ()


def values(context: Context, wanted: Settings, *, models: tuple[str, ...]) -> Values:
    """Return what the tools' files are to hold; a placeholder is each key that setup has not made."""
    return engine.values_of(wanted, state.load(context.paths.state), context.paths.helper, models)


def drift(context: Context, known: State, wanted: Settings) -> tuple[Drift, ...]:
    """Return the files of configured tools that are not as setup would leave them, the helper among them."""
    from thv_llm.service import helper

    path, fault = context.paths.helper, helper.fault(context.paths.helper)
    direct = [tool.tool for tool in known.wired if tool.mode == Mode.DIRECT.value] if fault else []
    without = tuple(Drift(tool, path, Condition.MISSING, why=f"the helper {fault}") for tool in direct)
    if not context.paths.home or not wanted.gateway_url:
        return engine.drift(known) + without
    return engine.drift(known, place(context), engine.values_of(wanted, known, path)) + without


def known_models(context: Context, wanted: Settings) -> tuple[str, ...]:
    """Return the model ids of the settings, else those that the gateway names; none without a session."""
    if wanted.models:
        return wanted.models
    from thv_llm.service import cold_token

    try:
        token = cold_token.token(context.paths, context.environ)
        return gateway.models(wanted, context.environ, token.value)
    except ThvLlmError as error:
        context.say(f"The gateway named no models: {error.why or error.what}.")
        return ()


def with_service(known: State, *, wanted: bool, can_proxy: bool = True) -> State:
    """Return the state with the service that the configured tools need: agent always, proxy on demand.

    Args:
        can_proxy: the proxy's port can be had; without it the agent still serves the direct tools.
    """
    needs_proxy = can_proxy and any(tool.mode == Mode.PROXY.value for tool in known.wired)
    is_wanted = wanted and bool(known.wired)
    service = replace(known.service, wanted=is_wanted, proxy=needs_proxy, program=paths.program())
    return replace(known, service=service)


def with_own_keys(known: State) -> State:
    """Return the state without the one key of 0.1.0, unless a tool was left with it."""
    left = [tool for tool in known.wired if tool.mode == Mode.PROXY.value and tool.tool not in known.keys]
    return replace(known, is_shared=known.is_shared and bool(left))


def say_found(found: Sequence[Detection], context: Context) -> None:
    """Say which tools are here, which must be named, and why others cannot be configured."""
    sure = [one for one in found if not one.directory_only and can_wire(one.tool)]
    if sure:
        context.say(f"Found {', '.join(one.tool.title for one in sure)}.")
    for one in found:
        if not can_wire(one.tool):
            where = f" ({one.where})" if one.directory_only else ""
            context.say(f"Found {one.tool.title}{where}: {one.tool.reason}.")
            context.say(f"  next: {one.tool.remedy or f'thv-llm tools {one.tool.id}'}")
        elif one.directory_only:
            context.say(
                f"Skipped {one.tool.title}: found {one.where} but not the program.\n"
                f"  next: thv-llm setup --client {one.tool.id}"
            )


def say_without_effect(
    context: Context, wanted: Settings, given: Collection[str], tools: Collection[Tool]
) -> None:
    """Say which of the options that were given do nothing for these tools."""
    for what, next_step in without_effect(wanted, given, tools, engine.TOOLS):
        context.say(f"Note: {what}.\n  next: {next_step}")


def say_next_steps(
    plans: Sequence[Plan], context: Context, *, changed: Collection[str], is_lazy: bool
) -> None:
    """Say what is left to do, first of all a login, then in each tool; and how to undo all of it.

    Args:
        changed: ids of the tools with a new file; the others have taken theirs up already.
    """
    steps = ["  thv-llm login (until then tools show an error that asks for it)"] if is_lazy else []
    for plan in plans:
        told = (*plan.notes, *(plan.next_steps if plan.tool.id in changed else ()))
        steps += [f"  {plan.tool.title}: {step}" for step in told]
    context.facts["left_to_do"] = [step.strip() for step in steps]
    if steps:
        context.say("What is left to do:")
    for step in steps:
        context.say(step)
    context.say("To undo all of this: thv-llm teardown")
