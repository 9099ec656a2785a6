"""Which user is at the other end."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.fakes.hostile_gateway import responding
from tests.proxy.running import OK, running
from thv_llm.system import peers as module
from thv_llm.system.peers import Peers, peer_uid

NOBODY = 65534
only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can tell")


@pytest.fixture
def peers() -> Iterator[Peers]:
    with closing(Peers()) as found:
        yield found


@contextmanager
def pair(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a loopback connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host}")
    with listener, socket.socket(family) as theirs:
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            yield ours, theirs


@only_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_process_is_not_foreign_to_itself(host: str, peers: Peers) -> None:
    with pair(host) as (ours, _):
        assert not peers.is_foreign(ours)


@only_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_and_the_table_say_the_same(host: str, peers: Peers) -> None:
    with pair(host) as (ours, _):
        from_table = module._read_table(ours)

        assert from_table is not None
        assert from_table.uid == os.getuid()
        assert peers._query_kernel(ours) in (from_table, None)


@only_linux
def test_a_program_that_has_ended_is_not_served(peers: Peers) -> None:
    with pair("127.0.0.1") as (ours, theirs):
        theirs.close()

        assert peers.is_foreign(ours)


@only_linux
@pytest.mark.root
def test_another_user_is_refused_even_with_the_key() -> None:
    with running(responding(OK)) as run:
        request = run.head("/v1/models", "Connection: close")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(NOBODY)
                with socket.socket() as sock:
                    sock.connect(("127.0.0.1", run.port))
                    sock.sendall(request)
                    os.write(writing, sock.recv(4096) or b"closed")
            except OSError:
                os.write(writing, b"closed")
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == b"closed"
        os.waitpid(child, 0)
        assert run.gateway.connections == 0


def test_the_user_at_the_other_end_is_known() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()


class FakeSocket:
    """Serves getsockopt as macOS does."""

    def __init__(self, response: bytes | OSError) -> None:
        self.response = response
        self.asked: tuple[int, ...] = ()

    def getsockopt(self, *arguments: int) -> bytes:
        self.asked = arguments
        if isinstance(self.response, OSError):
            raise self.response
        return self.response


def test_what_is_acknowledged_is_not_missed() -> None:
    with pair("127.0.0.1") as (one, other):
        for _ in range(2):
            one.send(b"x")
            assert other.recv(1) == b"x"
            time.sleep(0.05)

        assert module.unacknowledged_s(one) == 0.0


@pytest.mark.parametrize(
    ("retransmits", "probes", "silent_s"), [(0, 0, 0.0), (1, 1, 0.0), (3, 0, 95.5), (0, 3, 95.5)]
)
def test_what_is_not_acknowledged_is_told_by_the_kernel(
    retransmits: int, probes: int, silent_s: float
) -> None:
    class Sock:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
            return struct.pack("=8B14I", 1, 0, retransmits, probes, *range(16), 95_500, 0)[:size]

    assert module.unacknowledged_s(Sock()) == silent_s  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("response", "uid"),
    [(struct.pack("=IIh", 0, 501, 1) + bytes(66), 501), (b"", -1), (OSError(57, "gone"), -1)],
)
def test_on_macos_local_peercred_is_asked(response: bytes | OSError, uid: int) -> None:
    fake = FakeSocket(response)

    assert peer_uid(fake, "darwin") == uid  # type: ignore[arg-type]
    assert fake.asked == (0, 1, 76)


def test_a_listener_keeps_its_port_by_the_option_of_its_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the usual option lets every program of this machine take the port over."""
    with socket.socket() as sock:
        module.reserve(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)  # for one
    with socket.socket() as sock:
        module.reserve(sock)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
