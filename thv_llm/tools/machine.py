"""This machine: where things are on it, which tools it has, and what can keep them from working.

A `Place` is all that looking for a tool depends on, so a test gives its own: environment,
home, platform, and the directory that stands for `/`.

A program, an application or an editor extension is proof of a tool. A directory alone can be left
over from one that was removed, so it is told apart: such a tool is wired only when named.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from thv_llm import system
from thv_llm.tools.model import (
    App,
    Binary,
    Directory,
    Edit,
    Extension,
    Folder,
    Mark,
    Mode,
    Tool,
    Value,
    Values,
)
from thv_llm.tools.values import mode, used

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
LOOPBACK = "127.0.0.1"
SYSTEM_STORE = "add it to the system's own"
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
            folders += [entry for entry in _children(profiles) if os.path.isdir(entry)]
        return tuple(_chosen(folder, edit.names) for folder in folders)

    def possible_targets(self, edit: Edit) -> tuple[str, ...]:
        """Return every path that `targets` could have named under this environment."""
        return tuple(
            os.path.join(os.path.dirname(target), name)
            for target in self.targets(edit)
            for name in edit.names
        )


def _children(directory: str) -> list[str]:
    """Return the paths of what is in a directory; nothing when it cannot be read."""
    try:
        return sorted(os.path.join(directory, name) for name in os.listdir(directory))
    except OSError:
        return []


def _chosen(folder: str, names: Sequence[str]) -> str:
    paths = [os.path.join(folder, name) for name in names]
    return next((path for path in paths if os.path.lexists(path)), paths[-1])


class How(Enum):
    """What gave a tool away, strongest first."""

    PROGRAM = "program"
    APP = "app"
    EXTENSION = "extension"
    DIRECTORY = "directory only"


@dataclass(frozen=True)
class Detection:
    """A tool that is here: how it was found, and where."""

    tool: Tool
    how: How
    where: str

    @property
    def directory_only(self) -> bool:
        """Whether it is wired only when named, because only its directory is there."""
        return self.how is How.DIRECTORY


def detect(tool: Tool, place: Place) -> Detection | None:
    """Look for a tool; proof wins over a mere directory."""
    found = [detection for mark in tool.found_by if (detection := _look(tool, mark, place))]
    order = list(How)
    return min(found, key=lambda detection: order.index(detection.how), default=None)


def _look(tool: Tool, mark: Mark, place: Place) -> Detection | None:
    match mark:
        case Binary():
            where, how = _program(mark, place), How.PROGRAM
        case App():
            path = place.expand(mark.path)
            where, how = path if os.path.exists(path) else "", How.APP
        case Extension():
            where, how = _extension(mark, place), How.EXTENSION
        case Directory():
            path = place.folder(mark.folder)
            where, how = path if os.path.isdir(path) else "", How.DIRECTORY
    return Detection(tool, how, where) if where else None


def _program(mark: Binary, place: Place) -> str:
    path = place.program(mark.name)
    if not path or not mark.says or (mark.package and mark.package in os.path.realpath(path)):
        return path
    return path if mark.says in place.output_of([path, "--version"]) else ""


def _extension(mark: Extension, place: Place) -> str:
    for editor in mark.editors:
        for extension in _children(os.path.join(place.expand(editor), "extensions")):
            if os.path.basename(extension).startswith(mark.name):
                return extension
    return ""


def warnings(tool: Tool, place: Place, values: Values) -> tuple[str, ...]:
    """Return what can keep this tool from working as wired, one sentence each."""
    found = [*_overriding_variables(tool, place.environ), *managing_files(tool, place)]
    if mode(tool) is Mode.PROXY:
        found += loopback_through_proxy(place.environ)
    else:
        found += _certificates(tool, place.environ, values)
    return tuple(found)


def _certificates(tool: Tool, environ: Mapping[str, str], values: Values) -> tuple[str, ...]:
    """Return what the user must know or do about TLS, for a tool that talks to the gateway itself."""
    known, found = used(tool), []
    if values.tls_skip_verify and Value.TLS_REJECT_UNAUTHORIZED in known:
        found.append("it no longer checks the certificate of ANYTHING that it connects to (tls_skip_verify)")
    elif values.tls_skip_verify:
        found.append("tls_skip_verify does not reach it: it will refuse the gateway's certificate")
    if values.ca_file and Value.CA_FILE not in known and environ.get(tool.ca_env) != values.ca_file:
        remedy = system.setting_of(tool.ca_env, values.ca_file) if tool.ca_env else SYSTEM_STORE
        found.append(f"it has no setting for an authority of your own: {remedy}")
    return tuple(found)


def _overriding_variables(tool: Tool, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that are set and make the tool ignore what we write."""
    return tuple(
        f"{name} is set: {effect}" for name, effect in tool.overridden_by.items() if environ.get(name)
    )


def managing_files(tool: Tool, place: Place) -> tuple[str, ...]:
    """Return the administrators' files that have the last word over ours."""
    paths = [place.expand(path) for path in tool.managed_by]
    return tuple(f"{path} is managed by your organization and wins" for path in paths if os.path.exists(path))


def loopback_through_proxy(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning when the environment sends requests to 127.0.0.1 through a proxy."""
    variable = next((name for name in PROXY_VARIABLES if environ.get(name)), "")
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = {host.strip().partition(":")[0] for host in exempt.split(",")}
    if not variable or hosts & {"*", LOOPBACK, "127.0.0.0/8"}:
        return ()
    return (
        f"{variable} is set without NO_PROXY for {LOOPBACK}: requests to our proxy would go astray; "
        + system.setting_of("NO_PROXY", ",".join(filter(None, (exempt, LOOPBACK, "localhost")))),
    )
