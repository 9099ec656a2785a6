"""What `setup`, `teardown` and `tools` share: where tools are looked for, what is written, what is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from thv_llm import state
from thv_llm.secret import Secret
from thv_llm.state import ServiceState, State
from thv_llm.tools import engine
from thv_llm.tools.engine import Detection, Mode, Place, Plan, Tool, Values
from thv_llm.tools.values import without_v1

if TYPE_CHECKING:
    from thv_llm.settings import Settings
    from thv_llm.world import World

PLACEHOLDER_MODEL = "MODEL"
"""Stands for the gateway's model ids as long as it was not asked."""
PLACEHOLDER_KEY = Secret("LOCAL-KEY")
"""Stands for the local key before there is one."""


def place(world: World) -> Place:
    """Return the machine in which tools are looked for."""
    return engine.Place(world.environ, world.paths.home, world.platform)


def can_wire(tool: Tool) -> bool:
    """Tell whether setup can write the tool's settings."""
    return engine.mode(tool) in (Mode.DIRECT, Mode.PROXY)


def values(world: World, wanted: Settings, *, models: tuple[str, ...]) -> Values:
    """Return what the tools' files are to hold; the local key is a placeholder before setup made one."""
    key = state.load(world.paths.state).local_key
    return Values(
        gateway_url=wanted.gateway_url,
        anthropic_url=without_v1(wanted.gateway_url) + (wanted.anthropic_path_prefix or ""),
        proxy_port=wanted.proxy_port,
        local_key=key or PLACEHOLDER_KEY,
        helper_path=world.paths.helper,
        models=models,
        ca_file=wanted.ca_file,
        tls_skip_verify=wanted.tls_skip_verify,
        bedrock_compat=wanted.bedrock_compat,
        bedrock_enable_1m=wanted.bedrock_enable_1m,
    )


def with_service(known: State, *, wanted: bool) -> State:
    """Return the state with the service that the wired tools need: agent always, proxy on demand."""
    from thv_llm import paths

    needs_proxy = any(tool.mode == Mode.PROXY.value for tool in known.wired)
    service = ServiceState(wanted and bool(known.wired), needs_proxy, paths.program())
    return replace(known, service=service)


def say_found(found: Sequence[Detection], world: World) -> None:
    """Say which tools are here, and which would have to be named."""
    sure = [one for one in found if not one.directory_only and can_wire(one.tool)]
    if sure:
        world.say(f"Found {', '.join(one.tool.title for one in sure)}.")
    for one in found:
        if one.directory_only and can_wire(one.tool):
            world.say(
                f"Left out {one.tool.title}: only its directory {one.where} is there, not the program.\n"
                f"  next: thv-llm setup --client {one.tool.id}"
            )


def say_next_steps(plans: Sequence[Plan], world: World) -> None:
    """Say what is left to do in each tool, and how to undo all of it."""
    steps = [f"  {plan.tool.title}: {step}" for plan in plans for step in (*plan.notes, *plan.next_steps)]
    if steps:
        world.say("What is left to do:")
    for step in steps:
        world.say(step)
    world.say("To undo all of this: thv-llm teardown")
