"""No command says what it has not seen: each statement goes when what it is about goes, or has an age.

`STATEMENTS` is the walk: every line of `status` and of a doctor without findings is in it, by a pattern,
with what makes it untrue. `SELF` is what a process knows of itself, and an age is said in the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.states import table
from tests.states.site import Site, site
from tests.states.table import Step

SELF, AGE = "the process itself", " ago"


@dataclass(frozen=True)
class Statement:
    """A line, and what makes it untrue."""

    command: str
    pattern: str
    untrue: Step | str


def file_gone(name: str) -> Step:
    return lambda here: here.own(name).unlink()


def no_token(here: Site) -> None:
    here.failing("refresh", 503, b"")
    here.run("token")


def other_settings(here: Site) -> None:
    here.run("config", "set", "--gateway-url", "https://a.example", "--issuer", "https://b.example")


def stopped(here: Site) -> None:
    here.run("proxy", "stop")  # one that is killed can be started again by the doctor's own helper


def claude_changed(here: Site) -> None:
    here.machine.claude.write_text("{}")


def opencode_changed(here: Site) -> None:
    here.machine.opencode.write_text("{}")


def key_in_the_environment(here: Site) -> None:
    here.environ["ANTHROPIC_API_KEY"] = "x"


record_gone, helper_gone, session_gone = map(file_gone, ("state", "helper", "session_file"))
open_files = table.mode("state", 0o644)
broken_settings = table.edited_settings(lambda _: "x\n")
no_provider, late = table.pulled("to_provider"), table.skewed(7200)
denied = table.gateway_returns(403)

STATEMENTS = (
    Statement("status", r"gateway +https://127\.0\.0\.1:\d+", other_settings),
    Statement("status", r"provider https://127\.0\.0\.1:\d+", other_settings),
    Statement("status", r"session +dev@example.com, logged in \d.* ago", session_gone),
    Statement("status", r"kept in the encrypted file llm-session\.enc", session_gone),
    Statement("status", r"access token expires in \d.*", table.killed),
    Statement("status", r"service +started \d.* ago \(pid \d+, proxy on http://127\.0\.0\.1:\d+\)", AGE),
    Statement("status", r"service +started .*", table.killed),
    Statement("status", r"requests \d+ total.*", table.killed),
    Statement("status", r"(tools +)?claude-code +direct +ok .*", claude_changed),
    Statement("status", r"(tools +)?claude-code +direct +ok .*", helper_gone),
    Statement("status", r"(tools +)?opencode +proxy +ok .*", opencode_changed),
    Statement("status", r"(tools +)?opencode +proxy +ok .*", table.killed),
    Statement("status", r"\d+ requests? since the service started, the last one .* ago", AGE),
    Statement("doctor", r"ok +python +\d.*", SELF),
    Statement("doctor", r"ok +program +thv-llm .*", SELF),
    Statement("doctor", r"ok +files +.* is private", open_files),
    Statement("doctor", r"ok +state +2 tools configured", record_gone),
    Statement("doctor", r"ok +settings +.*", broken_settings),
    Statement("doctor", r"ok +provider +.* reachable, issuer matches", no_provider),
    Statement("doctor", r"ok +clock +agrees with the provider's", late),
    Statement("doctor", r"ok +session +dev@example.com, kept in .*", session_gone),
    Statement("doctor", r"ok +token +expires in \d+ min, .*", no_token),
    Statement("doctor", r"ok +gateway +.* accepts the token \(HTTP 200\), rejects .*\(HTTP 401\)", denied),
    Statement("doctor", r"ok +service +pid \d+, proxy on .*", table.killed),
    Statement("doctor", r"ok +port +\d+ is used by thv-llm", stopped),
    Statement("doctor", r"ok +helper +responds in \d+ ms", helper_gone),
    Statement("doctor", r"ok +claude-code +direct, .*", claude_changed),
    Statement("doctor", r"ok +opencode +proxy, .*", opencode_changed),
    Statement("doctor", r"ok +environment +nothing overrides .*", key_in_the_environment),
    Statement("doctor", r"All is well\.", denied),
)


def lines(here: Site, command: str) -> list[str]:
    """Return what a command says, a statement each: what is wrapped is one again."""
    if command == "status":
        return [line.strip() for line in here.run("status").out.splitlines()]
    told = [
        " ".join((check["level"], check["name"], *check["reason"].split()))
        for check in here.doctor()
        if check["level"] == "ok"
    ]
    verdict = here.run("doctor").out.splitlines()[-1]
    return [*told, verdict] if verdict == "All is well." else told


def said(here: Site, statement: Statement) -> list[str]:
    return [one for one in lines(here, statement.command) if re.fullmatch(statement.pattern, one)]


@pytest.fixture(scope="module")
def well() -> Iterator[Mapping[str, list[str]]]:
    """What is said where all is well, after a request."""
    with site() as here:
        table.skewed(0)(here)  # a provider that sends a date
        assert here.becomes_well() == []
        yield {command: lines(here, command) for command in ("status", "doctor")}


def test_every_line_is_in_the_walk(well: Mapping[str, list[str]]) -> None:
    def is_known(command: str, line: str) -> bool:
        return any(re.fullmatch(one.pattern, line) for one in STATEMENTS if one.command == command)

    unknown = [line for command, told in well.items() for line in told if not is_known(command, line)]

    assert unknown == []


@pytest.mark.parametrize(
    "untrue",
    dict.fromkeys(one.untrue for one in STATEMENTS if not isinstance(one.untrue, str)),
    ids=lambda step: str(step.__qualname__),
)
def test_a_statement_goes_with_what_it_is_about(
    untrue: Callable[[Site], object], well: Mapping[str, list[str]]
) -> None:
    about = [one for one in STATEMENTS if one.untrue is untrue]
    for one in about:
        assert any(re.fullmatch(one.pattern, line) for line in well[one.command]), one.pattern
    with site() as here:
        assert here.becomes_well() == []
        untrue(here)

        assert [line for one in about for line in said(here, one)] == []


def test_what_has_an_age_says_it() -> None:
    assert all(AGE in one.pattern for one in STATEMENTS if one.untrue == AGE)
