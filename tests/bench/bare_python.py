"""A Python without anything installed in it, because what `site` loads differs from machine to machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bare_python(place: Path) -> str:
    """Make a virtual environment without packages, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return str(place / "bin" / "python3")
