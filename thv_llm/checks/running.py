"""Checks of the background service: alive, ours, up to date, alone on its port."""

from __future__ import annotations

from collections.abc import Iterator

from thv_llm.checks.model import Check, Ground, fail, ok, warn
from thv_llm.service import autostart, background

RESTART = "thv-llm proxy restart"


def service(ground: Ground) -> Iterator[Check]:
    """The service runs if it should, answers as ourselves, and is not out of date."""
    found, wanted = ground.running, ground.state.service.wanted
    if found is None and wanted:
        yield fail("service", "it should run and does not", RESTART)
    elif found is None:
        yield from _not_running(ground)
    elif not found.answers:
        reason = f"process {found.record.pid} is there but does not prove itself on {ground.where.socket}"
        yield fail("service", reason, RESTART)
    else:
        reasons = background.reasons_to_restart(ground.where, found.record)
        for reason in reasons:
            yield warn("service", reason, RESTART)
        if not reasons:
            yield ok("service", background.described(found.record))


def _not_running(ground: Ground) -> Iterator[Check]:
    waiting = [tool.tool for tool in ground.state.wired if tool.mode == "proxy"]
    if waiting:
        reason = f"it does not run, and cannot be done without by: {', '.join(waiting)}"
        yield fail("service", reason, "thv-llm proxy start --background")
    elif ground.state.wired:
        yield warn("service", "it does not run; the helper works without, but slowly", RESTART)
    else:
        yield ok("service", "it does not run, and nothing needs it")


def port(ground: Ground) -> Iterator[Check]:
    """Nobody else has the proxy's port."""
    number = ground.settings.proxy_port
    use = background.port_use(ground.where, number, ground.state.local_key)
    if use.kind == "ours":
        yield ok("port", f"{number} is ours")
    elif use.kind == "stranger":
        owner = use.owner or "another program"
        remedy = f"end it, or thv-llm setup --proxy-port {number + 1}"
        needs_it = ground.state.service.proxy
        reason = f"{owner} listens on 127.0.0.1:{number}, the proxy's port"
        yield fail("port", reason, remedy) if needs_it else warn("port", reason, remedy)
    elif ground.running is not None and ground.running.record.port:
        yield fail("port", f"nobody listens on 127.0.0.1:{number}", RESTART)
    else:
        yield ok("port", f"{number} is free")


def autostarted(ground: Ground) -> Iterator[Check]:
    """What starts the service at login still names a program that is there."""
    manager = autostart.of(ground.environ, ground.platform)
    if not manager.is_installed(ground.where):
        return
    if manager.is_current(ground.where, ground.environ):
        yield ok("autostart", manager.file)
    else:
        yield warn("autostart", f"{manager.file} is for another program or setting", "thv-llm proxy install")
