"""Logging in by every way there is, at a certified provider, over TLS with a private authority."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.machine import Machine, NewMachine
from tests.e2e.npm_provider import NpmProvider
from tests.e2e.scripted_browser import Browser
from tests.e2e.webdriver import Chromium
from tests.fakes.connect_proxy import ConnectProxy

WAIT_S = 60.0
URL = r"https://\S+\?\S+(?=\s)"


@pytest.fixture
def machine(new_machine: NewMachine) -> Machine:
    """A machine that knows gateway and provider, and has no session."""
    machine = new_machine(keyring=True)
    machine.thv("config", "set", *machine.connection())
    return machine


def assert_logged_in(machine: Machine) -> None:
    assert machine.provider.verify(machine.token())["sub"] == "dev"


class Running:
    """`thv-llm` at work, with what it has said so far; at a terminal or not."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.said = ""

    def hear(self, pattern: str) -> str:
        """Wait until it has said something; return that."""
        deadline = time.monotonic() + WAIT_S
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.said}"
            self._read(deadline)
        self.said = self.said[found.end() :]
        return found[0]

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        code = self.process.wait(WAIT_S)
        while select.select([self._descriptor], [], [], 0)[0] and self._read(time.monotonic()):
            pass
        return code

    def type(self, line: str) -> None:
        """Type one line at its terminal."""
        os.write(self._descriptor, line.encode() + b"\n")

    def _read(self, deadline: float) -> bool:
        if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        data = b""
        with contextlib.suppress(OSError):  # EIO: the other side of the terminal has ended
            data = os.read(self._descriptor, 65536)
        self.said += data.decode().replace("\r\n", "\n")
        return bool(data)


@contextlib.contextmanager
def running(machine: Machine, *arguments: str, terminal: bool = False, **env: str) -> Iterator[Running]:
    ours, its = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        ["thv-llm", *arguments],
        executable=str(machine.commands / "thv-llm"),
        env={**machine.environ, **env},
        cwd=machine.project,
        stdin=its if terminal else subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    try:
        yield Running(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_by_a_real_browser(machine: Machine) -> None:
    handed_over = machine.place / "url"
    machine.command("browser", f'#!/bin/sh\nprintf %s "$1" > "{handed_over}"\n')
    with Chromium() as chromium, running(machine, "login") as login:
        url = login.hear(URL)
        assert handed_over.read_text() == url
        chromium.open(url)
        chromium.type("[name=login]", "dev")
        chromium.type("[name=password]", "secret")
        chromium.click("button[type=submit]")
        for _ in range(2):  # consent to the client, then to a session that lasts
            chromium.wait_for("Continue")
            chromium.click("button[type=submit]")
        shown = chromium.wait_for("You can close this window")

        assert "127.0.0.1" in shown
        assert login.end() == 0, login.said
        assert chromium.run("return [...document.querySelectorAll('script,img,link')].length") == 0

    assert_logged_in(machine)


def test_by_an_address_that_is_pasted_at_the_terminal(machine: Machine) -> None:
    elsewhere = Browser(machine.provider.ca_file, stops_at="http://127.0.0.1")
    with running(machine, "login", "--skip-browser", terminal=True) as login:
        for _ in range(2):  # the second for the consent that the first did not ask for
            end = elsewhere.visit(login.hear(URL)).url
            assert end.startswith("http://127.0.0.1:")
            login.type(end)
        assert login.end() == 0, login.said

    assert not (machine.place / "visited").exists()
    assert_logged_in(machine)


def test_by_a_code_on_another_device(machine: Machine, provider: NpmProvider) -> None:
    devices = provider.seen()["devices"]
    with running(machine, "login", "--device-code") as login:
        url = login.hear(r"https://\S+user_code=\S+(?=\s)")
        page = Browser(provider.ca_file).visit(url)
        assert "Sign-in Success" in page.text
        assert login.end() == 0, login.said

    assert provider.seen()["devices"] == devices + 1
    assert_logged_in(machine)


def test_through_a_proxy_that_asks_for_a_password(machine: Machine) -> None:
    with ConnectProxy("me", "s3cret-of-the-proxy") as proxy:
        machine.environ["HTTPS_PROXY"] = proxy.url
        said = machine.thv("login").err

        assert_logged_in(machine)
        provider = machine.provider.issuer.removeprefix("https://")
        assert provider in proxy.targets
        assert all("s3cret" not in text for text in (said, (machine.place / "visited").read_text()))

        machine.environ["HTTPS_PROXY"] = proxy.bare_url
        refused = machine.thv("login", "--force", fails=True)
        assert refused.code == 6, refused.said
        assert "407" in refused.err or "password" in refused.err, refused.said


def test_in_silence_when_the_session_is_good(machine: Machine) -> None:
    machine.thv("login")
    visits = (machine.place / "visited").read_text()

    assert "Already logged in" in machine.thv("login").err
    assert (machine.place / "visited").read_text() == visits


def test_the_refusal_of_a_user_is_said_and_leaves_no_session(machine: Machine) -> None:
    machine.command("browser", "#!/bin/sh\nexit 0\n")
    with running(machine, "login") as login:
        url = login.hear(URL)
        Browser(machine.provider.ca_file).refuse(url)
        assert login.end() == 1, login.said
        assert "access_denied" in login.said
    assert machine.thv("token", fails=True).code == 4
