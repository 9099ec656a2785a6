"""One home directory with everything in it, in which programs are struck again and again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import canaries
from tests.bench import strace
from tests.bench.helper import PYZ
from tests.bench.strace import Call
from tests.commands.machine import Machine
from tests.logged_in import wait_for_worker
from thv_llm import state
from thv_llm.errors import ThvLlmError
from thv_llm.files import TEMP_PREFIX
from thv_llm.secret import Secret
from thv_llm.store.encrypted_file import EncryptedFile

LOGIN_URL = re.compile(r"https://\S+/authorize\?\S+")
SESSION = "session"
OLD = f"rt-{canaries.MARK}-old"
COMPARED = ("llm.toml", "thv-llm-token")
"""Of our own files: those that hold the same whenever they are written."""
TIMEOUT_S = 120.0
"""A command that takes longer hangs."""
Tree = dict[str, tuple[int, bytes]]


@dataclass(frozen=True)
class Done:
    """How a program ended, and what it said on stderr."""

    code: int
    err: str


@contextlib.contextmanager
def limited(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a program that hangs, and strace with it."""
    timer = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGTERM))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def setup(here: Machine) -> list[str]:
    return [str(PYZ), "setup", *here.connection, "--no-service", "--skip-browser", "--yes"]


class Desk:
    """One home directory with everything in it, struck again and again.

    Args:
        place: a directory for this one's trees (`new`: as it was before anything of ours) and traces.
    """

    def __init__(self, place: Path, here: Machine, scan: canaries.Scan) -> None:
        self.place = place
        self.here = here
        self.scan = scan
        self.own = Path(here.paths.directory)
        self.trace = place / "trace"
        self.untouched = self.theirs()
        self.keep("new")
        self.run(setup(here))
        self.keep("wired")
        self.store().save(SESSION, Secret(OLD))
        self.keep("stored")

    def keep(self, name: str) -> None:
        """Remember what the home directory holds now."""
        shutil.rmtree(self.place / name, ignore_errors=True)
        shutil.copytree(self.here.home, self.place / name)

    def restore(self, name: str) -> None:
        """Put the home directory back to what it held."""
        if Path(self.here.paths.socket).exists():  # of a worker that outlives its command for some seconds
            wait_for_worker(self.here)
        shutil.rmtree(self.here.home)
        shutil.copytree(self.place / name, self.here.home)

    def run(self, arguments: Sequence[str], stdin: str = "", under: Sequence[str] = ()) -> Done:
        """Run a Python program under another; where it shows the URL of a login, a browser goes there."""
        with subprocess.Popen(
            [*under, sys.executable, "-I", *arguments],
            env=self.here.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdin
            assert process.stderr
            process.stdin.write(stdin)
            process.stdin.close()
            said = ""
            with limited(process):
                for line in process.stderr:
                    said += line
                    url = LOGIN_URL.search(line)
                    if url:
                        self.here.browser.open(url.group())
        self.scan.command_output(arguments, "", said)
        self.scan.files(self.here.home)
        return Done(process.returncode, said)

    def look(self, arguments: Sequence[str], stdin: str) -> tuple[Done, tuple[Call, ...]]:
        """Run a program, and see which of its calls change files."""
        done = self.run(arguments, stdin, strace.looking(self.trace))
        return done, strace.calls(self.trace, self.here.home)

    def strike(self, arguments: Sequence[str], stdin: str, call: Call, what: str) -> tuple[Done, bool]:
        """Strike at a call of a program; also tell whether that happened."""
        done = self.run(arguments, stdin, strace.striking(self.trace, call, what))
        return done, strace.has_hit(strace.calls(self.trace, self.here.home), call, what)

    def tree(self) -> Tree:
        """Return mode and bytes of all that can be compared, the local key always the same."""
        found = {}
        for path in sorted(self.here.home.rglob("*")):
            if path.name.startswith(TEMP_PREFIX) or (self.own in path.parents and path.name not in COMPARED):
                continue
            data = b"" if path.is_dir() else canaries.LOCAL_KEY.sub(b"KEY", path.read_bytes())
            found[str(path)] = path.stat().st_mode, data
        return found

    def theirs(self) -> Tree:
        """Return what of the tree is not ours."""
        return {name: facts for name, facts in self.tree().items() if not name.startswith(str(self.own))}

    def left_over(self) -> str:
        """Name a temporary file of ours; "" when there is none."""
        return next((str(path) for path in self.here.home.rglob(f"{TEMP_PREFIX}*")), "")

    def store(self) -> EncryptedFile:
        """Return the store of the session."""
        return EncryptedFile(self.here.paths.session_file, self.here.paths.session_file_key)

    def session(self) -> str:
        """Return what the store holds."""
        found = self.store().load(SESSION)
        return found.reveal() if found else ""

    def unreadable(self) -> str:
        """Name a file of ours that cannot be read; "" when there is none."""
        try:
            state.load(self.here.paths.state)
            self.session()
            cache = Path(self.here.paths.discovery_cache)
            json.loads(cache.read_bytes() if cache.exists() else b"{}")
        except (ThvLlmError, ValueError) as error:
            return str(error)
        return ""
