"""`thv-llm proxy …`: the background service, by hand; in the foreground it shows every request."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from thv_llm import log, state
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, NotConfiguredError, ThvLlmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thv_llm.service.record import Record
    from thv_llm.world import World

SUMMARY = "the background service: start, stop, watch it"
EXAMPLES = """
thv-llm proxy status               is it running, and how is it doing
thv-llm proxy restart              after a change of settings or program
thv-llm proxy stop && thv-llm proxy start
                                   watch every request live; Ctrl-C ends it
thv-llm proxy logs --follow        the same from the service's log
thv-llm proxy install              have it started at every login
"""
DETACHED = argparse.SUPPRESS  # options that only our own processes and unit files use
WAITING = "Waiting for the token refresh that it is at …"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    start = actions.add_parser(
        "start",
        help="run it here, one line per request; with --background, detached",
        description="run the service here and show every request",
        examples="thv-llm proxy start                  until Ctrl-C\n"
        "thv-llm proxy start --background     detached, as setup does",
    )
    start.add_argument("--background", action="store_true", help="start it detached and return")
    start.add_argument("--detach", action="store_true", help=DETACHED)
    start.add_argument("--managed", action="store_true", help=DETACHED)
    for name, (about, _) in _ACTIONS.items():
        action = actions.add_parser(name, help=about, description=about, examples=f"thv-llm proxy {name}")
        if name == "status":
            add_format(action)
        if name == "logs":
            action.add_argument("--follow", action="store_true", help="go on showing new lines, until Ctrl-C")


def run(args: argparse.Namespace, world: World) -> ExitCode:
    """Do what `args.action` names."""
    if args.action != "start":
        return _ACTIONS[args.action][1](args, world)
    if args.detach:
        return _serve_detached(world)
    if args.managed:
        return _serve_managed(world)
    return _start_background(world) if args.background else _serve_here(args, world)


def _serve_here(args: argparse.Namespace, world: World) -> ExitCode:
    """Run in the foreground: the tool for looking at what goes wrong."""
    from thv_llm import serving
    from thv_llm.commands import watching
    from thv_llm.service import background, hardening
    from thv_llm.service.deadlines import DRAIN_S

    found = background.find(world.paths)
    if found:
        return _already(world, found.record)
    hardening.harden()
    log.to(world.stderr, debug=args.debug)
    service = serving.Service(
        world.paths,
        world.environ,
        now=world.now,
        with_proxy=True,
        watch=lambda exchange: log.info(f"{_clock(world.now())}  {watching.request(exchange)}"),
    )

    def ready(run: Record) -> None:
        world.say(f"Listening on http://127.0.0.1:{run.port} for {service.settings.gateway_url}")
        world.say("One line per request; Ctrl-C stops.")
        world.say(f"{'time':<10}{watching.HEADING}")

    def ending() -> None:
        world.say(f"Stopping; running answers get {DRAIN_S:.0f} s (Ctrl-C again: none).")

    with serving.ended_by_signals(service, ending):
        service.run(ready)
    return ExitCode.DONE


def _clock(now: float) -> str:
    import time

    return time.strftime("%H:%M:%S", time.localtime(now))


def _already(world: World, run: Record) -> ExitCode:
    from thv_llm.service import background

    world.say(f"The service is already running ({background.described(run)}).")
    world.say("To watch it: thv-llm proxy logs --follow. To run it here: thv-llm proxy stop first.")
    return ExitCode.DONE


def _serve_detached(world: World) -> ExitCode:
    """Be the process that `spawn` starts: tell the parent how it went, then live on alone."""
    from thv_llm import serving
    from thv_llm.service import spawn

    report = spawn.detach()
    try:
        return _serve_into_log(world, report.ready)
    except serving.AlreadyRunningError:
        report.ready()  # the other one is what the parent wants, and waits for
        return ExitCode.DONE
    except ThvLlmError as error:
        report.failed(error)
        raise
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else log.place(error)
        report.failed(ThvLlmError("the service did not start", why=why, next_step=f"see {world.paths.log}"))
        raise


def _serve_managed(world: World) -> ExitCode:
    """Be the process that systemd or launchd starts and watches, and starts again when it fails."""
    try:
        return _serve_into_log(world, lambda: None)
    except NotConfiguredError:  # trying again would not help; the log has it
        return ExitCode.DONE


def _serve_into_log(world: World, on_ready: Callable[[], None]) -> ExitCode:
    from thv_llm import files, serving
    from thv_llm.commands import watching
    from thv_llm.service import hardening, spawn

    hardening.harden()
    known = state.load(world.paths.state).service
    files.private_directory(world.paths.directory)
    log.to(log.File(world.paths.log, takes_stderr=True))
    try:
        service = serving.Service(
            world.paths,
            world.environ,
            now=world.now,
            with_proxy=known.proxy,
            watch=lambda exchange: log.info(watching.request(exchange)),
        )

        def ready(run: Record) -> None:
            spawn.came_up(world.paths)
            serving.log_start(run)
            on_ready()

        with serving.ended_by_signals(service, lambda: log.info("asked to stop")):
            service.run(ready)
        log.info("stopped")
    except ThvLlmError as error:
        log.info(f"cannot run: {'; '.join(part for part in (error.what, error.why) if part)}")
        raise
    return ExitCode.DONE


def _start_background(world: World) -> ExitCode:
    from thv_llm.service import background

    _want(world, proxy=True)
    running, is_new = background.start(world.paths, world.environ)
    if not is_new and running.record.port is None:
        running, is_new = background.restart(world.paths, world.environ), True
    if not is_new:
        return _already(world, running.record)
    world.say(f"Started the service ({background.described(running.record)}).")
    return ExitCode.DONE


def _want(world: World, *, proxy: bool) -> None:
    """Record that the service should run, so that a cold `token` brings it back after a reboot."""
    state.update(
        world.paths,
        lambda known: replace(
            known, service=replace(known.service, wanted=True, proxy=proxy or known.service.proxy)
        ),
    )


def _stop(args: argparse.Namespace, world: World) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import background

    found = background.find(world.paths)
    wired = _want_no_more(world)
    if found is None:
        world.say("The service is not running.")
        return ExitCode.DONE
    background.stop(world.paths, waiting=lambda: world.say(WAITING))
    world.say(f"Stopped the service (pid {found.record.pid}).")
    if wired:
        world.say(f"Until thv-llm proxy start --background these tools cannot work: {', '.join(wired)}.")
    return ExitCode.DONE


def _want_no_more(world: World) -> list[str]:
    """Record that the service should not run; return the tools that cannot do without it."""
    try:
        known = state.update(
            world.paths, lambda known: replace(known, service=replace(known.service, wanted=False))
        )
    except ThvLlmError as error:  # it can be stopped all the same
        world.say(f"thv-llm: warning: {error}")
        return []
    return [tool.tool for tool in known.wired if tool.mode == "proxy"]


def _restart(args: argparse.Namespace, world: World) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import background

    found = background.find(world.paths)
    wired = state.load(world.paths.state).wired
    needs_proxy = not wired or any(tool.mode == "proxy" for tool in wired)
    _want(world, proxy=found.record.port is not None if found else needs_proxy)
    running = background.restart(world.paths, world.environ, waiting=lambda: world.say(WAITING))
    world.say(f"{'Restarted' if found else 'Started'} the service ({background.described(running.record)}).")
    return ExitCode.DONE


def _status(args: argparse.Namespace, world: World) -> ExitCode:
    from thv_llm.commands import screen, watching
    from thv_llm.service import background

    found = background.find(world.paths)
    facts = background.facts(world.paths) if found and found.answers else {}
    reasons = background.reasons_to_restart(world.paths, found.record) if found else []
    if args.format == "json":
        world.answer(screen.as_json(watching.document(found, facts, reasons)))
    else:
        for line in watching.lines(found, facts, reasons, now=world.now()):
            world.answer(line)
    return ExitCode.DONE if found and found.answers else ExitCode.FAILED


def _logs(args: argparse.Namespace, world: World) -> ExitCode:
    from thv_llm.commands import proxy_logs

    proxy_logs.show(world, follow=args.follow)
    return ExitCode.DONE


def _install(args: argparse.Namespace, world: World) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm import settings
    from thv_llm.service import autostart, background

    settings.load(world.paths.settings).require_configured()
    manager = autostart.of(world.environ, world.platform)
    found = background.find(world.paths)
    _want(world, proxy=found.record.port is not None if found else False)
    background.stop(world.paths)
    try:
        manager.install(world.paths, world.environ)
    except ThvLlmError:
        background.match(world.paths, world.environ)  # as it was before
        raise
    running = background.wait(world.paths)
    world.say(f"Wrote {manager.file}; {manager.kind} starts the service at every login.")
    world.say(f"Started the service ({background.described(running.record)}).")
    world.say("To undo: thv-llm proxy uninstall")
    return ExitCode.DONE


def _uninstall(args: argparse.Namespace, world: World) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import autostart, background

    manager = autostart.of(world.environ, world.platform)
    if not manager.uninstall(world.paths):
        world.say(f"Nothing to undo: there is no {manager.file} of ours.")
        return ExitCode.DONE
    world.say(f"Removed {manager.file}.")
    done = background.match(world.paths, world.environ)  # it was stopped with its unit; tools need it
    if done:
        world.say(done)
    return ExitCode.DONE


_ACTIONS: dict[str, tuple[str, Callable[[argparse.Namespace, World], ExitCode]]] = {
    "stop": ("stop it; running answers may end first", _stop),
    "restart": ("stop it and start it again, with today's program and settings", _restart),
    "status": ("is it running, since when, how many requests, how fast", _status),
    "logs": ("the last lines of its log; with --follow, new ones too", _logs),
    "install": ("have it started at every login (systemd user unit, launchd agent)", _install),
    "uninstall": ("undo install", _uninstall),
}
