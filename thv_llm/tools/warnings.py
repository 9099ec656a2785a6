"""What may keep a wired tool from reaching the gateway: variables, policies, proxies.

Looks at the environment and at whether policy files exist; changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from thv_llm.tools.model import Mode, Tool, Values
from thv_llm.tools.place import Place
from thv_llm.tools.values import mode

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
LOOPBACK = "127.0.0.1"


def warnings(tool: Tool, place: Place, values: Values) -> tuple[str, ...]:
    """Return what may keep this tool from working as wired, one sentence each."""
    found = [*overriding_variables(tool, place.environ), *managing_files(tool, place)]
    if mode(tool) is Mode.PROXY:
        found += loopback_through_proxy(place.environ)
    if values.tls_skip_verify and mode(tool) is Mode.DIRECT:
        found.append("TLS certificates are not verified any more, for all that this tool connects to")
    return tuple(found)


def notes(tool: Tool) -> tuple[str, ...]:
    """Return what is good to know about a tool before it is used."""
    if not tool.keyless:
        return ()
    return ("it cannot send a key: the proxy lets it in only with require_key = false",)


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
        f"export NO_PROXY={','.join(filter(None, (exempt, LOOPBACK, 'localhost')))}",
    )
