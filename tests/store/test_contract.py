from __future__ import annotations

import threading

import pytest

from thv_llm.store import StoreError, within


def test_what_the_work_returns_or_raises_reaches_the_caller() -> None:
    def fail() -> None:
        raise KeyError("x")

    assert within(5, "it", lambda: 42) == 42
    with pytest.raises(KeyError):
        within(5, "it", fail)


def test_work_that_hangs_is_left_behind() -> None:
    let_go = threading.Event()

    with pytest.raises(StoreError, match="the keyring does not respond"):
        within(0.05, "the keyring", let_go.wait)

    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "store":
            thread.join()
