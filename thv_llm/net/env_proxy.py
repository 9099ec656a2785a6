"""Which HTTP proxy the environment asks for (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).

Rule 1: a proxy is used by CONNECT only, so all it ever sees is a host name and TLS.
Rule 2: the password in the proxy's URL is a Secret from here on; no message shows the URL.
Rule 3: lower-case names win over upper-case ones, and HTTPS_PROXY over ALL_PROXY, as in curl.
Rule 4: a kind of proxy that we cannot use is an error: a direct connection instead of it would go
        where the user did not want it to.

Pure: an environment in, a value out.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret

NAMES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class EnvProxy(NamedTuple):
    """Where to send CONNECT.

    Attributes:
        authorization: value of the `Proxy-Authorization` header, None when there is no user.
    """

    host: str
    port: int
    authorization: Secret | None = None

    @property
    def address(self) -> str:
        """HOST:PORT, as messages name it."""
        return f"{self.host}:{self.port}"


def for_https(host: str, port: int, environ: Mapping[str, str]) -> EnvProxy | None:
    """Return the proxy for an https connection to this host and port, None for a direct one.

    Raises:
        ThvLlmError: it is set to something that we cannot use.
    """
    name = next((name for name in NAMES if environ.get(name)), None)
    if name is None:
        return None
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    plain_host = host.lower().rstrip(".")
    if any(_excepts(rule.lower(), plain_host, port) for rule in excepted.replace(",", " ").split()):
        return None
    return _parse(name, environ[name])


def _excepts(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        return _in_network(host, rule)
    plain = rule.strip("[]") if rule.endswith("]") else rule
    if plain.count(":") == 1:
        plain, _, wanted_port = plain.partition(":")
        if wanted_port != str(port):
            return False
    plain = plain.removeprefix("*").strip(".")
    return bool(plain) and (host == plain or host.endswith("." + plain))


def _in_network(host: str, rule: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False


def _parse(name: str, value: str) -> EnvProxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise _unusable(name, "its value is not a URL") from None
    if parts.scheme != "http":
        kind = {"https": "an https://"}.get(parts.scheme, "a SOCKS" if "socks" in parts.scheme else "another")
        raise _unusable(name, f"it is {kind} proxy; only http:// proxies can be used (they pass TLS through)")
    if not host or not all("!" <= character <= "~" for character in host):
        raise _unusable(name, "its value names no host")
    return EnvProxy(host, port, _basic(parts.username, parts.password))


def _basic(user: str | None, password: str | None) -> Secret | None:
    if user is None:
        return None
    # The environment's bytes, whatever they are.
    pair = b":".join(unquote_to_bytes(os.fsencode(text)) for text in (user, password or ""))
    return Secret("Basic " + base64.b64encode(pair).decode())


def _unusable(name: str, why: str) -> ThvLlmError:
    return ThvLlmError(
        f"cannot use the proxy that {name} names",
        why=why,
        next_step=f"set {name} to http://HOST:PORT, or take it out of the environment",
    )
