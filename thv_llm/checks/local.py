"""Checks of this machine alone: Python, our files and their modes, the helper."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

from thv_llm import __version__, paths
from thv_llm.checks.model import Check, Ground, fail, ok, warn
from thv_llm.errors import ThvLlmError

OLDEST_PYTHON = (3, 11)
HELPER_TIMEOUT_S = 15.0


def python(_ground: Ground) -> Iterator[Check]:
    """The interpreter that runs us."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", f"{version} is too old, 3.11 is needed", "install Python 3.11 or later")
    else:
        yield ok("python", f"{version} ({sys.executable})")


def program(ground: Ground) -> Iterator[Check]:
    """The file that is run, and whether setup ran from the same one."""
    here = paths.program()
    wired_from = ground.state.service.program if os.path.exists(ground.where.state) else ""
    if wired_from and not os.path.exists(wired_from):
        yield fail("program", f"setup ran from {wired_from}, which is gone", "thv-llm setup")
    elif wired_from and os.path.realpath(wired_from) != os.path.realpath(here):
        yield warn("program", f"tools and service run {wired_from}, this is {here}", "thv-llm setup")
    else:
        yield ok("program", f"thv-llm {__version__} ({here})")


def modes(ground: Ground) -> Iterator[Check]:
    """Owner and mode of everything that is ours."""
    where = ground.where
    if not os.path.isdir(where.directory):
        return
    faults = [path for path in (where.directory, *_own_files(where)) if not _is_private(path)]
    if not faults:
        yield ok("files", f"{where.directory} is private")
    for path in faults:
        yield fail("files", f"other users can get at {path}, or own it", f"chmod go= {_shell(path)}")


def _own_files(where: paths.Paths) -> list[str]:
    names = [where.settings, where.state, where.session_file, where.session_key, where.log, where.log + ".1"]
    names += [where.pid, where.discovery_cache, where.refresh_failure, where.helper]
    return [name for name in names if os.path.exists(name)]


def _is_private(path: str) -> bool:
    found = os.stat(path)
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _shell(path: str) -> str:
    import shlex

    return shlex.quote(path)


def state_file(ground: Ground) -> Iterator[Check]:
    """The record of what setup did can be understood."""
    known = ground.state
    if known.wired or known.local_key:
        yield ok("state", f"{len(known.wired)} tool{'s' if len(known.wired) != 1 else ''} wired")


def settings_file(ground: Ground) -> Iterator[Check]:
    """The settings can be used and are complete."""
    ground.settings.require_configured()
    yield ok("settings", ground.where.settings)
    if ground.settings.tls_skip_verify:
        yield warn(
            "settings",
            "tls_skip_verify is on: anybody on the way can pose as the gateway and take tokens",
            "thv-llm setup --no-tls-skip-verify",
        )
    if not ground.settings.require_key:
        yield warn(
            "settings",
            "proxy.require_key is off: every program and user of this machine can use the proxy",
            "thv-llm setup --require-key",
        )


def helper_program(ground: Ground) -> Iterator[Check]:
    """The helper is there, can run, and answers soon."""
    path = ground.where.helper
    is_needed = any(tool.mode == "direct" for tool in ground.state.wired)
    if not os.path.exists(path):
        if is_needed:
            yield fail("helper", f"{path} is missing", "thv-llm setup")
        return
    from thv_llm.service import helper

    gone = [word for word in helper.names(path) if not os.path.exists(word)]
    if not os.access(path, os.X_OK):
        yield fail("helper", f"{path} is not executable", f"chmod u+x {_shell(path)}")
    elif gone:
        yield fail("helper", f"it was written for {gone[0]}, which is gone", "thv-llm setup")
    elif not _has_token(ground):
        yield ok("helper", f"{path} is there; not tried, since no token can be had")
    elif ground.running is not None and not ground.running.answers:
        yield ok("helper", f"{path} is there; not tried, since the service does not answer")
    else:
        ground.progress("Asking the helper for a token …")
        yield _tried(ground, path)


def _has_token(ground: Ground) -> bool:
    try:
        return bool(ground.token)
    except ThvLlmError:
        return False


def _tried(ground: Ground, path: str) -> Check:
    import subprocess
    import time

    begun = time.monotonic()
    try:
        done = subprocess.run(
            [path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELPER_TIMEOUT_S,
            check=False,
            env=dict(ground.environ),
        )
    except OSError as error:
        return fail("helper", f"{path} cannot be run: {error.strerror}", "thv-llm setup")
    except subprocess.TimeoutExpired:
        return fail("helper", f"it gave no answer within {HELPER_TIMEOUT_S:.0f} s", "thv-llm proxy restart")
    took = time.monotonic() - begun
    if done.returncode != 0 or not done.stdout.strip():
        reason = f"it gave no token (exit code {done.returncode}), though one can be had"
        return fail("helper", reason, "thv-llm setup")
    if took > ground.slow_helper_s:
        return warn("helper", f"it answered, but after {took:.1f} s", "thv-llm proxy restart")
    return ok("helper", f"it answered in {took * 1000:.0f} ms")
