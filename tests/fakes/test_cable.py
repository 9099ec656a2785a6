from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.fakes.cable import Cable

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def cable(server: socket.socket) -> Iterator[Cable]:
    with Cable(server.getsockname()[1]) as plugged:
        yield plugged


def connected(cable: Cable, server: socket.socket) -> Ends:
    near = socket.create_connection(("127.0.0.1", cable.port), timeout=10)
    far, _ = server.accept()
    far.settimeout(10)
    return near, far


def test_plugged_in_it_passes_on_bytes_and_their_end(cable: Cable, server: socket.socket) -> None:
    near, far = connected(cable, server)
    with near, far:
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"
        far.close()
        assert near.recv(100) == b""


@pytest.mark.posix
def test_pulled_out_it_resets_who_is_there_and_refuses_who_comes(cable: Cable, server: socket.socket) -> None:
    near, far = connected(cable, server)
    with near, far:
        cable.pull()
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", cable.port))


def test_plugged_in_again_it_is_at_the_same_port(cable: Cable, server: socket.socket) -> None:
    port = cable.port
    cable.pull()
    cable.plug()

    assert cable.port == port
    for end in connected(cable, server):
        end.close()


def test_without_its_server_a_connection_ends_at_once(cable: Cable, server: socket.socket) -> None:
    server.close()

    with socket.create_connection(("127.0.0.1", cable.port), timeout=10) as near:
        assert near.recv(1) == b""
