"""What every store of the session offers, and how a store can fail.

A store maps a session key to one secret (the refresh token). All of them keep these promises:

1. `save` has read the value back when it returns; whatever was there before stays when it fails.
2. Absent is None. Locked, silent, broken or refused is an error: no store stands in for another.
3. No call takes longer than a few seconds, unless the user must unlock something.
4. No error text holds a secret, or what a backend said beyond the name of its exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret

SERVICE = "thv-llm"
"""The `service` attribute of our entries, for `keyring` and `secret-tool` alike."""

TIMEOUT_S = 5.0
PROMPT_TIMEOUT_S = 120.0
"""Long enough to type a passphrase; only where a user is at the terminal."""

CHOOSE_FILE = "thv-llm config set --token-store file, then thv-llm login"
"""What helps where no keyring does."""

T = TypeVar("T")


class StoreError(ThvLlmError):
    """The store cannot be used; the session in it, if any, is as it was."""


class LockedError(StoreError):
    """The store is there, and the user must unlock it."""


class DamagedError(StoreError):
    """What is stored cannot be read; a `save` puts it aside, nothing else touches it."""


class AbsentError(StoreError):
    """There is no such store on this machine; another kind can be chosen instead."""


class SessionStore(Protocol):
    """One place that keeps secrets."""

    @property
    def name(self) -> str:
        """A short word by which `choose` finds this store again."""

    def describe(self) -> str:
        """Say where the session is and what protects it."""

    def load(self, key: str) -> Secret | None:
        """Return the secret of that key, or None when there is none."""

    def ready(self) -> None:
        """Raise now if a `save` is sure to fail: asked before an old value is used up."""

    def save(self, key: str, value: Secret) -> None:
        """Store durably, and read back."""

    def delete(self, key: str) -> None:
        """Remove; absent is fine."""


def within(timeout_s: float, what: str, work: Callable[[], T]) -> T:
    """Return what `work` returns, or give up on it.

    It runs in a thread that is left behind when it hangs: a call into a foreign library
    cannot be stopped.

    Args:
        what: what is called, for the message.

    Raises:
        StoreError: no response within `timeout_s`.
    """
    import queue  # which a cold `token` need not load

    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:  # crosses to the caller's thread, whatever it is
            done.put((None, error))

    thread = threading.Thread(target=run, name="store", daemon=True)
    thread.start()
    try:
        result, failure = done.get(timeout=timeout_s)
    except queue.Empty:
        raise silent(what, timeout_s) from None
    thread.join()
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]  # None only if T has it


def silent(what: str, timeout_s: float) -> StoreError:
    """Return the error for a store that does not respond."""
    return StoreError(
        f"{what} does not respond",
        why=f"nothing came back within {timeout_s:.0f} s",
        next_step=f"restart it, or choose: {CHOOSE_FILE}",
    )
