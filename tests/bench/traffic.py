"""Tools that talk through a proxy without pause, and the gateway behind it: a process of its own.

    python -m tests.bench.traffic ISSUER AUDIENCE

Prints the gateway's URL. Given a line with the proxy's port and the state file (which has the
local key), THREADS tools request one response after the other, streamed and whole by turns. When
stdin ends, so do they; then one line of JSON tells how it went (`Tally`).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.e2e.npm_provider import TokenCheck
from tests.fakes.gateway import FakeGateway
from tests.matrix import TOP

THREADS = 8
TIMEOUT_S = 30


@dataclass
class Tally:
    """What the tools saw."""

    requests: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main(issuer: str, audience: str) -> None:
    """Be that process."""
    with FakeGateway(TokenCheck(issuer, audience).verify) as gateway:
        print(gateway.url, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        port, _, state = line.partition(" ")
        key = json.loads(Path(state).read_text())["keys"].popitem()[1]
        tally, stopping = Tally(), threading.Event()
        threads = [
            threading.Thread(target=_tool, args=(int(port), key, tally, stopping)) for _ in range(THREADS)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stopping.set()
        for thread in threads:
            thread.join()
        tally.seconds = time.monotonic() - began
    print(json.dumps(asdict(tally)), flush=True)


def _tool(port: int, key: str, tally: Tally, stopping: threading.Event) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        while not stopping.is_set():
            streams = tally.requests % 2 == 0
            tally.requests += 1
            try:
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps({"model": "m-1", "stream": streams}), headers
                )
                response = connection.getresponse()
                text = response.read()
                if response.status != 200 or streams != (b"[DONE]" in text):
                    tally.problems.append(f"{response.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                tally.problems.append(repr(error))
                connection.close()


class Traffic:
    """The process while the context lasts.

    Attributes:
        gateway_url: of the gateway in it.
        tally: what the tools saw, after `stop`.
    """

    def __init__(self, issuer: str, audience: str) -> None:
        self._command = [sys.executable, "-m", "tests.bench.traffic", issuer, audience]
        self.tally = Tally()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.gateway_url = self._streams()[1].readline().strip()
        return self

    def start(self, port: int, state: str) -> None:
        """Let the tools begin."""
        stdin, _ = self._streams()
        stdin.write(f"{port} {state}\n")
        stdin.flush()

    def stop(self) -> None:
        """Let the tools finish what they are at."""
        stdin, stdout = self._streams()
        stdin.close()
        self.tally = Tally(**json.loads(stdout.read()))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams():
            stream.close()
        self._process.wait(TIMEOUT_S)

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
