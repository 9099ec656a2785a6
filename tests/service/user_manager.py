"""The inside of `test_user_manager`: a home under a real `systemd --user`, with its own processes.

    python -m tests.service.user_manager PLACE

Runs in namespaces of its own for mounts, processes and control groups; exits 0 when all is well.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.commands.machine import Machine, machine
from thv_llm import state
from thv_llm.service import background

UNIT = "thv-llm.service"


def main(place: Path) -> None:
    """Set up, reboot, lose the Python, tear down."""
    mount("proc", "/proc")
    mount("cgroup2", "/sys/fs/cgroup")
    mount("tmpfs", "/run")
    os.makedirs("/run/systemd/system")  # or systemctl says that nothing was booted
    python = place / "python"
    real, sys.executable = sys.executable, str(python)
    python.symlink_to(real)
    home = place / "home"
    home.mkdir(mode=0o700)
    with machine(home) as here:
        here.environ["XDG_RUNTIME_DIR"] = str(place / "run")
        before = here.snapshot()
        boot(here)
        said = here.setup("--yes", "--token-store", "file", with_service=True).err
        assert "now and at every login" in said, said
        assert is_managed(here)
        assert works(here)

        crashed = background.find(here.paths)
        assert crashed
        os.kill(crashed.record.pid, signal.SIGKILL)
        until(lambda: not crashed.record.process())
        assert works(here), "while the manager waits before it starts it again"
        until(lambda: is_managed(here), 30.0)
        assert works(here)
        assert systemctl(here, "show", "-P", "NRestarts", UNIT) == "1"

        reboot(here)
        assert works(here), "after a reboot"
        assert is_managed(here)

        python.unlink()
        reboot(here)
        assert works(here), "after another Python took the place of the first"
        python.symlink_to(real)

        again = here.setup("--yes", with_service=True).err
        assert "at every login" not in again, again
        off = here.setup("--yes", "--no-autostart", with_service=True).err
        assert "no longer starts at login" in off, off
        assert works(here)
        assert not is_managed(here)
        here.setup("--yes", "--autostart", with_service=True)
        assert is_managed(here)

        here.run("teardown")
        assert here.snapshot() == before
        assert not (here.home / ".config" / "systemd").exists()
        assert background.find(here.paths) is None


def mount(kind: str, where: str) -> None:
    """Mount a file system of the kernel's."""
    subprocess.run(["mount", "-t", kind, "none", where], check=True)


def boot(here: Machine) -> None:
    """Start the user's manager and wait until it is up."""
    os.mkdir(here.environ["XDG_RUNTIME_DIR"], 0o700)
    environ = {**here.environ, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    null = os.open(os.devnull, os.O_RDWR)
    to_null = [(os.POSIX_SPAWN_DUP2, null, number) for number in (1, 2)]
    os.posix_spawnp("systemd", ["systemd", "--user"], environ, file_actions=to_null)
    os.close(null)
    until(lambda: systemctl(here, "is-system-running") in ("running", "degraded"))


def reboot(here: Machine) -> None:
    """Kill every process but this one, lose what is in memory, start again."""
    me = os.getpid()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != me]:
        os.kill(pid, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    shutil.rmtree(here.environ["XDG_RUNTIME_DIR"])
    boot(here)


def is_managed(here: Machine) -> bool:
    """Tell whether the running service is the manager's."""
    found = background.find(here.paths)
    return found is not None and systemctl(here, "show", "-P", "MainPID", UNIT) == str(found.record.pid)


def works(here: Machine) -> bool:
    """Tell whether each tool's first request succeeds, by the proxy once it is open, and by the helper."""
    key = state.keys(here.paths, ["aider"])["aider"].reveal()

    def responds() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=10)
        try:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
            return connection.getresponse().status == 200
        except ConnectionError:
            return False
        finally:
            connection.close()

    helper = subprocess.run(
        [here.paths.helper], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    assert helper.returncode == 0, helper.stderr
    until(responds)
    return True


def systemctl(here: Machine, *words: str) -> str:
    """Ask the manager."""
    command = ["systemctl", "--user", *words]
    environ = {**here.environ, "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout.strip()


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception:  # the hook that the command line left hides what it says
        traceback.print_exc()
        sys.exit(1)
