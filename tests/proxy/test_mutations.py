"""Thousands of damaged requests and responses: no defect, no leak of the token, no growth.

`THV_LLM_MUTATIONS=100000` runs as many; the seed is fixed, so a failure comes back.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.serve import KEY
from tests.bench.stage import memory_mb
from tests.fakes.hostile_gateway import CA, Conversation, HostileGateway
from tests.proxy.running import Client

COUNT = int(os.environ.get("THV_LLM_MUTATIONS", "1500"))
TOKEN = b"bench-token"
TOP = Path(__file__).resolve().parents[2]
WARM_UP = 500
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

REQUESTS = [
    b"GET /v1/models?key=x&a=b HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAuthorization: Bearer KEY\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nx-api-key: KEY\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\napi-key: KEY\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close, X-Hop\r\nX-Hop: 1\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HEAD /v1/models HTTP/1.1\r\nHost: localhost:PORT\r\nAuthorization: Bearer KEY\r\n\r\n"
    b"DELETE /v1/x HTTP/1.1\r\nHost: localhost:PORT\r\nAuthorization: Bearer KEY\r\n\r\n",
    b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAuthorization: Bearer KEY\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /v1beta/models/g:generateContent?key=KEY HTTP/1.0\r\nHost: 127.0.0.1:PORT\r\n"
    b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /healthz?challenge=0123456789abcdef HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\xff",
    b"\x7f",
    b"%2e%2e",
    b"..",
    b"//",
    b"#",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: evil.example\r\n",
    b"0\r\n\r\n",
    b"-1",
    b"+5",
    b"99999999999999999999",
    b"HTTP/1.1 ",
    b"GET /x HTTP/1.1\r\n",
    b"Connection: close\r\n",
    b"A" * 5000,
]


def mutated(chance: random.Random, seed: bytes) -> bytes:
    """Damage a message in one to four places."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            data[at:at] = chance.choice(PIECES)
        elif kind == 1:
            del data[at : at + chance.randint(1, 8)]
        elif kind == 2 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 3:
            data[at:at] = data[at : at + chance.randint(1, 60)]
        elif kind == 4:
            del data[at:]
        else:
            end = at + chance.randint(1, 20)
            data[at:end] = data[at:end].swapcase()
        if not data:
            break
    return bytes(data)


class Outcome:
    """A gateway in this process, our proxy in one of its own."""

    def __init__(self, gateway: HostileGateway, process: subprocess.Popen[bytes], port: int) -> None:
        self.gateway = gateway
        self.process = process
        self.port = port
        self.response = RESPONSES[0]
        self.base_mb = 0.0

    def script(self, conversation: Conversation) -> None:
        while conversation.head():
            conversation.send(self.response)
            if self.response is not RESPONSES[0]:
                break
        conversation.close()

    def exchange(self, request: bytes) -> bytes:
        """Send a request, close our side behind it, return all that comes back."""
        with Client(self.port) as client:
            client.send(request)
            client.sock.settimeout(0.02)
            response = b""
            while True:
                try:
                    data = client.receive()
                except TimeoutError:  # it waits for more, or stays open: either way we leave
                    client.sock.settimeout(10)
                    with contextlib.suppress(OSError):
                        client.sock.shutdown(socket.SHUT_WR)
                    continue
                if not data:
                    return response
                response += data

    def good(self) -> bytes:
        return self.filled(REQUESTS[0]).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def filled(self, request: bytes) -> bytes:
        return request.replace(b"PORT", b"%d" % self.port).replace(b"KEY", KEY.encode())

    def tidy(self, count: int) -> None:
        """Forget what the fake remembers, and note the proxy's size once it is warm."""
        self.gateway.heads.clear()
        self.gateway.bodies.clear()
        if count == WARM_UP:
            self.base_mb = memory_mb(self.process.pid)

    def finish(self) -> None:
        """Check that the proxy is alive and well, and has not grown."""
        self.response = RESPONSES[0]
        assert self.exchange(self.good())[:15] in (b"", b"HTTP/1.1 200 OK")
        with Client(self.port) as client:
            client.send(self.good())
            assert client.everything().startswith(b"HTTP/1.1 200 OK")
        grown = memory_mb(self.process.pid) - self.base_mb
        print(f"grew by {grown:.1f} MB")
        assert grown < 20
        self.process.terminate()
        told = self.process.stderr.read().decode() if self.process.stderr else ""
        assert not re.search("Traceback|defect|Error", told), told
        assert TOKEN.decode() not in told


@contextmanager
def outcome() -> Iterator[Outcome]:
    holder: list[Outcome] = []
    with HostileGateway(lambda conversation: holder[0].script(conversation)) as gateway:
        command = [sys.executable, "-m", "tests.bench.serve", "0", gateway.url, CA]
        with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                holder.append(Outcome(gateway, process, int(process.stdout.readline())))
                yield holder[0]
            finally:
                process.kill()


def test_damaged_requests() -> None:
    chance = random.Random(1)
    with outcome() as found:
        for count in range(COUNT // 2):
            request = mutated(chance, found.filled(chance.choice(REQUESTS)))
            response = found.exchange(request)
            assert TOKEN not in response, request
            assert response == b"" or response.startswith(b"HTTP/1.1 "), request
            found.tidy(count)
        found.finish()


def test_damaged_responses() -> None:
    chance = random.Random(2)
    with outcome() as found:
        for count in range(COUNT // 2):
            found.response = mutated(chance, chance.choice(RESPONSES))
            request = found.good()
            response = found.exchange(request)
            assert TOKEN not in response, found.response
            assert response == b"" or response.startswith(b"HTTP/1.1 "), found.response
            found.tidy(count)
        found.finish()
