"""The environment of a user whose home is a directory of a test, on whichever system it runs."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

SYSTEM_PATH = "/usr/bin:/bin"
PLATFORM = "win32" if sys.platform == "win32" else "linux"
"""The system whose ways tests of commands and tools see; macOS has tests of its own."""


def user(home: Path | str, **more: str) -> dict[str, str]:
    """Return the variables that say where the user's directories are, and those that are given.

    Windows has others than POSIX, and one without which no program starts there.
    """
    if sys.platform == "win32":
        data = os.path.join(home, "AppData")
        own = {"USERPROFILE": str(home), "APPDATA": f"{data}\\Roaming", "LOCALAPPDATA": f"{data}\\Local"}
        return {**own, "SYSTEMROOT": os.environ["SYSTEMROOT"], **more}
    return {"HOME": str(home), **more}


def is_private(path: Path | str) -> bool:
    """Tell whether a file or directory is its owner's alone; on Windows that has tests of its own."""
    if sys.platform == "win32":
        return True
    found = os.stat(path).st_mode
    return stat.S_IMODE(found) == (0o700 if stat.S_ISDIR(found) else 0o600)
