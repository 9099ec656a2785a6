"""One thread for all tasks, and threads for what blocks."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.proxy.running import until
from thv_llm.proxy import event_loop
from thv_llm.proxy.event_loop import EventLoop, Job, Steps, _Jobs, _Selector
from thv_llm.proxy.transport import READ, WRITE, DeadlineExceeded, Transport


@pytest.fixture(params=sorted({event_loop.SELECTOR, _Selector}, key=str))
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLoop]:
    monkeypatch.setattr(event_loop, "SELECTOR", request.param)
    running = EventLoop()
    running.start()
    yield running
    running.stop(0)


class Plain:
    """A task of one function and the transports it is given."""

    def __init__(
        self, steps: Callable[[Plain], Steps[None]], *transports: Transport, idle: bool = False
    ) -> None:
        self.transports = list(transports)
        self.deadline = math.inf
        self.idle = idle
        self.seen: list[object] = []
        self.over = threading.Event()
        self.steps = self._run(steps)

    def _run(self, steps: Callable[[Plain], Steps[None]]) -> Steps[None]:
        try:
            yield from steps(self)
        finally:
            for transport in self.transports:
                transport.close()
            self.over.set()


def soon() -> float:
    return time.monotonic() + 5


def test_a_task_goes_on_when_its_transport_can(loop: EventLoop) -> None:
    def echo(task: Plain) -> Steps[None]:
        transport = task.transports[0]
        while True:
            transport.wants = READ
            yield soon()
            data = transport.read()
            if not data:
                return
            transport.wants = WRITE
            yield soon()
            transport.write(data.upper())

    pairs = [socket.socketpair() for _ in range(50)]
    tasks = [Plain(echo, Transport(ours)) for ours, _ in pairs]
    for task in tasks:
        loop.add(task)
    for _, theirs in pairs:
        theirs.send(b"hello")
    for task, (_, theirs) in zip(tasks, pairs, strict=True):
        assert theirs.recv(5) == b"HELLO"
        theirs.close()
        assert task.over.wait(5)
    assert loop.tasks == []


def test_an_event_may_be_dealt_with_while_its_task_waits_on(loop: EventLoop) -> None:
    def steps(task: Plain) -> Steps[None]:
        task.transports[0].pump = lambda: pump(task)
        yield soon()
        task.seen.append("resumed")

    def pump(task: Plain) -> bool:
        task.seen.append(task.transports[0].read())
        return task.seen[-1] != b"last"

    ours, theirs = socket.socketpair()
    with theirs:
        task = Plain(steps, Transport(ours))
        loop.add(task)
        for data in (b"one", b"two", b"last"):
            theirs.send(data)
            until(lambda: data in task.seen)  # noqa: B023
        assert task.over.wait(5)
    assert task.seen == [b"one", b"two", b"last", "resumed"]


def test_a_defect_outside_of_a_task_ends_that_task_alone(loop: EventLoop) -> None:
    def steps(task: Plain) -> Steps[None]:
        if task is broken:
            task.transports[0].pump = lambda: 1 // 0 == 0
        yield soon()

    pairs = [socket.socketpair() for _ in range(2)]
    broken, fine = (Plain(steps, Transport(ours)) for ours, _ in pairs)
    for task, (_, theirs) in zip((broken, fine), pairs, strict=True):
        loop.add(task)
        theirs.send(b"x")
        assert task.over.wait(5)
        theirs.close()
    assert loop.tasks == []


def test_a_deadline_that_passes_is_raised_in_its_task(loop: EventLoop) -> None:
    def late(task: Plain) -> Steps[None]:
        for seconds in (0.05, 0.1):
            try:
                yield time.monotonic() + seconds
            except DeadlineExceeded:
                task.seen.append(seconds)

    ours, theirs = socket.socketpair()
    with theirs:
        task = Plain(late, Transport(ours))
        loop.add(task)
        assert task.over.wait(5)
    assert task.seen == [0.05, 0.1]


def test_a_short_deadline_is_kept_beside_long_ones(loop: EventLoop) -> None:
    def wait(seconds: float) -> Callable[[Plain], Steps[None]]:
        def steps(task: Plain) -> Steps[None]:
            yield time.monotonic() + seconds

        return steps

    loop.add(Plain(wait(60)))
    task = Plain(wait(0.05))
    loop.add(task)

    assert task.over.wait(2)


def test_a_job_is_done_elsewhere_and_its_result_comes_back(loop: EventLoop) -> None:
    def asks(task: Plain) -> Steps[None]:
        task.seen.append((yield Job(threading.get_ident)))
        try:
            yield Job(lambda: 1 / 0)
        except ZeroDivisionError:
            task.seen.append("failed")
        task.seen.append(threading.get_ident())

    task = Plain(asks)
    loop.add(task)

    assert task.over.wait(5)
    job, failed, here = task.seen
    assert failed == "failed"
    assert job != here


def test_jobs_of_many_tasks_are_done_at_once_and_delay_no_other(loop: EventLoop) -> None:
    everyone = threading.Barrier(40)

    def asks(task: Plain) -> Steps[None]:
        task.seen.append((yield Job(lambda: everyone.wait(5))))

    tasks = [Plain(asks) for _ in range(39)]
    for task in tasks:
        loop.add(task)
    everyone.wait(5)

    assert all(task.over.wait(5) for task in tasks)


def test_a_defect_in_one_task_does_not_end_the_others(loop: EventLoop) -> None:
    def defect(task: Plain) -> Steps[None]:
        yield Job(lambda: None)
        raise ZeroDivisionError

    def fine(task: Plain) -> Steps[None]:
        yield Job(lambda: None)

    for steps in (defect, fine):
        task = Plain(steps)
        loop.add(task)
        assert task.over.wait(5)
    assert loop.tasks == []


def test_a_transport_that_cannot_be_watched_ends_its_task_only(loop: EventLoop) -> None:
    def waits(task: Plain) -> Steps[None]:
        yield soon()

    ours, theirs = socket.socketpair()
    transport = Transport(ours)
    ours.close()  # behind the transport's back
    broken = Plain(waits, transport)
    loop.add(broken)
    assert broken.over.wait(5)
    fine = Plain(lambda task: (yield Job(lambda: None)))
    loop.add(fine)
    assert fine.over.wait(5)
    theirs.close()


def test_stopping_ends_idle_tasks_at_once_and_others_at_the_end() -> None:
    loop = EventLoop()
    loop.start()

    def forever(task: Plain) -> Steps[None]:
        yield math.inf

    busy, idle = Plain(forever), Plain(forever, idle=True)
    for task in (busy, idle):
        loop.add(task)
    until(lambda: len(loop.tasks) == 2)
    stopper = threading.Thread(target=loop.stop, args=(0.3,))
    stopper.start()
    assert idle.over.wait(0.2)
    assert not busy.over.is_set()
    stopper.join()
    assert busy.over.is_set()


def test_a_result_that_comes_after_its_task_was_ended_is_discarded() -> None:
    loop = EventLoop()
    loop.start()
    go_on, discarded = threading.Event(), threading.Event()

    def connect() -> str:
        go_on.wait(5)
        return "connection"

    def asks(task: Plain) -> Steps[None]:
        yield Job(connect, lambda result: discarded.set())

    def holds(task: Plain) -> Steps[None]:
        yield Job(lambda: discarded.wait(5))

    asking, holding = Plain(asks, idle=True), Plain(holds)
    loop.add(asking)
    loop.add(holding)
    until(lambda: len(loop.tasks) == 2)
    stopper = threading.Thread(target=loop.stop, args=(5,))
    stopper.start()
    assert asking.over.wait(5)
    go_on.set()
    assert discarded.wait(5)
    stopper.join()


def test_without_a_thread_left_a_job_fails_and_the_end_is_still_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    jobs = _Jobs()
    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(RuntimeError):
        jobs.run(lambda: None)
    jobs.stop()
