"""One thread that moves all bytes, and threads for what blocks.

A connection is a task: a generator that reads like a plain blocking function. Where it would have
to wait, it yields instead: a deadline (a float, monotonic) to wait for one of its transports, a `Wakeup`
to wait until another task lets it go on, or a `Job` to have something that blocks done in a
thread of its own (getting a token, connecting).

So no task ever holds another one up, hundreds of idle streams cost nothing, and since all tasks
run in the same thread, nothing that they share needs a lock, and no time goes into handing the
interpreter from thread to thread.
"""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

from thv_llm.proxy.transport import READ, WRITE, DeadlineExceeded, Transport

Result = TypeVar("Result")
KEPT_THREADS = 32
"""Idle threads that wait for the next job; more end."""
AT_ONCE = 128
"""Events that are taken in one look."""
JOIN_S = 2.0
"""For jobs that are being done when everything stops; they are left alone after that."""


class Job(NamedTuple):
    """Something that blocks. Yielded by a task; what it returns or raises comes back to the task.

    Attributes:
        discard: given the result when the task has been ended meanwhile.
    """

    call: Callable[[], Any]
    discard: Callable[[Any], None] = lambda _: None


class Wakeup:
    """Yielded by a task that waits for another task; None comes back.

    Attributes:
        deadline: when waiting ends with `DeadlineExceeded` (monotonic).
        wake: lets the task go on; set by the loop.
        over: the task does not wait any more, so a call of `wake` that is under way is void.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.wake: Callable[[], None] = lambda: None
        self.over = False


Steps = Generator[float | Wakeup | Job, Any, Result]
"""A part of a task. It is called with `yield from`."""


class Task(Protocol):
    """What the loop runs.

    Attributes:
        steps: the generator; closing it must release everything.
        transports: those that it can wait for. What it waits for on each is in `Transport.wants`.
        deadline: for the loop's use.
    """

    steps: Steps[None]
    transports: list[Transport]
    deadline: float

    @property
    def idle(self) -> bool:
        """Whether it could be ended without a client noticing."""


Ready = list[tuple[Transport | None, int]]
"""Transports with the events that came; None is the loop's own waker."""


class _Selector(selectors.DefaultSelector):
    def ready(self, timeout: float | None) -> Ready:
        # Windows says nothing of a socket whose end was read along with what came before it.
        over = [one for one in self.transports() if one.is_over and one.watched & READ]
        try:
            found = self.select(0 if over else timeout)
        except OSError:  # on Windows one broken socket spoils the look at all; its task must see it
            found = [(key, key.events) for key in self.get_map().values() if _is_broken(key.fd)]
            if not found:
                raise
        return [(one, READ) for one in over] + [
            (key.data, events) for key, events in found if key.data not in over
        ]

    def transports(self) -> list[Transport]:
        return [key.data for key in (self.get_map() or {}).values() if key.data]


if hasattr(select, "epoll"):
    TO_EPOLL = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
    FROM_EPOLL = tuple(
        (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & ~select.EPOLLIN else 0)
        for mask in range(2 * select.EPOLLHUP)
    )
    """An error, or the end of both directions, wakes every waiting task."""

    class _Epoll:
        """The same without what `selectors` does for each event besides."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._transports: dict[int, Transport | None] = {}
            self.close = self._epoll.close

        def register(self, fd: int, events: int, transport: Transport | None = None) -> None:
            self._epoll.register(fd, TO_EPOLL[events])
            self._transports[fd] = transport

        def modify(self, fd: int, events: int, transport: Transport) -> None:
            self._epoll.modify(fd, TO_EPOLL[events])
            self._transports[fd] = transport

        def unregister(self, fd: int) -> None:
            del self._transports[fd]
            self._epoll.unregister(fd)

        def ready(self, timeout: float | None) -> Ready:
            found = self._epoll.poll(timeout, AT_ONCE)
            return [(self._transports[fd], FROM_EPOLL[mask]) for fd, mask in found]

        def transports(self) -> list[Transport]:
            return [transport for transport in self._transports.values() if transport]

    SELECTOR: type[_Epoll | _Selector] = _Epoll
else:
    SELECTOR = _Selector


class EventLoop:
    """Runs tasks. All of it but `add`, `tasks` and `stop` belongs to its own thread."""

    def __init__(self) -> None:
        self._selector = SELECTOR()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened.fileno(), READ)
        self._arrived: deque[Callable[[], None]] = deque()
        self._tasks: dict[Task, None] = {}  # in the order in which they began
        self._next_look = math.inf
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="thv-llm proxy", daemon=True)
        self._jobs = _Jobs()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, task: Task) -> None:
        """Run a task, from any thread."""
        self._call(partial(self.begin, task))

    def background(self, call: Callable[[], object]) -> None:
        """Run something that blocks and that no task waits for; called by tasks only."""
        with contextlib.suppress(RuntimeError):  # no thread left
            self._jobs.run(call)

    @property
    def count(self) -> int:
        """How many tasks are running."""
        return len(self._tasks)

    @property
    def tasks(self) -> list[Task]:
        """The tasks that are running, for looking at."""
        return list(self._tasks)

    def stop(self, drain_s: float) -> None:
        """End idle tasks now, the others when they are done or `drain_s` is over; then the thread."""
        self._call(self._end_idle)
        self._thread.join(drain_s)
        self._call(self._end_all)
        self._thread.join()
        self._jobs.stop()
        self.close()

    def close(self) -> None:
        """Release what a loop that is not running holds; transports of no task stay open."""
        for transport in self._selector.transports():
            self.watch(transport, 0)
        self._selector.close()
        self._waker.close()
        self._wakened.close()

    def watch(self, transport: Transport, events: int) -> None:
        """Have a transport looked at for these events; 0 for not at all."""
        if events == transport.watched:
            return
        if not transport.watched:
            self._selector.register(transport.fd, events, transport)
            transport.unwatch = self._unwatch
        elif events:
            self._selector.modify(transport.fd, events, transport)
        else:
            self._selector.unregister(transport.fd)
        transport.watched = events

    def _unwatch(self, transport: Transport) -> None:
        self.watch(transport, 0)

    def _call(self, call: Callable[[], None]) -> None:
        self._arrived.append(call)
        with contextlib.suppress(OSError):  # full: it will wake anyway
            self._waker.send(b"\0")

    def _run(self) -> None:
        while not (self._stopping and not self._tasks):
            left = self._next_look - time.monotonic()
            for transport, events in self._selector.ready(None if left == math.inf else max(0.0, left)):
                if transport is None:
                    self._take_arrivals()
                elif not transport.watched:
                    pass  # closed because of another event of this round
                elif transport.task is None:
                    transport.on_idle_event()
                else:
                    try:
                        waits_on = transport.pump and transport.pump()
                    except Exception:  # as in `_resume`
                        self._end(transport.task)
                        continue
                    if not waits_on:
                        transport.ready = events & transport.watched
                        self._resume(transport.task, transport.task.steps.__next__)
                        transport.ready = 0
            if time.monotonic() >= self._next_look:
                self._end_late()

    def _take_arrivals(self) -> None:
        with contextlib.suppress(OSError):
            self._wakened.recv(4096)
        while self._arrived:
            self._arrived.popleft()()

    def begin(self, task: Task) -> None:
        """Run a task, up to where it waits."""
        self._tasks[task] = None
        self._resume(task, task.steps.__next__)

    def _resume(self, task: Task, step: Callable[[], float | Wakeup | Job]) -> None:
        try:
            asked = step()
            if isinstance(asked, float):
                task.deadline = asked
                if asked < self._next_look:
                    self._next_look = asked
                for transport in task.transports:
                    transport.task = task
                    if transport.wants != transport.watched:
                        self.watch(transport, transport.wants)
            else:
                self._wait_for(task, asked)
        except StopIteration:
            self._tasks.pop(task, None)
        except Exception:  # a defect in one task must not end the others
            self._end(task)

    def _wait_for(self, task: Task, asked: Wakeup | Job) -> None:
        """Have another part resume a task."""
        for transport in task.transports:
            self.watch(transport, 0)
        if isinstance(asked, Job):
            task.deadline = math.inf
            self._jobs.run(partial(self._do, task, asked))
        else:
            task.deadline = asked.deadline
            self._next_look = min(self._next_look, asked.deadline)
            asked.wake = partial(self._call, partial(self._wake, task, asked))

    def _wake(self, task: Task, wakeup: Wakeup) -> None:
        if not wakeup.over:
            self._resume(task, task.steps.__next__)

    def _do(self, task: Task, job: Job) -> None:
        """Do a job, in a thread of its own."""
        try:
            result = job.call()
        except Exception as error:
            self._call(partial(self._hand_back, task, partial(task.steps.throw, error), lambda: None))
        else:
            discard = partial(job.discard, result)
            self._call(partial(self._hand_back, task, partial(task.steps.send, result), discard))

    def _hand_back(
        self, task: Task, step: Callable[[], float | Wakeup | Job], discard: Callable[[], None]
    ) -> None:
        if task in self._tasks:
            self._resume(task, step)
        else:
            discard()

    def _end_late(self) -> None:
        now = time.monotonic()
        for task in [task for task in self._tasks if task.deadline <= now]:
            self._resume(task, partial(task.steps.throw, DeadlineExceeded()))
        self._next_look = min((task.deadline for task in self._tasks), default=math.inf)

    def _end_idle(self) -> None:
        self._stopping = True
        for task in [task for task in self._tasks if task.idle]:  # listeners first, which began first
            self._end(task)

    def _end_all(self) -> None:
        for task in list(self._tasks):
            self._end(task)

    def _end(self, task: Task) -> None:
        self._tasks.pop(task, None)
        with contextlib.suppress(Exception):
            task.steps.close()


def _is_broken(descriptor: int) -> bool:
    try:
        select.select([descriptor], (), (), 0)
    except OSError:
        return True
    return False


class _Jobs:
    """Threads, kept for the next job: starting one costs more than most jobs."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []

    def run(self, job: Callable[[], object]) -> None:
        """Do a job in a thread; called by the loop only."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._work, name="thv-llm job", daemon=True)
                thread.start()
                self._threads.append(thread)
        self._jobs.put(job)

    def stop(self) -> None:
        """End all threads, after the jobs that they are at."""
        deadline = time.monotonic() + JOIN_S
        threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                if self._idle >= KEPT_THREADS:
                    break
                self._idle += 1
        with self._lock:
            self._threads.remove(threading.current_thread())
