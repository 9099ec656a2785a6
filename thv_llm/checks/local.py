"""Checks of this machine alone: Python, our files and their modes, helper, service, the wired tools."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from thv_llm import __version__, agent_client, paths, system
from thv_llm.checks.model import RESTART, SETUP, Check, Installation, configure, fail, ok, warn
from thv_llm.errors import ThvLlmError, UsageError
from thv_llm.service import autostart, background, helper
from thv_llm.settings import unknown_variables
from thv_llm.state import load_if_sound
from thv_llm.system import file_system
from thv_llm.tools import engine, machine
from thv_llm.tools.engine import Place
from thv_llm.tools.values import ASK_HEADERS, without_headers

OLDEST_PYTHON = (3, 11)
HELPER_TIMEOUT_S = 15.0


def python(_here: Installation) -> Iterator[Check]:
    """The interpreter that runs us."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", f"{version} is too old, 3.11 is needed", "install Python 3.11 or later")
    else:
        yield ok("python", f"{version} ({sys.executable})")


def program(here: Installation) -> Iterator[Check]:
    """The file that is run, and whether setup ran from the same one."""
    own = paths.program()
    known = load_if_sound(here.where.state)  # a broken one has a finding of its own
    wired_from = known.service.program if known else ""
    if wired_from and not os.path.exists(wired_from):
        yield fail(
            "program", f"setup ran from {wired_from}, which is missing", SETUP, here.setup_of_sound_tools
        )
    elif wired_from and os.path.realpath(wired_from) != os.path.realpath(own):
        yield warn("program", f"tools and service run {wired_from}, this is {own}", SETUP)
    else:
        yield ok("program", f"thv-llm {__version__} ({own})")
    if advice := path_advice(here.environ, own):
        yield warn("PATH", no_command(here.environ), advice)


def no_command(environ: Mapping[str, str]) -> str:
    """Say what typing `thv-llm` does where there is a `path_advice`."""
    found = shutil.which("thv-llm", path=environ.get("PATH", ""))
    return f"the command thv-llm is another program, {found}" if found else "no command thv-llm is on PATH"


def path_advice(environ: Mapping[str, str], program: str) -> str:
    """Return the line for the user's shell that makes `thv-llm` this program; "" when it is already.

    Args:
        program: the file that runs; from a checkout the user does not type `thv-llm`.
    """
    found = shutil.which("thv-llm", path=environ.get("PATH", ""))
    if system.NEEDS_INTERPRETER:  # a relative one is in the current directory, which is looked into first
        is_own = found and os.path.isabs(found) and _is_launcher(found, paths.find(environ).launcher)
        return "" if is_own else _advice_for_windows(environ)
    if program.endswith("thv_llm.py") or (found and _starts(found, program)):
        return ""
    directory, steps = os.path.dirname(program), []
    if os.path.basename(program) != "thv-llm":
        directory = os.path.join(agent_client.home(environ), ".local", "bin")
        link = shlex.join(["ln", "-sf", program, os.path.join(directory, "thv-llm")])
        steps = [shlex.join(["mkdir", "-p", directory]), link]
    if directory not in environ.get("PATH", "").split(os.pathsep):
        steps.append(_added_to_path(environ, directory))
    return " && ".join(steps)


def _starts(command: str, program: str) -> bool:
    """Is a command the program, a link to it, or a script that names it (as package managers make)?"""
    if os.path.realpath(command) == os.path.realpath(program):
        return True
    try:
        with open(command, "rb") as stream:
            start = stream.read(4096)
    except OSError:
        return False
    return start.startswith(b"#!") and os.fsencode(program) in start


def _is_launcher(command: str, launcher: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(command, launcher)
    return False


def _advice_for_windows(environ: Mapping[str, str]) -> str:
    """Return the line of PowerShell that adds the directory of `thv-llm.cmd` to the user's Path."""
    added = system.in_powershell(f";{os.path.dirname(paths.find(environ).launcher)}")
    old = "[Environment]::GetEnvironmentVariable('Path','User')"
    return f"[Environment]::SetEnvironmentVariable('Path', {old} + {added}, 'User')"


def _added_to_path(environ: Mapping[str, str], directory: str) -> str:
    """Return the line that puts a directory on PATH, now and in every new shell."""
    shell = os.path.basename(environ.get("SHELL", ""))
    if shell == "fish":
        return shlex.join(["fish_add_path", directory])
    line = f"export PATH={shlex.quote(directory)}:$PATH"
    startup = {"zsh": "~/.zshrc", "bash": "~/.bashrc"}.get(shell, "~/.profile")
    return f"echo {shlex.quote(line)} >> {startup} && {line}"


def modes(here: Installation) -> Iterator[Check]:
    """Owner and mode of everything that is ours."""
    where = here.where
    if not os.path.isdir(where.directory):
        return
    paths_of_ours = [path for path in (where.directory, *where.files()) if os.path.exists(path)]
    foreign = [path for path in paths_of_ours if not file_system.is_own(os.stat(path))]
    for path in foreign:
        yield fail("files", f"{path} belongs to another user", file_system.owning(path))
    open_ones = [path for path in paths_of_ours if path not in foreign and not _is_private(where, path)]
    if not foreign and not open_ones:
        yield ok("files", f"{where.directory} is private")
    for path in open_ones:
        remedy = file_system.closing(path)
        yield fail("files", f"other users can read or write {path}", remedy, fix=remedy)


def _is_private(where: paths.Paths, path: str) -> bool:
    """Tell whether others have no access; the settings hold no secret, so they can be read."""
    denied = stat.S_IWGRP | stat.S_IWOTH if path == where.settings else stat.S_IRWXG | stat.S_IRWXO
    return not file_system.shared(path, os.stat(path)) & denied


def state_file(here: Installation) -> Iterator[Check]:
    """The record of what setup did can be understood."""
    known = here.state
    if known.wired or known.local_key:
        yield ok("state", f"{len(known.wired)} tool{'s' if len(known.wired) != 1 else ''} configured")


def settings_file(here: Installation) -> Iterator[Check]:
    """The settings can be used and are complete."""
    here.settings.require_configured()
    yield ok("settings", here.where.settings)
    if here.settings.tls_skip_verify:
        yield warn(
            "settings",
            "tls_skip_verify is on: anyone on the network path can pose as the gateway and take tokens",
            (*SETUP, "--no-tls-skip-verify"),
        )
    if not here.settings.require_key:
        yield warn(
            "settings",
            "proxy.require_key is off: every program and user of this machine can use the proxy",
            (*SETUP, "--require-key"),
        )


def helper_program(here: Installation) -> Iterator[Check]:
    """The helper is there, can run, and responds soon."""
    path, is_there = here.where.helper, os.path.exists(here.where.helper)
    if not is_there and all(tool.mode != "direct" for tool in here.state.wired):
        return
    if fault := helper.fault(path):
        mode = ("chmod", "u+x", path) if is_there and not helper.is_executable(path) else ()
        yield fail("helper", f"{path} {fault}", mode or SETUP, mode or here.setup_of_sound_tools)
    elif not _has_token(here):
        yield ok("helper", f"{path} installed; not tested (no access token)")
    elif here.running is not None and not here.running.responds:
        yield ok("helper", f"{path} installed; not tested (the service does not respond)")
    else:
        here.progress("Asking the helper for a token …")
        yield _tried(here, helper.command(here.where))


def _has_token(here: Installation) -> bool:
    try:
        return bool(here.token)
    except ThvLlmError:
        return False


def _tried(here: Installation, command: Sequence[str]) -> Check:
    import subprocess

    begun = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
            env=dict(here.environ),
        )
    except OSError as error:
        return fail("helper", f"{command[-1]} cannot be run: {error.strerror}", SETUP)
    except subprocess.TimeoutExpired:
        return fail("helper", f"no response within {HELPER_TIMEOUT_S:.0f} s", SETUP, RESTART)
    took = time.monotonic() - begun
    if done.returncode != 0 or not done.stdout.strip():
        reason = f"no token (exit code {done.returncode}), though there is one"
        return fail("helper", reason, SETUP, here.setup_of_sound_tools)
    if took > here.slow_helper_s:
        return warn("helper", f"responds, but only after {took:.1f} s", SETUP, RESTART)
    return ok("helper", f"responds in {took * 1000:.0f} ms")


def service(here: Installation) -> Iterator[Check]:
    """The service runs if it should, passes the challenge, and is not out of date."""
    found, wanted = here.running, here.state.service.wanted
    obstacle = background.obstacle(here.where)
    if obstacle and (wanted or here.state.wired) and not (found and found.responds):
        yield fail("service", f"not running: {obstacle.short}", obstacle.next_step)
    elif found is None and wanted:
        yield fail("service", "not running, though it should be", SETUP, RESTART)
    elif found is None:
        yield from _not_running(here)
    elif not found.responds:
        silence = background.silence(here.where, here.state)
        yield fail("service", f"process {found.record.pid} {silence}", SETUP, RESTART)
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
    """No foreign process has the proxy's port."""
    number = here.settings.proxy_port
    use = background.port_use(here.where, number)
    is_open = use.kind == "ours" and background.is_listening(number)
    if is_open:
        yield ok("port", f"{number} is used by thv-llm")
    elif use.kind == "foreign":
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
            # no `fix`: the user can have removed it
            yield warn("autostart", "the service does not start at login", ("thv-llm", "proxy", "install"))
    elif manager.is_current(here.where, here.environ):
        yield ok("autostart", manager.file)
    else:
        remedy = ("thv-llm", "proxy", "install")
        yield warn("autostart", f"{manager.file} is for another program or setting", remedy, fix=remedy)


def tools(here: Installation) -> Iterator[Check]:
    """Each wired tool is still there and holds what setup wrote."""
    if not here.state.wired:
        yield warn("tools", "no tool is configured", SETUP)
    elif others := engine.not_configured(Place(here.environ, here.where.home, here.platform), here.state):
        titles = ", ".join(tool.title for tool in others)
        yield ok("tools", f"{titles}: found, not configured (thv-llm setup)")
    for wired in here.state.wired:
        found = [one for one in here.drift if one.tool == wired.tool]
        fix = configure(wired.tool) if wired.tool in here.sound_tools else ()
        for one in found:
            yield fail(wired.tool, f"{one.path}: {one}", one.remedy, fix)
        if not found:
            yield ok(wired.tool, f"{wired.mode}, {', '.join(file.path for file in wired.files)}")


def environment(here: Installation) -> Iterator[Check]:
    """No variable or policy takes a wired tool elsewhere."""
    is_clear = True
    for check in _overriding(here):
        is_clear = False
        yield check
    if is_clear and here.state.wired:
        yield ok("environment", "nothing overrides the configured tools")


def _overriding(here: Installation) -> Iterator[Check]:
    place = Place(here.environ, here.where.home, here.platform)
    for name, why in unknown_variables(here.environ).items():
        yield warn("environment", why, ("unset", name))
    for wired in here.state.wired:
        try:
            tool = engine.by_name(wired.tool)
        except UsageError:  # wired by a version that knew it
            continue
        for name, effect in tool.overridden_by.items():
            if here.environ.get(name):
                yield warn(wired.tool, f"{name} is set: {effect}", ("unset", name))
        for policy in machine.managing_files(tool, place):
            yield warn(wired.tool, policy, "contact the administrator of this machine")
    if any(wired.mode == "proxy" for wired in here.state.wired):
        for text in engine.loopback_through_proxy(here.environ):
            reason, _, remedy = text.rpartition("; ")
            yield warn("environment", reason, remedy)
    wired_ids = {wired.tool for wired in here.state.wired}
    if lacking := without_headers(here.settings, [tool for tool in engine.TOOLS if tool.id in wired_ids]):
        yield warn("tools", lacking, ASK_HEADERS)
