from __future__ import annotations

import json
from dataclasses import replace

from tests.checks.finding import faults, wire
from tests.service.lab import Lab
from thv_llm import state
from thv_llm.errors import ExitCode


def test_nothing_is_wrong_where_everything_works(lab: Lab) -> None:
    wire(lab, "claude-code")
    lab.start(proxy=True)

    assert faults(lab) == []
    done = lab.run("doctor")
    assert done.code is ExitCode.DONE
    assert done.out.endswith("\nAll is well.\n")
    assert done.err == ""


def test_a_failure_is_shown_with_its_command_and_an_exit_code(lab: Lab) -> None:
    lab.log_out()
    done = lab.run("doctor")

    assert done.code is ExitCode.FAILED
    assert "FAIL  session       there is none\n              next: thv-llm login\n" in done.out
    assert done.out.endswith("1 failure and 1 warning.\n")
    assert all(len(line) <= 80 or "/" in line for line in done.out.splitlines())


def test_json_says_the_same(lab: Lab) -> None:
    lab.log_out()
    document = json.loads(lab.run("doctor", "--format", "json").out)

    assert document["failed"] == 1
    assert {
        "level": "fail",
        "name": "session",
        "reason": "there is none",
        "remedy": "thv-llm login",
    } in document["checks"]


def test_colour_only_on_a_terminal(lab: Lab) -> None:
    lab.log_out()
    assert "\x1b" not in lab.run("doctor").out
    lab.home = replace(lab.home, is_terminal=True)
    assert "\x1b[31mFAIL" in lab.run("doctor").out


def test_it_writes_no_secret_anywhere(lab: Lab) -> None:
    lab.start()
    token = tokens_seen(lab)
    done = lab.run("doctor", "--format", "json")
    secrets = [*token, state.local_key(lab.paths).reveal()]

    assert [secret for secret in secrets if secret in done.out + done.err + lab.log()] == []


def tokens_seen(lab: Lab) -> list[str]:
    lab.get("/v1/models")
    return [
        value.partition(" ")[2]
        for request in lab.gateway.requests
        for name, value in request.headers
        if name.lower() == "authorization"
    ]
