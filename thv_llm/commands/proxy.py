"""`thv-llm proxy …`: the background service, by hand; in the foreground it shows every request."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from thv_llm import files, log, settings, state
from thv_llm.commands.parser import add_format
from thv_llm.errors import ExitCode, NotConfiguredError, ThvLlmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thv_llm.context import Context
    from thv_llm.service.pid_file import ServiceRun

SUMMARY = "the background service: start, stop, watch it"
DETACHED = argparse.SUPPRESS  # options that only our own processes and unit files use
WAITING = "Waiting for the token refresh that it is at …"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    add_format(parser)
    start = actions.add_parser(
        "start",
        help="run it here, one line per request; with --background, detached",
        description="run the service here and show every request",
    )
    start.add_argument("--background", action="store_true", help="start it detached and return")
    start.add_argument("--detach", action="store_true", help=DETACHED)
    start.add_argument("--managed", action="store_true", help=DETACHED)
    start.add_argument("--at", help=DETACHED)
    for name, (about, _) in _ACTIONS.items():
        action = actions.add_parser(name, help=about, description=about)
        if name == "status":
            add_format(action)
        if name == "logs":
            action.add_argument("--follow", action="store_true", help="keep showing new lines, until Ctrl-C")


def run(args: argparse.Namespace, context: Context) -> ExitCode:
    """Do what `args.action` names."""
    if args.action != "start":
        return _ACTIONS[args.action or "status"][1](args, context)
    if args.detach:
        return _serve_detached(context)
    if args.managed:
        if args.at:
            context = replace(context, environ={**context.environ, "THV_LLM_HOME": args.at})
        return _serve_managed(context)
    return start_background(context) if args.background else _serve_here(args, context)


def _serve_here(args: argparse.Namespace, context: Context) -> ExitCode:
    """Run in the foreground: the tool for looking at what goes wrong."""
    from thv_llm.commands import watching
    from thv_llm.service import background, service
    from thv_llm.service.pid_file import DRAIN_S
    from thv_llm.system import memory

    found = background.find(context.paths)
    if found:
        return _already(context, found.record)
    memory.harden()
    log.to(context.stderr, debug=args.debug)
    serving = service.Service(
        context.paths,
        context.environ,
        now=context.now,
        with_proxy=True,
        watch=lambda entry: log.info(f"{_clock(context.now())}  {watching.request(entry)}"),
    )

    def ready(run: ServiceRun) -> None:
        context.say(f"Listening on http://127.0.0.1:{run.port} for {serving.settings.gateway_url}")
        context.say("One line per request; Ctrl-C stops.")
        context.say(f"{'time':<10}{watching.HEADING}")

    def ending() -> None:
        context.say(f"Stopping; running responses get {DRAIN_S:.0f} s (Ctrl-C again: none).")

    with service.ended_by_signals(serving, ending):
        serving.run(ready)
    return ExitCode.DONE


def _clock(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))


def _already(context: Context, run: ServiceRun) -> ExitCode:
    from thv_llm.service import background

    context.say(f"The service is already running ({background.described(run)}).")
    context.say("To watch it: thv-llm proxy logs --follow. To run it here: thv-llm proxy stop first.")
    return ExitCode.DONE


def _serve_detached(context: Context) -> ExitCode:
    """Be the process that `background` starts: tell the parent how it went, then live on alone."""
    from thv_llm.service import background, service

    report = background.detach()
    try:
        return _serve_into_log(context, report.ready)
    except service.AlreadyRunningError:
        report.ready()  # the other one is what the parent wants, and waits for
        return ExitCode.DONE
    except ThvLlmError as error:
        report.failed(error)
        raise
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else log.place(error)
        report.failed(ThvLlmError("the service did not start", why=why, next_step=f"see {context.paths.log}"))
        raise


def _serve_managed(context: Context) -> ExitCode:
    """Be the process that systemd or launchd starts and watches, and starts again when it fails."""
    from thv_llm.service import background, service

    try:
        try:
            return _serve_into_log(context, lambda: None)
        except (
            service.AlreadyRunningError
        ):  # a tool's call was faster than the manager, after a crash or a boot
            background.stop(context.paths)
            return _serve_into_log(context, lambda: None)
    except NotConfiguredError:  # trying again would not help; the log has it
        return ExitCode.DONE


def _serve_into_log(context: Context, on_ready: Callable[[], None]) -> ExitCode:
    from thv_llm.commands import watching
    from thv_llm.service import background, service
    from thv_llm.system import memory

    memory.harden()
    known = state.load(context.paths.state).service
    files.private_directory(context.paths.directory)
    log.to(log.File(context.paths.log, takes_stderr=True))
    try:
        serving = service.Service(
            context.paths,
            context.environ,
            now=context.now,
            with_proxy=known.proxy,
            watch=lambda entry: log.info(watching.request(entry)),
        )

        def ready(run: ServiceRun) -> None:
            background.came_up(context.paths)
            service.log_start(run)
            on_ready()

        with service.ended_by_signals(serving, lambda: log.info("asked to stop")):
            serving.run(ready)
        log.info("stopped")
    except ThvLlmError as error:
        log.info(f"cannot run: {'; '.join(part for part in (error.what, error.why) if part)}")
        raise
    return ExitCode.DONE


def start_background(context: Context) -> ExitCode:
    """Start the service with the proxy, detached, unless it runs."""
    from thv_llm.service import background

    _want(context, proxy=True)
    running, is_new = background.start(context.paths, context.environ)
    if not is_new and running.record.port is None:
        running, is_new = background.restart(context.paths, context.environ), True
    if not is_new:
        return _already(context, running.record)
    context.say(f"Started the service ({background.described(running.record)}).")
    return ExitCode.DONE


def _want(context: Context, *, proxy: bool) -> None:
    """Record that the service should run, so that a cold `token` brings it back after a reboot."""
    state.update(
        context.paths,
        lambda known: replace(
            known, service=replace(known.service, wanted=True, proxy=proxy or known.service.proxy)
        ),
    )


def _stop(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import background

    found = background.find(context.paths)
    wired = _want_no_more(context)
    if found is None:
        context.say("The service is not running.")
        return ExitCode.DONE
    background.stop(context.paths, waiting=lambda: context.say(WAITING))
    context.say(f"Stopped the service (pid {found.record.pid}).")
    if wired:
        context.say(f"{', '.join(wired)} will not work until you run: thv-llm proxy start --background")
    return ExitCode.DONE


def _want_no_more(context: Context) -> list[str]:
    """Record that the service should not run; return the tools that cannot do without it."""
    try:
        known = state.update(
            context.paths, lambda known: replace(known, service=replace(known.service, wanted=False))
        )
    except ThvLlmError as error:  # it can be stopped all the same
        context.say(f"thv-llm: warning: {error}")
        return []
    return [tool.tool for tool in known.wired if tool.mode == "proxy"]


def _restart(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import background

    found = background.find(context.paths)
    wired = state.load(context.paths.state).wired
    needs_proxy = not wired or any(tool.mode == "proxy" for tool in wired)
    _want(context, proxy=found.record.port is not None if found else needs_proxy)
    running = background.restart(context.paths, context.environ, waiting=lambda: context.say(WAITING))
    context.say(
        f"{'Restarted' if found else 'Started'} the service ({background.described(running.record)})."
    )
    return ExitCode.DONE


def _status(args: argparse.Namespace, context: Context) -> ExitCode:
    from thv_llm.commands import screen, watching

    found, facts, reasons = watching.seen(context)
    if args.format == "json":
        context.result(screen.as_json(watching.document(found, facts, reasons)))
    else:
        for line in watching.lines(found, facts, reasons, now=context.now()):
            context.show(line)
    return ExitCode.DONE if found and found.responds else ExitCode.FAILED


def _logs(args: argparse.Namespace, context: Context) -> ExitCode:
    from thv_llm.commands import watching

    watching.show_log(context, follow=args.follow)
    return ExitCode.DONE


def _install(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import autostart, background, network

    saved = settings.load(context.paths.settings)
    saved.require_configured()
    manager = autostart.of(context.environ, context.platform)
    found = background.find(context.paths)
    _want(context, proxy=found.record.port is not None if found else False)
    rows = network.to_save(context.environ, saved.network)
    saved = settings.save(context.paths, {"service.autostart": True, "service.network": rows})
    network.keep_password(saved, context.paths, context.environ)
    running = background.manage(context.paths, context.environ, manager)
    context.say(f"Wrote {manager.file}; {manager.kind} starts the service at every login.")
    context.say(f"Started the service ({background.described(running.record)}).")
    context.say("To undo: thv-llm proxy uninstall")
    return ExitCode.DONE


def _uninstall(args: argparse.Namespace, context: Context) -> ExitCode:  # noqa: ARG001 - one signature for all
    from thv_llm.service import autostart, background

    manager = autostart.of(context.environ, context.platform)
    if manager.is_installed(context.paths):
        settings.save(context.paths, {"service.autostart": False})  # or the next setup would install it again
    if not background.unmanage(context.paths, manager):
        context.say(f"Nothing to undo: there is no {manager.file} of ours.")
        return ExitCode.DONE
    context.say(f"Removed {manager.file}.")
    done = background.match(context.paths, context.environ)  # it was stopped with its unit; tools need it
    if done:
        context.say(done)
    return ExitCode.DONE


_ACTIONS: dict[str, tuple[str, Callable[[argparse.Namespace, Context], ExitCode]]] = {
    "stop": ("stop it; running responses can end first", _stop),
    "restart": ("stop it and start it again, with today's program and settings", _restart),
    "status": ("is it running, since when, how many requests, how fast", _status),
    "logs": ("the last lines of its log; with --follow, new ones too", _logs),
    "install": (
        "have it started at every login (systemd user unit, launchd agent, Windows' Run key)",
        _install,
    ),
    "uninstall": ("undo install", _uninstall),
}
