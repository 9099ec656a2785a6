"""The last page of a login, as a real browser draws it: styled, by a policy that allows nothing else."""

from __future__ import annotations

import shutil
import struct
import subprocess
import threading
import zlib
from pathlib import Path

import pytest

from tests.fakes.provider import FakeProvider
from tests.oidc.client import Client
from thv_llm.oidc.interaction import Interaction

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--window-size=900,560",
)


def first_pixel(png: bytes) -> str:
    """Return the color of the upper left corner, which no PNG filter changes."""
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return "#" + zlib.decompress(data)[1:4].hex()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(("scheme", "ground"), [("light", "#f4f5f7"), ("dark", "#0d1117")])
def test_a_login_by_chromium_ends_at_a_page_in_the_users_colors(
    tmp_path: Path, scheme: str, ground: str
) -> None:
    picture = tmp_path / "page.png"
    threads: list[threading.Thread] = []

    def browse(url: str) -> None:
        command = [
            *(str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"),
            *(f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", url),
        ]
        subprocess.run(command, capture_output=True, timeout=60, check=True)

    def open_browser(url: str) -> bool:
        threads.append(threading.Thread(target=browse, args=(url,)))
        threads[0].start()
        return True

    with FakeProvider(tls=False) as provider:
        client = Client(provider)
        result = client.login(interaction=Interaction(client.said.append, open_browser))
        threads[0].join()

    assert result.subject == "user-1"
    assert first_pixel(picture.read_bytes()) == ground
