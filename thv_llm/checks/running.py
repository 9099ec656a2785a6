"""Checks of the background service: alive, ours, up to date, alone on its port."""

from __future__ import annotations

from collections.abc import Iterator

from thv_llm.checks.model import RESTART, SETUP, Check, Installation, fail, ok, warn
from thv_llm.service import autostart, background, challenge


def service(here: Installation) -> Iterator[Check]:
    """The service runs if it should, answers as ourselves, and is not out of date."""
    found, wanted = here.running, here.state.service.wanted
    if found is None and wanted:
        yield fail("service", "not running, though it should be", SETUP, RESTART)
    elif found is None:
        yield from _not_running(here)
    elif not found.answers:
        reason = f"process {found.record.pid} is there but does not respond on {here.where.socket}"
        if not here.state.local_key:
            reason = f"process {found.record.pid} cannot be checked: the record of its key is gone"
        yield fail("service", reason, SETUP, RESTART)
    else:
        reasons = background.reasons_to_restart(here.where, found.record)
        for reason in reasons:
            yield warn("service", reason, SETUP, RESTART)
        if not reasons:
            yield ok("service", background.described(found.record))


def _not_running(here: Installation) -> Iterator[Check]:
    waiting = [tool.tool for tool in here.state.wired if tool.mode == "proxy"]
    if waiting:
        reason = f"not running; required by {', '.join(waiting)}"
        yield fail("service", reason, SETUP, RESTART)
    elif here.state.wired:
        yield warn("service", "not running; the credential helper is slow without it", SETUP)
    else:
        yield ok("service", "not running, and not needed")


def port(here: Installation) -> Iterator[Check]:
    """Nobody else has the proxy's port."""
    number = here.settings.proxy_port
    use = background.port_use(here.where, number)
    is_open = use.kind == "ours" and challenge.somebody_listens(number)
    if is_open:
        yield ok("port", f"{number} is used by thv-llm")
    elif use.kind == "stranger":
        owner = use.owner or "another program"
        remedy = (*SETUP, "--proxy-port", str(number + 1))
        needs_it = here.state.service.proxy or any(tool.mode == "proxy" for tool in here.state.wired)
        reason = f"port {number}, the proxy's, is used by {owner}"
        yield fail("port", reason, remedy) if needs_it else warn("port", reason, remedy)
    elif here.running is not None and here.running.record.port:
        yield fail("port", f"connection refused by 127.0.0.1:{number}", SETUP, RESTART)
    else:
        yield ok("port", f"{number} is free")


def autostarted(here: Installation) -> Iterator[Check]:
    """Something starts the service at login where a tool needs it, and names a program that is there."""
    manager = autostart.of(here.environ, here.platform)
    if not manager.is_installed(here.where):
        is_needed = here.settings.autostart and any(tool.mode == "proxy" for tool in here.state.wired)
        if is_needed and manager.is_available():
            # no `fix`: the user may have removed it
            yield warn("autostart", "the service does not start at login", ("thv-llm", "proxy", "install"))
    elif manager.is_current(here.where, here.environ):
        yield ok("autostart", manager.file)
    else:
        remedy = ("thv-llm", "proxy", "install")
        yield warn("autostart", f"{manager.file} is for another program or setting", remedy, fix=remedy)
