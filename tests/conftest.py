"""What holds for every test: no proxies, settings or home of the person who runs it, no stray threads.

`tests/e2e` is collected only when it is named: it needs programs that `make e2e` installs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

LEFT_BY_A_TEST_S = 2.0
"""How long a thread may take to end after its test; it has been told to stop by then."""

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


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run as nobody in particular: an empty home, and none of the variables that change what we do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OURS) or name.lower() in PROXIES:
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("BROWSER", "false")
        yield


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
