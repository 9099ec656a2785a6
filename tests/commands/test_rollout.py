"""A roll-out to thirty homes: each is right after each of the administrator's steps."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.root
def test_thirty_homes_follow_one_system_file() -> None:
    with tempfile.TemporaryDirectory() as place:  # a short path: the homes have sockets
        inside = [sys.executable, "-m", "tests.commands.rollout", place]
        done = subprocess.run(
            ["unshare", "--mount", *inside], cwd=TOP, capture_output=True, text=True, timeout=280, check=False
        )

    assert (done.returncode, done.stderr) == (0, "")
