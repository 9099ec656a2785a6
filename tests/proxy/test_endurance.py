"""Many requests, half of them bad, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.bench import serve
from tests.bench.stage import TOP, memory_mb
from tests.fakes.hostile_gateway import CA, Conversation, HostileGateway
from tests.proxy.running import KEY, OK, Client, Running, running, until

REQUESTS = int(os.environ.get("THV_LLM_MUTATIONS", "2000")) // 10 * 10
BROKEN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"


def script(conversation: Conversation) -> None:
    while head := conversation.request():
        if b"/cut" in head:
            conversation.send(BROKEN)
            return
        if b"/none" in head:
            return
        conversation.send(OK)


def one_of_ten(run: Running, number: int) -> None:
    """Send a good request or a bad one; five of ten are good."""
    good = run.head("/v1/messages", "Connection: close", method="POST", body=b"x" * 1000)
    with run.connect() as client:
        match number % 10:
            case 1:
                client.send(good.replace(KEY.encode(), b"wrong"))
            case 3:
                client.send(b"\x00" * 100 + b"\r\n\r\n")
            case 5:
                client.send(good[:-500])
                return  # in the middle of its body
            case 7:
                client.send(run.head("/cut", "Connection: close"))
            case 9:
                client.send(run.head("/none", "Connection: close"))
            case _:
                client.send(good)
        client.everything()


def resources() -> tuple[int, int, int]:
    """Return MB of memory, descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") >> 20,
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
    )


@pytest.mark.posix
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="counted on Linux only")
def test_many_requests_half_of_them_bad_leave_nothing_behind() -> None:
    with running(script) as run:

        def send(count: int) -> tuple[int, int, int]:
            for number in range(count):
                one_of_ten(run, number)
                if number % 500 == 499:  # what the test itself remembers is no leak
                    run.entries.clear()
                    run.gateway.heads.clear()
                    run.gateway.bodies.clear()
            until(lambda: run.proxy.stats().connections == 0)
            return resources()

        seen = [send(1000), send(REQUESTS)]
        # The heap of a process that ran thousands of other tests moves once; a leak grows each time.
        while len(seen) < 4 and seen[-1][0] - seen[-2][0] > 10:
            seen.append(send(REQUESTS))

        assert run.proxy.stats().ok >= REQUESTS // 2
        assert seen[-1][0] - seen[-2][0] <= 10, seen
        # Pooled connections and idle threads can differ by a few.
        assert all(now - then <= 10 for now, then in zip(seen[-1][1:], seen[0][1:], strict=True)), seen


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_forty_streams_after_large_prompts_leave_little_in_memory() -> None:
    """Bodies that were kept for a repeat go back to the system; from the heap they would not."""
    size, streams = 4_000_000, 40
    go_on = threading.Event()

    def stream(conversation: Conversation) -> None:
        while conversation.head():
            conversation.exactly(size)
            conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            go_on.wait(30)
            conversation.send(b"0\r\n\r\n")

    def ask(port: int, client: Client) -> None:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-api-key: {serve.KEY}\r\n"
        client.send(f"{head}Content-Length: {size}\r\n\r\n".encode())
        client.send(bytes(size))
        assert client.until(b"hello").startswith(b"HTTP/1.1 200 OK")

    with HostileGateway(stream) as gateway, contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "tests.bench.serve", "0", gateway.url, CA]
        process = stack.enter_context(subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        before = memory_mb(process.pid)
        clients = [stack.enter_context(Client(port)) for _ in range(streams)]
        threads = [threading.Thread(target=ask, args=(port, client)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        meanwhile = memory_mb(process.pid)
        go_on.set()

    assert meanwhile - before < 30, (before, meanwhile)
