"""What may keep a wired tool from reaching the gateway: variables, policies, proxies.

Looks at the environment and at whether policy files exist; changes nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from thv_llm.tools.model import Mode, Tool, Value, Values
from thv_llm.tools.place import Place
from thv_llm.tools.values import mode, used

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
        remedy = f"export {tool.ca_env}={shlex.quote(values.ca_file)}" if tool.ca_env else SYSTEM_STORE
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
        f"export NO_PROXY={','.join(filter(None, (exempt, LOOPBACK, 'localhost')))}",
    )
