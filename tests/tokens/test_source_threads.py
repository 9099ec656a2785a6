"""Many threads that want a token of one session at once; processes are in tests/test_obtain.py."""

from __future__ import annotations

import threading

from tests.fakes.web import ServerResponse
from tests.tokens.rig import Rig
from thv_llm.errors import UnreachableError

HOUR_S = 3600.0


def test_fifty_threads_cost_one_refresh(rig: Rig) -> None:
    rig.provider.latency_s = 0.1
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(rig.source.get().value.reveal())) for _ in range(50)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 50
    assert len(set(found)) == 1
    assert rig.provider.count("refresh") == 1


def test_threads_that_waited_for_a_failure_do_not_try_each_by_himself(rig: Rig) -> None:
    rig.provider.latency_s = 0.1
    rig.provider.grants.rotates = False

    def portal(_: ServerResponse) -> ServerResponse:
        rig.clock.pass_(1)
        return ServerResponse(status=200, body="<html>portal")

    rig.provider.alter["refresh"] = portal
    failures: list[Exception] = []
    together = threading.Barrier(20)

    def ask() -> None:
        together.wait()
        try:
            rig.source.get()
        except UnreachableError as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(failures) == 20
    assert rig.provider.count("refresh") == 1


def test_while_one_thread_refreshes_the_others_get_the_token_in_hand(rig: Rig) -> None:
    first = rig.source.get()
    rig.clock.pass_(HOUR_S - 590)
    arrived, release = rig.provider.hold("refresh")
    refreshing = threading.Thread(target=rig.source.get)
    refreshing.start()
    assert arrived.wait(5)

    assert rig.source.get() == first

    release.set()
    refreshing.join()
    assert rig.source.get() != first


def test_what_another_process_rotated_is_taken_up(rig: Rig) -> None:
    rig.source.get()
    rig.another().get()
    rig.source.forget()

    assert rig.source.get()
    assert rig.provider.grants.reuses == 0
    assert rig.is_alive
