"""Is a tool on this machine, and how do we know?

A program, an application or an editor extension is proof. A directory alone may be left over
from a tool that is gone, so it is told apart: such a tool is wired only when named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from thv_llm import system
from thv_llm.tools.machine import Place, children
from thv_llm.tools.model import App, Binary, Directory, Extension, Mark, Mode, Tool, Value, Values
from thv_llm.tools.values import mode, used


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


PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
LOOPBACK = "127.0.0.1"
SYSTEM_STORE = "add it to the system's own"


def warnings(tool: Tool, place: Place, values: Values) -> tuple[str, ...]:
    """Return what may keep this tool from working as wired, one sentence each."""
    found = [*overriding_variables(tool, place.environ), *managing_files(tool, place)]
    if mode(tool) is Mode.PROXY:
        found += loopback_through_proxy(place.environ)
    else:
        found += certificates(tool, place.environ, values)
    return tuple(found)


def certificates(tool: Tool, environ: Mapping[str, str], values: Values) -> tuple[str, ...]:
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


def overriding_variables(tool: Tool, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that are set and make the tool ignore what we write."""
    return tuple(
        f"{override.env} is set: {override.effect}"
        for override in tool.overridden_by
        if environ.get(override.env)
    )


def managing_files(tool: Tool, place: Place) -> tuple[str, ...]:
    """Return the administrators' files that have the last word over ours."""
    paths = [place.expand(managed.path) for managed in tool.managed_by]
    return tuple(f"{path} is managed by your organisation and wins" for path in paths if os.path.exists(path))


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
