from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.machine import machine
from tests.fakes.web import ServerResponse
from tests.logged_in import LoggedIn

HTML = {"Content-Type": "text/html"}


def is_one_clear_error(text: str) -> bool:
    """What, why and next; no traceback, no control characters."""
    lines = text.splitlines()
    return (
        len(lines) <= 3
        and lines[0].startswith("thv-llm: error: ")
        and all(line.startswith(("  why:  ", "  next: ")) for line in lines[1:])
        and text.replace("\n", "").isprintable()
    )


def test_stdout_is_the_token_and_a_line_end(user: LoggedIn) -> None:
    done = user.token()

    assert re.fullmatch(r"[\x21-\x7e]+\n", done.stdout)
    assert (done.stderr, done.returncode) == ("", 0)
    assert user.provider.verify_access_token(done.stdout.strip())
    assert user.leaks() == []


def test_json_has_type_and_end(user: LoggedIn) -> None:
    printed = json.loads(user.token("--format", "json").stdout)

    assert set(printed) == {"access_token", "token_type", "expires_at"}
    assert printed["token_type"] == "Bearer"
    assert abs(printed["expires_at"] - time.time() - 3600) < 60
    assert user.provider.verify_access_token(printed["access_token"])


def test_a_new_token_can_be_forced(user: LoggedIn) -> None:
    found = [user.token().stdout, *(user.token("--force-refresh").stdout for _ in range(3))]

    assert len(set(found)) == 4
    assert user.provider.count("refresh") == 4


def test_several_who_force_a_new_token_at_once_share_it(user: LoggedIn) -> None:
    first = user.token().stdout
    user.provider.latency_s = 0.5

    started = [user.start(user.command("--force-refresh")) for _ in range(6)]
    found = {process.communicate(timeout=60) for process in started}

    assert len(found) == 1
    assert (first, "") not in found
    assert user.provider.count("refresh") == 2


def test_a_token_that_lives_long_enough_is_not_replaced(user: LoggedIn) -> None:
    user.provider.access_lifetime_s = 1000
    first = user.token().stdout

    assert user.token("--min-valid", "1").stdout == first
    assert user.token("--min-valid", "100000").stdout == first  # half of its life is enough


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "²"])
def test_a_nonsense_min_valid_is_a_usage_error(user: LoggedIn, value: str) -> None:
    done = user.token(f"--min-valid={value}")

    assert (done.stdout, done.returncode) == ("", 2)


@pytest.mark.parametrize(
    "response",
    [
        ServerResponse(status=500, body="<h1>oops", headers=HTML),
        ServerResponse(status=429, body={"error": "slow_down"}, headers={"Retry-After": "600"}),
        ServerResponse(status=401, body="<h1>proxy", headers=HTML),
        ServerResponse(status=200, body="<html>Wi-Fi", headers=HTML),
        ServerResponse(status=200, body=""),
        ServerResponse(status=200, body="\x00\x1b[31m{]"),
        ServerResponse(status=200, body={"access_token": "a\nb", "token_type": "Bearer"}),
    ],
    ids=["500", "429", "401-html", "portal", "nothing", "garbage", "bad-token"],
)
def test_a_provider_out_of_order_keeps_the_session_and_is_one_clear_error(
    user: LoggedIn, response: ServerResponse
) -> None:
    before = user.refresh_token
    user.provider.grants.rotates = False
    user.provider.alter["refresh"] = lambda _: response

    done = user.token()

    assert (done.stdout, done.returncode) == ("", 6)
    assert is_one_clear_error(done.stderr), done.stderr
    assert user.refresh_token == before
    user.provider.alter.clear()


def test_an_ended_session_is_one_clear_error_and_eleven_calls_cost_one_request(user: LoggedIn) -> None:
    user.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})

    for number in range(11):
        done = user.helper() if number % 2 else user.token()
        assert (done.stdout, done.returncode) == ("", 4)
        assert is_one_clear_error(done.stderr), done.stderr
        assert "invalid_grant" in done.stderr
        assert "thv-llm login" in done.stderr

    assert user.provider.count("refresh") <= 2


def test_a_broken_state_file_is_no_reason_to_have_no_token(user: LoggedIn) -> None:
    Path(user.paths.state).write_text("{broken")
    settings = Path(user.paths.settings)
    settings.write_text(settings.read_text().replace('token_store = "file"\n', ""))

    assert user.provider.verify_access_token(user.token().stdout.strip())
    assert user.is_alive


def test_without_settings_it_says_what_to_run(user: LoggedIn) -> None:
    os.unlink(user.paths.settings)

    done = user.token()

    assert (done.stdout, done.returncode) == ("", 5)
    assert is_one_clear_error(done.stderr), done.stderr


def test_a_broken_settings_file_is_said_with_its_place(user: LoggedIn) -> None:
    Path(user.paths.settings).write_text("gateway_url = \n")

    done = user.token()

    assert (done.stdout, done.returncode) == ("", 1)
    assert "line 1" in done.stderr or ":1" in done.stderr


@pytest.mark.parametrize("options", [(), ("--format", "json")])
@pytest.mark.parametrize("redirection", [">&-", "> /dev/full", ">&- 2>&-"])
def test_what_cannot_be_printed_is_an_error_without_a_traceback(
    user: LoggedIn, redirection: str, options: tuple[str, ...]
) -> None:
    if "full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")

    done = user.run(["/bin/sh", "-c", f'"$@" {redirection}', "sh", *user.command(*options)])

    assert done.returncode not in (0, 120)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--format", "json")])
def test_a_reader_that_has_gone_is_no_traceback(user: LoggedIn, options: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        user.command(*options),
        env=user.environ,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    assert done.returncode not in (0, 120)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--format", "json")])
def test_on_a_terminal_it_warns_of_the_scrollback(user: LoggedIn, options: tuple[str, ...]) -> None:
    controller, terminal = os.openpty()
    done = subprocess.run(
        user.command(*options),
        env=user.environ,
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(terminal)
    printed = os.read(controller, 10000)
    os.close(controller)

    assert done.returncode == 0
    assert b"ey" in printed
    assert "history of your terminal" in done.stderr


def test_nothing_is_read_from_stdin_and_no_browser_is_opened(user: LoggedIn) -> None:
    user.store.delete(user.key)

    done = user.token(BROWSER="touch opened-a-browser %s")

    assert done.returncode == 4
    assert not Path("opened-a-browser").exists()
    assert user.provider.count("authorize") == 0


def test_hostile_modules_around_it_are_not_imported(user: LoggedIn, tmp_path: Path) -> None:
    for name in ("json", "socket", "sitecustomize", "thv_llm", "keyring"):
        (tmp_path / f"{name}.py").write_text("print('owned')\n")

    done = subprocess.run(
        [sys.executable, *user.command()[2:]],  # without -I
        env={**user.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "owned" not in done.stdout.replace("owned\n", "", 1)  # sitecustomize runs before we do
    assert done.returncode == 0


def test_a_login_prints_the_token_that_it_brought(tmp_path: Path) -> None:
    with machine(tmp_path) as here:
        here.setup("--lazy", "--models", "m")

        done = here.run("token", "--login")

        assert here.provider.verify_access_token(done.out.strip())
        assert here.provider.count("refresh") == 0
