"""Is a tool on this machine, and how do we know?

A program, an application or an editor extension is proof. A directory alone may be left over
from a tool that is gone, so it is told apart: such a tool is wired only when named.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from thv_llm.tools.model import App, Binary, Directory, Extension, Mark, Tool
from thv_llm.tools.place import Place, children


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
        for extension in children(os.path.join(place.expand(editor), "extensions")):
            if os.path.basename(extension).startswith(mark.name):
                return extension
    return ""
