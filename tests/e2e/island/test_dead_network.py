"""A VPN that goes down in the middle of a stream: no packet comes through, and no error is reported."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.island import island
from tests.fakes.hostile_gateway import Conversation, responding
from tests.proxy.running import OK, running
from thv_llm.proxy.stats import Outcome

pytestmark = pytest.mark.root
"""A network of its own."""

GATEWAY = "llm.example.com"
ADDRESS = "203.0.113.2"
NOTICED_S = 120.0
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@contextlib.contextmanager
def swallowed() -> Iterator[None]:
    """Have every packet to the gateway, and from it, go where nothing comes back from."""
    for command in (
        "ip tuntap add dev vpn mode tun",  # which no program reads from
        "ip link set vpn up",
        f"ip route add unicast {ADDRESS}/32 dev vpn table local",
    ):
        subprocess.run(command.split(), check=True)
    yield
    subprocess.run(["ip", "link", "del", "vpn"], check=True)


def test_a_silent_stream_is_noticed_within_two_minutes() -> None:
    over = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(STREAM)
        over.wait(NOTICED_S + 60)

    with island({GATEWAY: ADDRESS}), running(script, host=GATEWAY) as run, run.connect() as client:
        client.sock.settimeout(NOTICED_S + 30)
        client.send(run.head())
        assert client.until(b"5\r\nhello\r\n").startswith(b"HTTP/1.1 200 OK")
        began = time.monotonic()
        with swallowed():
            rest = client.everything()
        took_s = time.monotonic() - began
        over.set()

        assert rest == b""  # cut, not complete
        assert 30 < took_s < NOTICED_S
        assert run.entry().outcome == Outcome.GATEWAY
        print(f"noticed after {took_s:.0f} s")


def test_a_request_that_does_not_arrive_is_noticed_within_two_minutes() -> None:
    with island({GATEWAY: ADDRESS}), running(responding(OK), host=GATEWAY) as run, run.connect() as client:
        client.sock.settimeout(NOTICED_S + 30)
        client.send(run.head())
        assert client.until(b"hi").startswith(b"HTTP/1.1 200 OK")
        began = time.monotonic()
        with swallowed():
            client.send(run.head("/v1/messages", method="POST", body=b"{}"))
            response = client.everything()
        took_s = time.monotonic() - began

        assert response.startswith(b"HTTP/1.1 504 ")
        assert b"what was sent has not arrived for 90 s" in response
        assert 30 < took_s < NOTICED_S
        print(f"noticed after {took_s:.0f} s")
