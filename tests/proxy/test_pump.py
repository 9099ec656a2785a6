"""The one thread that passes on what is still coming; its relays are tested in test_relay."""

from __future__ import annotations

import socket
import threading
from typing import cast

import pytest

from tests.proxy.running import until
from thv_llm.proxy.framing import Counted
from thv_llm.proxy.pump import Pump
from thv_llm.proxy.relay import Relay
from thv_llm.proxy.upstream import Link
from thv_llm.proxy.wire import Wire


class Stream:
    """A relay between two socket pairs, run in a thread as a connection's would."""

    def __init__(self, pump: Pump, length: int) -> None:
        ours, self.tool = socket.socketpair()
        theirs, self.gateway = socket.socketpair()
        wires = Wire(ours), cast(Link, Wire(theirs))
        self.relay = Relay(*wires, Counted(length), chunked=False, token=b"t")
        self._wires = wires
        self.thread = threading.Thread(target=pump.run, args=(self.relay,))
        self.thread.start()

    def end(self) -> None:
        self.thread.join(5)
        assert not self.thread.is_alive()
        for sock in (self.tool, self.gateway):
            sock.close()
        for wire in self._wires:
            wire.close()


@pytest.fixture
def pump() -> Pump:
    return Pump(60)


def test_many_streams_run_in_one_thread(pump: Pump) -> None:
    pump.start()
    streams = [Stream(pump, 6) for _ in range(50)]
    for stream in streams:
        stream.gateway.send(b"one")
    for stream in streams:
        stream.gateway.send(b"two")
        stream.end()
        assert not stream.relay.failure
    pump.stop()


def test_a_defect_in_one_relay_does_not_end_the_others(pump: Pump) -> None:
    pump.start()
    good, bad = Stream(pump, 6), Stream(pump, 6)
    bad.relay.on_link = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    for stream in (bad, good):
        stream.gateway.send(b"onetwo")
        stream.end()
    pump.stop()

    assert (bad.relay.failure, good.relay.failure) == ("a defect in the proxy", "")


def test_stopping_gives_up_what_is_still_running(pump: Pump) -> None:
    pump.start()
    stream = Stream(pump, 6)
    stream.gateway.send(b"one")
    until(lambda: stream.relay.sent == 3)

    pump.stop()

    stream.end()
    assert stream.relay.failure
