"""The listener: addresses, limits, start and stop."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import KEY, OK, Client, running, until
from thv_llm.proxy import server
from thv_llm.proxy.server import FEWEST, Proxy
from thv_llm.proxy.upstream import Gateway
from thv_llm.secret import Secret

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_it_listens_on_loopback_only() -> None:
    with running(responding(OK)) as run:
        table = Path("/proc/self/net/tcp")
        if not table.exists():
            pytest.skip("no /proc to look at")
        listening = [
            line.split()[1] for line in table.read_text().splitlines()[1:] if line.split()[3] == "0A"
        ]
        assert [address for address in listening if address.endswith(f":{run.port:04X}")] == [
            f"0100007F:{run.port:04X}"
        ]


def test_it_responses_on_ipv6_too_where_there_is_one() -> None:
    with running(responding(OK)) as run:
        try:
            sock = socket.create_connection(("::1", run.port), timeout=5)
        except OSError:
            pytest.skip("no IPv6 loopback")
        with sock:
            sock.sendall(run.head("/healthz", "Connection: close").replace(b"127.0.0.1", b"[::1]", 1))
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_port_that_is_taken_is_the_systems_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = Gateway("https://127.0.0.1:1", environ={})
        proxy = Proxy(port, gateway, lambda rejected: Secret("t"), None, lambda exchange: None)

        with pytest.raises(OSError) as caught:  # the number says which; Wine has no text for it
            proxy.start()

        assert caught.value.errno == errno.EADDRINUSE
        proxy.stop()


def test_more_connections_than_the_limit_get_a_503() -> None:
    with running(responding(OK), descriptors=20) as run, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(run.connect()) for _ in range(FEWEST)]
        until(lambda: run.proxy.stats().connections == FEWEST)
        with run.connect() as another:
            assert another.everything().startswith(b"HTTP/1.1 503 ")
        waiting[0].sock.close()
        until(lambda: run.proxy.stats().connections == FEWEST - 1)
        assert run.get().startswith(b"HTTP/1.1 200 ")


def test_200_connections_at_once_are_all_accepted() -> None:
    with running(responding(OK)) as run, contextlib.ExitStack() as stack:
        began = time.monotonic()
        clients = []
        for _ in range(200):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", run.port))
            clients.append(sock)
        for sock in clients:
            sock.setblocking(True)
            sock.settimeout(5)
            sock.sendall(run.head("/healthz"))
        assert all(sock.recv(4096).startswith(b"HTTP/1.1 200 ") for sock in clients)
        assert time.monotonic() - began < 5
    assert server.BACKLOG >= 128


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    import resource  # which Windows has not

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.posix
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_it_survives_running_out_of_descriptors() -> None:
    with running(responding(OK)) as run:
        held: list[socket.socket] = []
        with few_descriptors():
            with contextlib.suppress(OSError):
                while True:
                    held.append(socket.create_connection(("127.0.0.1", run.port), timeout=1))
            busy_s = time.process_time()
            time.sleep(0.4)
            assert time.process_time() - busy_s < 0.2  # it waits for one to become free
        for sock in held:
            sock.close()
        assert run.get().startswith(b"HTTP/1.1 200 ")


def test_stopping_lets_a_running_stream_end_and_takes_nothing_new() -> None:
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        go_on.wait(5)
        conversation.send(b"5\r\nworld\r\n0\r\n\r\n")

    with running(script) as run, run.connect() as client, run.connect() as idle:
        client.send(run.head())
        client.until(b"hello\r\n")
        stopper = threading.Thread(target=run.proxy.stop, args=(5,))
        stopper.start()
        assert idle.receive() == b""
        with pytest.raises(ConnectionRefusedError):
            Client(run.port)
        go_on.set()
        assert client.everything() == b"5\r\nworld\r\n0\r\n\r\n"
        stopper.join()


def test_stopping_breaks_off_what_does_not_end_in_time() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(CHUNKED + b"5\r\nhello\r\n")
        conversation.wait_gone()

    with running(script) as run, run.connect() as client:
        client.send(run.head())
        client.until(b"hello\r\n")
        began = time.monotonic()
        run.proxy.stop(0.2)
        assert time.monotonic() - began < 3
        assert client.everything() == b""


def test_stopping_breaks_off_a_request_that_waits_for_its_response() -> None:
    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.wait_gone()

    with running(script) as run, run.connect() as client:
        client.send(run.head())
        until(lambda: bool(run.gateway.heads))
        began = time.monotonic()
        run.proxy.stop(0.2)
        assert time.monotonic() - began < 3


def test_nothing_is_left_behind() -> None:
    before = set(threading.enumerate())
    with running(responding(OK)) as run:
        for _ in range(5):
            run.get()

    left = {thread for thread in threading.enumerate() if thread not in before and "thv-llm" in thread.name}
    assert not left


def test_without_require_key_clients_need_none_and_health_still_proves_it() -> None:
    with running(responding(OK), require_key=False) as run:
        ask = run.head("/v1/models", "Connection: close").replace(f"Bearer {KEY}".encode(), b"Bearer other")
        assert run.send(ask).startswith(b"HTTP/1.1 200 ")
        assert b'"proof"' in run.get("/healthz?challenge=0123456789abcdef")


def test_figures_count_what_was_served() -> None:
    with running(responding(OK)) as run:
        run.get()
        run.get("/..")
        until(lambda: run.proxy.stats().requests == 2 and run.proxy.stats().connections == 0)
        figures = run.proxy.stats()

        assert figures.by_status == {"2xx": 1, "4xx": 1}
        assert (figures.rejected, figures.running) == (1, 0)
        assert figures.first_byte_p50_ms is not None
