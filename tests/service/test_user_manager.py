"""Autostart under a real `systemd --user`: after a reboot, a lost Python, off and on again, teardown."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("systemd") or not shutil.which("unshare"), reason="no systemd here")
def test_a_proxy_tool_works_after_a_reboot_without_a_command(tmp_path: Path) -> None:
    own = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--kill-child"]
    inside = [sys.executable, "-m", "tests.service.user_manager", str(tmp_path)]

    done = subprocess.run([*own, *inside], cwd=TOP, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
