"""Where things are on this machine: directories that variables can move, programs, policies.

A `Place` is all that looking for a tool depends on, so a test gives its own: environment,
home, platform, and the directory that stands for `/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thv_llm import system
from thv_llm.tools.model import Edit, Folder

VERSION_TIMEOUT_S = 10.0
"""Time for a program's `--version`; Node programs need up to 3 s on a busy machine."""

USUAL_PROGRAM_DIRS = (
    "~/.local/bin",
    "~/bin",
    "~/.claude/local",
    "~/.opencode/bin",
    "~/.npm-global/bin",
    "~/.bun/bin",
    "~/.volta/bin",
    "~/.cargo/bin",
)
"""Where installers put programs, looked at after PATH: unattended runs have a short one."""

MORE_PROGRAM_DIRS = {
    "darwin": ("/opt/homebrew/bin", "/usr/local/bin"),
    "win32": (
        "%APPDATA%/npm",
        "%LOCALAPPDATA%/Microsoft/WinGet/Links",
        "%LOCALAPPDATA%/pnpm",
        "%LOCALAPPDATA%/Programs/Microsoft VS Code/bin",
        "~/scoop/shims",
        "%PROGRAMDATA%/chocolatey/bin",
    ),
}
ROOTS = {"APPDATA": "~/AppData/Roaming", "LOCALAPPDATA": "~/AppData/Local"}
"""What these variables of Windows hold when they are not set."""

PROGRAM_ENDINGS = ".COM;.EXE;.BAT;.CMD"
"""PATHEXT when it is not set; a file without one of these is no program on Windows."""

WINDOWS_DRIVE = re.compile(r"/mnt/[a-z](/|$)")
"""Where WSL shows the drives of Windows; their programs are on its PATH, and use settings of their own."""


def output_of(command: Sequence[str]) -> str:
    """Return what a program prints, or "" when it cannot be run."""
    import subprocess

    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class Place:
    """The machine as one user sees it.

    Attributes:
        root: stands before absolute paths of applications and policies.
        output_of: runs a command and returns what it printed.
    """

    environ: Mapping[str, str]
    home: str
    platform: str
    root: str = ""
    output_of: Callable[[Sequence[str]], str] = output_of

    def folder(self, folder: Folder) -> str:
        """Return the directory that holds for this environment."""
        own = {"darwin": folder.mac, "win32": folder.windows}.get(self.platform, "")
        moved = self.environ.get(folder.env, "") if folder.env else ""
        if os.path.isabs(moved) and not (own and folder.env == "XDG_CONFIG_HOME"):
            return os.path.normpath(os.path.join(moved, folder.below))
        moved = self.environ.get("XDG_CONFIG_HOME", "") if folder.xdg and not own else ""
        if os.path.isabs(moved):
            return os.path.normpath(os.path.join(moved, folder.xdg))
        return self.expand(own or folder.default)

    def expand(self, path: str) -> str:
        """Return an absolute path; `~` is the home directory, everything else lies below `root`.

        "" for what is a path of another system: `%NAME%` elsewhere than on Windows, `/etc` there.
        """
        if path == "~" or path.startswith("~/"):
            return os.path.normpath(os.path.join(self.home, path[2:]))
        if path.startswith("%"):
            name, _, rest = path[1:].partition("%")
            above = self.environ.get(name) or self.expand(ROOTS.get(name, ""))
            return os.path.normpath(above + rest) if self.platform == "win32" and above else ""
        if self.platform == "win32" or not path:
            return ""
        return self.root + os.path.normpath(path)

    def is_in_home(self, path: str) -> bool:
        """Whether a path, links resolved, lies under the home directory."""
        real, home = os.path.realpath(path), os.path.realpath(self.home)
        return os.path.commonpath((real, home)) == home

    def program(self, name: str) -> str:
        """Return where a program is, or ""."""
        usual = (*USUAL_PROGRAM_DIRS, *MORE_PROGRAM_DIRS.get(self.platform, ()))
        directories = self.environ.get("PATH", "").split(os.pathsep)
        if system.is_wsl(self.environ):
            directories = [directory for directory in directories if not WINDOWS_DRIVE.match(directory)]
        directories = list(filter(None, [*directories, *map(self.expand, usual)]))
        if self.platform != "win32":
            return shutil.which(name, path=os.pathsep.join(directories)) or ""
        # Not `shutil.which`, which looks into the current directory first there.
        endings = (self.environ.get("PATHEXT") or PROGRAM_ENDINGS).lower().split(";")
        paths = (os.path.join(above, name + ending) for above in directories for ending in endings)
        return next((path for path in paths if os.path.isabs(path) and os.path.lexists(path)), "")

    def targets(self, edit: Edit) -> tuple[str, ...]:
        """Return the files that an edit is for, whether they exist or not."""
        folder = self.folder(edit.folder)
        folders = [folder]
        if edit.in_profiles:
            profiles = os.path.join(folder, edit.in_profiles)
            folders += [entry for entry in children(profiles) if os.path.isdir(entry)]
        return tuple(_chosen(folder, edit.names) for folder in folders)

    def possible_targets(self, edit: Edit) -> tuple[str, ...]:
        """Return every path that `targets` could have named under this environment."""
        return tuple(
            os.path.join(os.path.dirname(target), name)
            for target in self.targets(edit)
            for name in edit.names
        )


def children(directory: str) -> list[str]:
    """Return the paths of what is in a directory; nothing when it cannot be read."""
    try:
        return sorted(os.path.join(directory, name) for name in os.listdir(directory))
    except OSError:
        return []


def _chosen(folder: str, names: Sequence[str]) -> str:
    paths = [os.path.join(folder, name) for name in names]
    return next((path for path in paths if os.path.lexists(path)), paths[-1])
