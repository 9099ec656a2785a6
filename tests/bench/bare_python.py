"""A Python without anything installed in it, because what `site` loads differs from machine to machine.

`BENCH_PYTHON` names the Python that it is made of; without it, it is the one that runs the measurement.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def bare_python(place: Path) -> str:
    """Make a virtual environment without packages, and return its interpreter."""
    python = os.environ.get("BENCH_PYTHON") or sys.executable
    subprocess.run([python, "-m", "venv", "--without-pip", str(place)], check=True)
    return str(place / "bin" / "python3")
