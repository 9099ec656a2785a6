"""The network as the user's shell knows it, kept for a service that is started from anywhere.

A helper that an editor runs, a service manager and a desktop rarely have `HTTPS_PROXY` or
`SSL_CERT_FILE`. So `setup` saves what it finds as `service.network`, and:

Rule 1: a saved variable wins over the environment of whatever starts the service.
Rule 2: a later `setup` without the variable keeps it; one with another value replaces it.
Rule 3: the password of a proxy's URL is kept by the session's store, never in a settings file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thv_llm.secret import Secret
from thv_llm.validation import NETWORK_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thv_llm.paths import Paths
    from thv_llm.settings import Settings
    from thv_llm.store import SessionStore

PROXY = "HTTPS_PROXY"


def to_save(environ: Mapping[str, str], saved: tuple[str, ...]) -> tuple[str, ...]:
    """Return the value of `service.network` after a setup in this environment."""
    found = _rows(saved) | _found(environ)
    if PROXY in found:
        found[PROXY] = _split(found[PROXY])[0]
    return tuple(f"{name}={found[name]}" for name in NETWORK_VARIABLES if name in found)


def keep_password(settings: Settings, where: Paths, environ: Mapping[str, str]) -> None:
    """Store the password of the environment's proxy, if its URL has one.

    Raises:
        ThvLlmError: the store cannot take it.
    """
    url, password = _split(_found(environ).get(PROXY, ""))
    if password:
        _store(settings, where, environ).save(_entry(url), password)


def forget_password(settings: Settings, where: Paths, environ: Mapping[str, str]) -> None:
    """Delete the stored password, if there is one."""
    url = _rows(settings.network).get(PROXY, "")
    if "@" in url:
        _store(settings, where, environ).delete(_entry(url))


def environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the service works: the given one under the saved variables."""
    rows = _rows(settings.network)
    return {name: value for name, value in environ.items() if name.upper() not in rows} | rows


def needs_password(environ: Mapping[str, str]) -> bool:
    """Tell whether the proxy's URL names a user and lacks the password."""
    info, at, _ = environ.get(PROXY, "").rpartition("@")
    return bool(at) and ":" not in info.partition("://")[2]


def add_password(settings: Settings, where: Paths, environ: dict[str, str]) -> None:
    """Put the stored password into the proxy's URL; where none is stored, an empty one.

    Raises:
        ThvLlmError: the store is locked or broken; call it again later.
    """
    url = environ[PROXY]
    password = _store(settings, where, environ).load(_entry(url))
    before, _, host = url.rpartition("@")
    environ[PROXY] = f"{before}:{password.reveal() if password else ''}@{host}"


def _found(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set; of a proxy's two spellings the lower-case one, as curl does.

    A proxy for everything is the one for https when there is no other.
    """
    found = {}
    for name in NETWORK_VARIABLES:
        lower = environ.get(name.lower()) if name.endswith("_PROXY") else None
        value = lower or environ.get(name)
        if value and value.isprintable():
            found[name] = value
    everything = environ.get("all_proxy") or environ.get("ALL_PROXY") or ""
    if PROXY not in found and everything.isprintable() and everything:
        found[PROXY] = everything
    return found


def _rows(saved: tuple[str, ...]) -> dict[str, str]:
    return dict(row.split("=", 1) for row in saved)


def _split(url: str) -> tuple[str, Secret | None]:
    """Return a proxy's URL without its password, and the password as it is written there."""
    info, at, host = url.rpartition("@")
    scheme, separator, pair = info.rpartition("://")
    user, colon, password = pair.partition(":")
    if not (at and colon):
        return url, None
    return f"{scheme}{separator}{user}@{host}", Secret(password)


def _entry(url: str) -> str:
    """Return the name of the password in its store."""
    return f"proxy {url.rpartition('://')[2].rstrip('/')}"


def _store(settings: Settings, where: Paths, environ: Mapping[str, str]) -> SessionStore:
    from thv_llm.tokens.session import Stores

    return Stores(settings, where, environ).current()
