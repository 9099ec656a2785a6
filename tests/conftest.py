"""What holds for every test: no settings of the user who runs it, no stray threads, no secret in the open.

`tests/e2e` is collected only when it is named: it needs programs that `make e2e` installs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import canaries, environs
from tests.logged_in import LoggedIn, logged_in
from tests.service.lab import Lab, opened
from tests.tokens.rig import Rig, rigged

LEFT_BY_A_TEST_S = 2.0
"""How long a thread can take to end after its test; it has been told to stop by then."""

OURS = ("THV_LLM_", "XDG_", "PYTHON_KEYRING_", "SSL_CERT_", "DBUS_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

# In CI the same examples every time; at a desk new ones, so that more is seen over time.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the end-to-end tests out of a run that does not name them."""
    if collection_path.name == "e2e" and not any("e2e" in argument for argument in config.args):
        return True
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Explain our own markers."""
    config.addinivalue_line("markers", "root: needs root, to be another user or to see all of a process")
    config.addinivalue_line("markers", "posix: about what Windows has not: modes, links, signals, sh, D-Bus")
    config.addinivalue_line("markers", "many_files: thousands of them, which take minutes under Wine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot be here: what needs root (`-m root` runs that by itself), or POSIX.

    On Windows services are started by `windows_journey` alone, which ends them with their machine.
    """
    is_posix = sys.platform != "win32"
    marks = {"root"} - ({"root"} if is_posix and os.geteuid() == 0 else set())
    marks |= set() if is_posix else {"posix", "many_files"}
    fixtures = set() if is_posix else {"lab"}
    left_out = [
        item
        for item in items
        if any(map(item.get_closest_marker, marks)) or fixtures & {*getattr(item, "fixturenames", ())}
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_sessionstart() -> None:
    """From here on, look at whatever this process starts; and let that hear of Ctrl-C.

    A shell has what it starts in the background ignore SIGINT, and programs inherit that.
    """
    sys.addaudithook(_on_event)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        command = arguments[1]
        environ = arguments[-1] or dict(os.environ)
        allowed = canaries.TAKES.get(str(command[0]) if isinstance(command, list) else "", frozenset())
        told = f"{command} {environ}"
        canaries.RUN.text("commands", told, f"the start of {str(command)[:200]}", allowed=allowed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at everything that a test printed."""
    report = yield
    if call.when == "teardown":
        for name, text in report.sections:
            canaries.RUN.text("outputs", text, f"{name} of {item.nodeid}")
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take in what a worker has looked at."""
    found = getattr(node, "workeroutput", {}).get("canaries")
    if found:
        canaries.RUN.add(*found)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a secret was found where it does not belong."""
    found = canaries.RUN
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["canaries"] = (found.looked, found.hits)
    elif found.hits:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was looked at, and where a secret was found."""
    for hit in canaries.RUN.hits:
        terminalreporter.write_line(hit, red=True)
    terminalreporter.write_line(canaries.RUN.verdict())


@pytest.fixture(scope="session", autouse=True)
def _silentlys_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run as a user without anything: an empty home, and none of the variables that change what we do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OURS) or name.lower() in PROXIES:
                patch.delenv(name)
        for name, value in environs.user(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        patch.setenv("BROWSER", "false")
        yield
        canaries.RUN.files(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def _every_thread_ends() -> Iterator[None]:
    """Fail a test that leaves a thread behind: it would act in the middle of another test."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEFT_BY_A_TEST_S
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread.name for thread in left if thread.is_alive()]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[LoggedIn]:
    """A user with a session, for tests that start the program itself."""
    with logged_in(tmp_path / "home") as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A user with everything, and with real services."""
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A token source of a user with a session, and a clock that a test can set."""
    with rigged(tmp_path) as made:
        yield made
