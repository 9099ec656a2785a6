"""Strangers where we expect ourselves: on the port, and on the socket."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import pytest

from tests.service.lab import IMPATIENT_S, Lab, impatience, until
from thv_llm import state
from thv_llm.errors import ThvLlmError
from thv_llm.service import background


class Listener:
    """Somebody else's server: remembers what it hears, and answers the same to everyone."""

    def __init__(self, family: socket.AddressFamily, address: Any, answer: bytes) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(family)
        self._socket.bind(address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                heard = connection.recv(65536)
                if heard:
                    self.heard.append(heard)
                    connection.sendall(self._answer)


HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n{"status":"ok","version":"0.1.0","proof":"0000"}'


def test_a_stranger_on_the_port_is_named_and_hears_nothing_secret(lab: Lab) -> None:
    key = state.local_key(lab.paths)
    with Listener(socket.AF_INET, ("127.0.0.1", lab.port), HEALTHY) as stranger:
        use = background.port_use(lab.paths, lab.port, key)

    assert use.kind == "stranger"
    assert use.owner.endswith(f"(pid {os.getpid()})")
    assert len(stranger.heard) == 1
    assert stranger.heard[0].startswith(b"GET /healthz?challenge=")
    assert key.reveal().encode() not in stranger.heard[0]


def test_before_there_is_a_key_a_stranger_hears_nothing_at_all(lab: Lab) -> None:
    with Listener(socket.AF_INET, ("127.0.0.1", lab.port), HEALTHY) as stranger:
        assert background.port_use(lab.paths, lab.port, None).kind == "stranger"
    assert stranger.heard == []


def test_a_silent_stranger_does_not_hold_us_up(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", lab.port)), impatience():
        begun = time.monotonic()
        use = background.port_use(lab.paths, lab.port, state.local_key(lab.paths))

    assert use.kind == "stranger"
    assert time.monotonic() - begun < IMPATIENT_S + 1


def test_the_service_does_not_start_beside_a_stranger_and_says_who_it_is(lab: Lab) -> None:
    lab.want()
    with socket.create_server(("127.0.0.1", lab.port)):
        with pytest.raises(ThvLlmError) as caught:
            background.start(lab.paths, lab.environ)

    assert caught.value.what == f"port {lab.port} on 127.0.0.1 is taken"
    assert f"(pid {os.getpid()})" in caught.value.why
    assert "--proxy-port" in caught.value.next_step
    until(lambda: lab.processes() == [])


def test_a_free_port_is_free(lab: Lab) -> None:
    assert background.port_use(lab.paths, lab.port, None).kind == "free"


def test_a_stranger_on_the_socket_is_not_believed(lab: Lab) -> None:
    state.local_key(lab.paths)
    with Listener(socket.AF_UNIX, lab.paths.socket, b'ok {"record": null}\n') as stranger:
        assert background.find(lab.paths) is None
    assert all(line.startswith(b"challenge ") for line in stranger.heard)
