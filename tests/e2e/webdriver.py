"""A real browser: headless Chromium by chromedriver, over the few verbs of WebDriver that a login needs.

Source: W3C WebDriver, https://www.w3.org/TR/webdriver2/
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.web import TLS_DIRECTORY

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key that WebDriver gives to an element's id."""
WAIT_S = 60.0


class Chromium:
    """A browser with a new profile while the context lasts; it trusts the test server's key only."""

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            env={"HOME": self._profile.name, "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._driver.stdout
        for line in self._driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self._base = f"http://127.0.0.1:{found[1]}"
                break
        arguments = [
            *ARGUMENTS,
            f"--user-data-dir={self._profile.name}/profile",
            f"--ignore-certificate-errors-spki-list={_key_digest()}",
        ]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ask("DELETE", "")
        self._driver.terminate()
        self._driver.wait(20)
        assert self._driver.stdout
        self._driver.stdout.close()
        self._profile.cleanup()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=60
        ) as response:
            return json.load(response)["value"]

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """The address of the page."""
        found: str = self._ask("GET", "/url")
        return found

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script's `return` gives; a promise is waited for."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        """Return the text that the page shows."""
        found: str = self.run("return document.body ? document.body.innerText : ''")
        return found

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click on something that leads to another page, and wait until its address has changed."""
        before = self.url
        deadline = time.monotonic() + WAIT_S
        clicked = False
        while self.url == before:
            assert time.monotonic() < deadline, f"nothing happened at {before}"
            if not clicked:
                with contextlib.suppress(urllib.error.HTTPError):  # the page is being replaced just now
                    self._ask("POST", f"/element/{self._find(selector)}/click")
                    clicked = True
            time.sleep(0.05)

    def _find(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        element: str = found[ELEMENT]
        return element

    def wait_for(self, text: str) -> str:
        """Wait until the page shows a text; return all of the page's."""
        deadline = time.monotonic() + WAIT_S
        while text not in (shown := self.text()):
            assert time.monotonic() < deadline, f"{text!r} is not at {self.url}: {shown!r}"
            time.sleep(0.05)
        return shown

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the page."""
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))


def _key_digest() -> str:
    certificate = x509.load_pem_x509_certificate(Path(TLS_DIRECTORY, "server.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
