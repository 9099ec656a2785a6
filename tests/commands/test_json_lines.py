"""`--format json` of what acts: a program that knows nothing else drives a whole setup by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.homes import Run
from tests.commands.machine import Machine
from thv_llm import cli
from thv_llm.errors import ExitCode


def events(done: Run) -> list[dict[str, Any]]:
    """Return the lines of stdout, each a JSON object of the schema; the last one is the result."""
    found = [json.loads(line) for line in done.out.splitlines()]
    assert all(one["schema"] == 1 for one in found)
    assert [one["event"] for one in found].count("result") == 1
    assert found[-1]["event"] == "result"
    assert found[-1]["exit_code"] == done.code
    assert found[-1]["ok"] is (done.code == 0)
    assert (found[-1]["error"] is None) or not found[-1]["ok"]
    return found


def test_a_program_that_knows_only_the_json_sets_up_logs_in_and_tears_down(here: Machine) -> None:
    opened: list[str] = []
    before = here.snapshot()
    here.open_browser = lambda url: False

    class Reader(threading.Thread):
        """Opens each URL as soon as its line is there."""

        def run(self) -> None:
            here.browser.open(opened[-1])

    class Seen:
        """What a program sees of stdout, a line at a time."""

        def __call__(self, line: str) -> None:
            found = json.loads(line)
            if found["event"] == "login":
                opened.append(found["url"])
                Reader().start()

    lines = Seen()
    done = run_read(here, lines, "setup", *here.connection, "--no-service", "--yes", "--format", "json")
    first, result = events(done)[0], events(done)[-1]
    assert first["event"] == "login"
    assert first["url"].startswith(here.provider.issuer)
    assert {tool["tool"]: tool["result"] for tool in result["tools"]} == {
        "claude-code": "configured",
        "opencode": "configured",
    }
    assert all(Path(file).exists() for tool in result["tools"] for file in tool["files"])
    assert result["settings"] == here.paths.settings
    assert result["session"]["is_new"] is True
    assert isinstance(result["left_to_do"], list)

    done = run_read(here, lines, "login", "--force", "--format=json")
    assert [one["event"] for one in events(done)] == ["login", "result"]
    assert len(opened) == 2
    assert events(here.run("login", "--format", "json"))[-1]["session"]["is_new"] is False

    result = events(here.run("teardown", "--format", "json"))[-1]
    assert {(file["tool"], file["result"]) for file in result["files"]} == {
        ("claude-code", "restored"),
        ("opencode", "restored"),
    }
    assert here.snapshot() == before

    (session,) = events(here.run("logout", "--format", "json"))[-1]["sessions"]
    assert (session["issuer"], session["revoked"], session["reason"]) == (here.provider.issuer, True, None)
    assert events(here.run("logout", "--format", "json"))[-1]["sessions"] == []
    removed = events(here.run("uninstall", "--yes", "--format", "json"))[-1]["removed"]
    assert here.paths.settings in {one["path"] for one in removed}


def run_read(here: Machine, lines: Any, *words: str) -> Run:
    """Run a command whose stdout is read line by line while it runs."""
    from tests.commands import homes
    from thv_llm.context import Context

    class Stdout(homes.Stream):
        def write(self, text: str) -> int:
            if text.strip():
                lines(text)
            return super().write(text)

    stdout, stderr = Stdout(), homes.Stream(is_terminal=True)
    context = Context(
        environ=here.environ,
        stdin=homes.Stream(is_terminal=True),
        stdout=stdout,
        stderr=stderr,
        open_browser=here.open_browser,
        platform="linux",
    )
    code = cli.bounded(list(words), context)
    return homes.ran(words, ExitCode(code), stdout, stderr)


def test_a_code_for_another_device_is_in_the_event(here: Machine) -> None:
    done = here.setup("--device-code", "--yes", "--format", "json")

    first = events(done)[0]
    assert first["event"] == "login"
    assert first["user_code"] in done.err
    assert first["url"] in done.err
    assert first["expires_in"] > 0


@pytest.mark.parametrize("verb", ["setup", "uninstall"])
def test_a_question_is_a_wrong_command_line_also_at_a_terminal(here: Machine, verb: str) -> None:
    words = here.connection if verb == "setup" else []

    done = here.run(verb, *words, "--format", "json", is_terminal=True, stdin="y\n")

    result = events(done)[-1]
    assert done.code == ExitCode.USAGE
    assert result["error"]["next"] == "add --yes"
    assert here.wired == []


def wrong(here: Machine) -> Iterator[tuple[list[str], ExitCode]]:
    yield ["login", "--format", "json"], ExitCode.NOT_CONFIGURED
    yield ["setup", "--format", "json", "--nonsense"], ExitCode.USAGE
    yield ["setup", "--format=json", "--gateway-url", "http://x"], ExitCode.USAGE
    yield ["teardown", "nonsense", "--format", "json"], ExitCode.USAGE


def test_every_failure_is_a_result_with_its_three_parts(here: Machine) -> None:
    for words, code in wrong(here):
        done = here.run(*words)
        (result,) = events(done)
        assert done.code == code, done.err
        assert result["error"]["what"] in done.err
        assert result["error"].keys() == {"what", "why", "next"}
        assert result["command"] == words[0]


def test_what_is_skipped_has_its_reason_and_its_remedy(here: Machine) -> None:
    here.write(here.opencode, "{ broken")

    tools = {tool["tool"]: tool for tool in events(here.setup("--yes", "--format", "json"))[-1]["tools"]}

    assert tools["claude-code"]["result"] == "configured"
    assert tools["opencode"]["result"] == "skipped"
    assert "opencode.jsonc:1:3" in tools["opencode"]["reason"]


def test_a_dry_run_has_the_diffs_in_its_result(here: Machine) -> None:
    (result,) = events(here.setup("--dry-run", "--format", "json"))
    assert {change["tool"] for change in result["changes"]} == {"claude-code", "opencode"}
    assert "+++" in result["changes"][0]["diff"]

    here.setup("--yes")
    (result,) = events(here.run("teardown", "--dry-run", "--format", "json"))
    assert "+++" in result["changes"][0]["diff"]


def test_without_json_nothing_of_it_is_on_stdout(here: Machine) -> None:
    assert here.setup("--yes").out == ""
    assert here.run("teardown").out == ""
