"""A tool that needs a login: who is told, how often, and never where it makes no sense."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.secret_service import FakeSecretService
from tests.fakes.web import ServerResponse
from tests.service.lab import Lab, patience_s, until
from thv_llm import paths
from thv_llm.service.on_demand import TEXT, TITLE, LoginOnDemand
from thv_llm.settings import OidcSettings, Settings

DESKTOP = {"DISPLAY": ":0"}
NOTIFY, BROWSER = Settings(), Settings(login_on_demand="browser")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[FakeSecretService]:
    directory = tmp_path / "b"
    directory.mkdir()
    with FakeSecretService(directory) as made:
        yield made


@pytest.fixture
def desktop(lab: Lab, bus: FakeSecretService) -> Lab:
    """A machine whose service was started from a desktop."""
    lab.environ.update(bus.environ | DESKTOP)
    lab.home = replace(lab.home, environ=lab.environ)
    return lab


def crowd(lab: Lab, count: int) -> list[tuple[float, int]]:
    """Have as many tools ask at once, half of them the helper; return each one's time and its end."""
    ended: list[tuple[float, int]] = []

    def ask(number: int) -> None:
        began = time.monotonic()
        if number % 2:
            done = subprocess.run(
                [lab.paths.helper], env=lab.environ, capture_output=True, check=False, timeout=30
            )
            assert b"thv-llm login" in done.stderr
            code = done.returncode
        else:
            code, body = lab.get("/v1/models")
            assert b"thv-llm login" in body
        ended.append((time.monotonic() - began, code))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def test_twenty_tools_at_once_cost_one_notification_and_one_request(
    desktop: Lab, bus: FakeSecretService
) -> None:
    desktop.start()
    desktop.until_it_has_a_token()
    desktop.provider.alter["refresh"] = lambda _: ServerResponse(400, {"error": "invalid_grant"})
    desktop.run("proxy", "restart")
    before = desktop.provider.count("refresh")

    ended = crowd(desktop, 20)
    until(lambda: bus.notices)
    crowd(desktop, 4)

    assert statistics.median(waited for waited, _ in ended) < patience_s(20)
    assert {code for _, code in ended} == {401, 4}
    assert bus.notices == [(TITLE, TEXT)]
    assert desktop.provider.count("refresh") - before <= 1
    assert "told the user" in desktop.log()


def test_a_service_that_starts_anew_does_not_repeat_it(desktop: Lab, bus: FakeSecretService) -> None:
    desktop.provider.alter["refresh"] = lambda _: ServerResponse(400, {"error": "interaction_required"})
    desktop.start()
    crowd(desktop, 2)
    until(lambda: bus.notices)
    desktop.run("proxy", "restart")
    crowd(desktop, 2)

    assert len(bus.notices) == 1


class Demand:
    """What would be done: notices, and programs that were started."""

    def __init__(self, where: paths.Paths) -> None:
        self.where = where
        self.done: list[str] = []

    def ask(self, environ: Mapping[str, str], wanted: Settings = NOTIFY, *, now: float = 0.0) -> int:
        """Ask, and return how often something was done by now."""
        clock = now or time.time()

        def show(*_: object) -> bool:
            self.done.append("notify")
            return True

        def start(words: list[str], _: object) -> None:
            self.done.append(words[-1])

        LoginOnDemand(
            self.where, wanted, environ, now=lambda: clock, platform="linux", show=show, start=start
        ).ask()
        for thread in threading.enumerate():
            if thread.name == "login-on-demand":
                thread.join()
        return len(self.done)


@pytest.fixture
def asked(lab: Lab) -> Demand:
    return Demand(lab.paths)


def test_at_most_once_in_ten_minutes(asked: Demand) -> None:
    now = time.time()

    assert asked.ask(DESKTOP) == 1
    assert asked.ask(DESKTOP, now=now + 590) == 1
    assert asked.ask(DESKTOP, now=now + 610) == 2
    assert asked.ask(DESKTOP, now=now - 86400) == 3  # the clock was set back


def test_browser_starts_a_login(asked: Demand) -> None:
    asked.ask({"WAYLAND_DISPLAY": "wayland-0"}, BROWSER)

    assert asked.done == ["login"]


@pytest.mark.parametrize(
    ("wanted", "environ"),
    [
        (Settings(login_on_demand="off"), DESKTOP),
        (NOTIFY, {}),
        (BROWSER, {"BROWSER": "lynx"}),
        (NOTIFY, {"CI": "true", **DESKTOP}),
        (BROWSER, {"CI": "true", **DESKTOP}),
        (Settings(oidc=OidcSettings(grant="client-credentials")), DESKTOP),
    ],
)
def test_there_is_no_notification_where_it_makes_no_sense(
    asked: Demand, wanted: Settings, environ: Mapping[str, str]
) -> None:
    assert asked.ask(environ, wanted) == 0


def test_after_a_logout_there_is_no_notification_until_the_next_login(asked: Demand, lab: Lab) -> None:
    lab.log_out()
    assert asked.ask(DESKTOP) == 0
    lab.log_in()
    assert asked.ask(DESKTOP) == 1


def test_a_full_disk_does_not_make_it_notify_again_and_again(asked: Demand, lab: Lab) -> None:
    os.mkdir(lab.paths.login_asked)
    os.utime(lab.paths.login_asked, (0, 0))

    assert asked.ask(DESKTOP) == 0


def test_a_desktop_that_shows_nothing_is_said_in_the_log(desktop: Lab, bus: FakeSecretService) -> None:
    bus.error_at["Notify"] = "org.freedesktop.DBus.Error.ServiceUnknown"
    desktop.log_out()
    desktop.log_in()
    desktop.provider.alter["refresh"] = lambda _: ServerResponse(400, {"error": "login_required"})
    desktop.start()
    crowd(desktop, 2)

    until(lambda: "could not be told (DBusErrorResponse)" in desktop.log())
