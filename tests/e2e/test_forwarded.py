"""Another machine that has the socket of the service and nothing else, as after `ssh -R` or a mount."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.machine import PYZ, SYSTEM_PATH, NewMachine
from tests.e2e.npm_provider import NpmProvider


@contextlib.contextmanager
def forwarded(there: Path, here: Path) -> Iterator[None]:
    """Listen at one socket and pass everything on to the other, as ssh does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(there))
        listener.listen()
        thread = threading.Thread(target=_pass_on, args=(listener, here))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _pass_on(listener: socket.socket, here: Path) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            client, _ = listener.accept()
            with client, socket.socket(socket.AF_UNIX) as service:
                service.connect(str(here))
                service.sendall(client.recv(4096))
                while data := service.recv(4096):
                    client.sendall(data)


def run(*command: str, environ: Mapping[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_forwarded_socket_is_all_that_another_machine_needs(
    new_machine: NewMachine, provider: NpmProvider, tmp_path: Path
) -> None:
    machine = new_machine("claude", keyring=True)
    machine.setup()
    there = tmp_path / "llm.sock"
    environ = {"HOME": str(tmp_path / "home"), "PATH": SYSTEM_PATH, "THV_LLM_SOCKET": str(there)}
    helper = str(shutil.copy(machine.helper, tmp_path))
    program = ["python3", "-I", str(shutil.copy(PYZ, tmp_path)), "token"]

    with forwarded(there, machine.runtime / "toolhive" / "llm.sock"):
        by_helper, by_program = run(helper, environ=environ), run(*program, environ=environ)
    code, out, err = run(*program, environ=environ)

    assert by_helper == by_program
    assert provider.verify(by_program[1].removesuffix("\n"))
    assert (code, out) == (6, "")
    assert f"connection refused by {there}" in err
    assert not Path(environ["HOME"]).exists()
