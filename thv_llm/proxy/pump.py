"""One thread that passes on all answers which are still coming.

A connection's thread hands its relay over and sleeps until it is done. So hundreds of event
streams cost one thread's share of the interpreter, and each event one `select`, one read and one
write.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque

from thv_llm.proxy import relay as relays
from thv_llm.proxy.relay import Relay

TICK_S = 1.0
"""Between two looks at who has been idle for too long."""


class _Entry:
    """A relay in the pump, and which of its sockets are being watched for what."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.done = threading.Lock()
        self.done.acquire()
        self.link_events = 0
        self.tool_events = 0


class Pump:
    """Run relays until they are over.

    Args:
        idle_s: a relay in which nothing moves for that long is given up.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ)
        self._arrived: deque[_Entry] = deque()
        self._entries: set[_Entry] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="thv-llm pump", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what is still running, and end the thread, if it was started."""
        self._stopping = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._selector.close()
        self._waker.close()
        self._wakened.close()

    def run(self, relay: Relay) -> None:
        """Run a relay; return when it is over. Called by connections' threads."""
        entry = _Entry(relay)
        self._arrived.append(entry)
        self._wake()
        entry.done.acquire()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway
            self._waker.send(b"\0")

    def _run(self) -> None:
        next_look = time.monotonic() + TICK_S
        while not self._stopping:
            for key, events in self._selector.select(TICK_S):
                if key.data is None:
                    self._take_arrivals()
                else:
                    self._step(events, *key.data)
            if time.monotonic() >= next_look:
                self._end_idle()
                next_look = time.monotonic() + TICK_S
        self._take_arrivals()
        for entry in list(self._entries):
            entry.relay.give_up("the proxy was stopped")
            self._settle(entry)

    def _take_arrivals(self) -> None:
        with contextlib.suppress(OSError):
            self._wakened.recv(4096)
        while self._arrived:
            entry = self._arrived.popleft()
            self._entries.add(entry)
            self._settle(entry)

    def _step(self, events: int, entry: _Entry, is_tool: bool) -> None:
        relay = entry.relay
        if relay.over:  # by an event of the same round
            return
        try:
            if is_tool:
                relay.on_tool(
                    readable=bool(events & selectors.EVENT_READ),
                    writable=bool(events & selectors.EVENT_WRITE),
                )
            else:
                relay.on_link()
        except Exception:  # a defect in one relay must not end the others
            relay.give_up("a defect in the proxy")
        self._settle(entry)

    def _settle(self, entry: _Entry) -> None:
        """Watch for what this relay waits for now, or let it go."""
        relay = entry.relay
        link_events = tool_events = 0
        if not relay.over:
            link_events = 0 if relay.pending else selectors.EVENT_READ
            tool_events = selectors.EVENT_WRITE if relay.pending else 0
            if relay.watches_tool:
                tool_events |= selectors.EVENT_READ
        if link_events != entry.link_events:
            self._watch(relay.link.fd, entry.link_events, link_events, (entry, False))
            entry.link_events = link_events
        if tool_events != entry.tool_events:
            self._watch(relay.tool.fd, entry.tool_events, tool_events, (entry, True))
            entry.tool_events = tool_events
        if relay.over:
            self._entries.discard(entry)
            entry.done.release()

    def _watch(self, fd: int, before: int, events: int, data: tuple[_Entry, bool]) -> None:
        if not before:
            self._selector.register(fd, events, data)
        elif events:
            self._selector.modify(fd, events, data)
        else:
            self._selector.unregister(fd)

    def _end_idle(self) -> None:
        too_old = time.monotonic() - self._idle_s
        for entry in [entry for entry in self._entries if entry.relay.active_at < too_old]:
            entry.relay.give_up(relays.IDLE)
            self._settle(entry)
