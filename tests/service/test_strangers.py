"""Foreign processes where the service is expected: on the port, and on the socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.lab import IMPATIENT_S, Lab, impatience, until
from thv_llm import state
from thv_llm.errors import ThvLlmError
from thv_llm.secret import Secret
from thv_llm.service import agent_protocol, background
from thv_llm.service.agent_protocol import ForeignAgentError


class Listener:
    """A foreign server: remembers what it hears, and sends the same response to every client."""

    def __init__(
        self, family: socket.AddressFamily, address: Any, response: bytes, uid: int | None = None
    ) -> None:
        self.heard: list[bytes] = []
        self._respond = response
        self._socket = socket.socket(family)
        self._socket.bind(address)
        if uid is not None:
            os.seteuid(uid)  # the kernel notes who calls `listen`
        try:
            self._socket.listen()
        finally:
            if uid is not None:
                os.seteuid(0)
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
                    connection.sendall(self._respond)


HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n{"status":"ok","version":"0.1.0","proof":"0000"}'


def test_a_foreign_listener_on_the_port_is_named_and_is_sent_nothing(lab: Lab) -> None:
    state.local_key(lab.paths)
    with Listener(socket.AF_INET, ("127.0.0.1", lab.port), HEALTHY) as foreign:
        use = background.port_use(lab.paths, lab.port)

    assert use.kind == "foreign"
    assert use.owner.endswith(f"(pid {os.getpid()})")
    assert foreign.heard == []


def test_a_silent_foreign_process_does_not_delay_the_program(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", lab.port)), impatience():
        begun = time.monotonic()
        use = background.port_use(lab.paths, lab.port)

    assert use.kind == "foreign"
    assert time.monotonic() - begun < IMPATIENT_S + 1


def test_a_port_whose_owner_accepts_no_connection_is_somebodys() -> None:
    with impatience(), socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        with contextlib.ExitStack() as opened:
            for _ in range(4):
                waiting = opened.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
            assert background.is_listening(listener.getsockname()[1])


def test_the_service_does_not_start_beside_a_foreign_process_and_says_which(lab: Lab) -> None:
    lab.want()
    with socket.create_server(("127.0.0.1", lab.port)):
        with pytest.raises(ThvLlmError) as caught:
            background.start(lab.paths, lab.environ)

    assert caught.value.what == f"port {lab.port} on 127.0.0.1 is taken"
    assert f"(pid {os.getpid()})" in caught.value.why
    assert "--proxy-port" in caught.value.next_step
    until(lambda: lab.processes() == [])


def test_a_free_port_is_free(lab: Lab) -> None:
    assert background.port_use(lab.paths, lab.port).kind == "free"
    assert not background.is_listening(lab.port)


def test_a_foreign_process_on_the_socket_is_not_believed(lab: Lab) -> None:
    state.local_key(lab.paths)
    with Listener(socket.AF_UNIX, lab.paths.socket, b'ok {"record": null}\n') as foreign:
        for _ in range(3):
            assert background.find(lab.paths) is None
    assert all(line.startswith(b"challenge ") for line in foreign.heard)
    questions = {line.split()[1].decode() for line in foreign.heard}
    assert len(questions) == len(foreign.heard) == 3  # an old answer must be worth nothing
    assert all(16 <= len(question) <= 128 and question.isalnum() for question in questions)


@pytest.mark.root
def test_a_token_goes_to_no_agent_of_another_user(tmp_path: Path) -> None:
    path = str(tmp_path / "llm.sock")
    with Listener(socket.AF_UNIX, path, b"ok\n", uid=65534) as foreign:
        with pytest.raises(ForeignAgentError, match="another user"):
            agent_protocol.hand_over(path, Secret("canary-token"), 0.0, timeout_s=5)

    assert foreign.heard == []


def test_a_token_goes_to_an_agent_of_our_own(tmp_path: Path) -> None:
    path = str(tmp_path / "llm.sock")
    with Listener(socket.AF_UNIX, path, b"ok\n") as own:
        agent_protocol.hand_over(path, Secret("token-1"), 60.0, timeout_s=5)

    assert own.heard == [b"adopt 60 token-1\n"]
