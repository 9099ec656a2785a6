"""One login at a time per machine.

Ten terminals whose session has ended must not open ten browsers. The first login holds a
lock and leaves its URL in a file beside it; the others show that URL, wait, and end with
it. The URL holds nothing secret: `state`, `nonce` and the PKCE challenge are of use only to
the process that has the verifier.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from thv_llm import files
from thv_llm.errors import ThvLlmError
from thv_llm.oidc.device import MAX_LIFETIME_S
from thv_llm.oidc.interaction import Interaction

WAIT_S = MAX_LIFETIME_S + 30.0  # a little longer than any login may take; one by code takes longest
POLL_S = 0.2

T = TypeVar("T")


def once(
    lock_path: str,
    perform: Callable[[Interaction], T],
    *,
    interaction: Interaction,
    already: Callable[[], T | None],
    wait_s: float = WAIT_S,
) -> T:
    """Log in, unless somebody else is at it: then wait for them.

    Args:
        lock_path: `Paths.lock("login")`.
        perform: does the login with the Interaction that it is given, and stores its result
            before it returns, because then the lock is let go.
        already: returns what `perform` would, if the other login has brought it; else None.

    Raises:
        ThvLlmError: of `perform`; or the other login did not end in time.
    """
    until = time.monotonic() + wait_s
    waiter = _Waiter(_url_path(lock_path), interaction)
    with contextlib.ExitStack() as held:
        while not _try_lock(held, lock_path):
            waiter.show()
            if time.monotonic() >= until:
                raise ThvLlmError(
                    "another login is under way on this machine",
                    why="it did not end in time",
                    next_step="finish it in its browser window, or end its process",
                )
            interaction.sleep(POLL_S)
        if waiter.has_waited and (found := already()) is not None:
            interaction.say("The other login has ended; its session serves here, too.")
            return found
        return _alone(lock_path, perform, interaction)


def _try_lock(held: contextlib.ExitStack, lock_path: str) -> bool:
    try:
        held.enter_context(files.lock(lock_path, timeout_s=0.0, what="the login"))
    except files.LockHeldError:
        return False
    return True


def _alone(lock_path: str, perform: Callable[[Interaction], T], interaction: Interaction) -> T:
    path = _url_path(lock_path)

    def announce(url: str) -> None:
        with contextlib.suppress(ThvLlmError):  # without the file the others just see no URL
            files.replace(path, url.encode())
        interaction.announce(url)

    _remove(path)  # of a login that was killed
    try:
        return perform(replace(interaction, announce=announce))
    finally:
        _remove(path)


class _Waiter:
    """Say once that, and each time where, another login is under way."""

    def __init__(self, path: str, interaction: Interaction) -> None:
        self._path = path
        self._say = interaction.say
        self._announce = interaction.announce
        self._url = ""
        self.has_waited = False

    def show(self) -> None:
        if not self.has_waited:
            self._say("Another login is under way on this machine; waiting for it.")
            self.has_waited = True
        url = (files.read(self._path) or b"").decode("ascii", "replace")
        if url and url != self._url and all("!" <= character <= "~" for character in url):
            self._url = url
            self._announce(url)
            self._say(f"It can be finished in a browser at this URL:\n\n  {url}\n")


def _url_path(lock_path: str) -> str:
    return os.path.splitext(lock_path)[0] + ".url"


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
