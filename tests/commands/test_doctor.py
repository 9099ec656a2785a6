from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from tests.checks.finding import connection, faults, wire
from tests.service.lab import Lab
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
    assert "FAIL  session       not logged in\n              next: thv-llm login\n" in done.out
    assert done.out.endswith("1 failure and 1 warning.\n")
    assert all(len(line) <= 80 or "/" in line for line in done.out.splitlines())


def test_a_variable_of_ours_that_means_nothing_is_named_with_the_nearest_one(lab: Lab) -> None:
    wire(lab, "claude-code")
    names = {"THV_LLM_ISSUER": "https://id.example", "THV_LLM_OIDC_CLIENTID": "x", "THV_LLM_PASSPHRASE": ""}

    found = {one.next_step: one.reason for one in faults(lab, **names) if one.name == "environment"}

    assert found == {
        "unset THV_LLM_ISSUER": "THV_LLM_ISSUER is not a setting. Did you mean `THV_LLM_OIDC_ISSUER`?",
        "unset THV_LLM_OIDC_CLIENTID": "THV_LLM_OIDC_CLIENTID is not a setting."
        " Did you mean `THV_LLM_OIDC_CLIENT_ID`?",
    }


def test_json_says_the_same(lab: Lab) -> None:
    lab.log_out()
    document = json.loads(lab.run("doctor", "--format", "json").out)

    assert document["failed"] == 1
    assert {
        "level": "fail",
        "name": "session",
        "reason": "not logged in",
        "remedy": "thv-llm login",
        "command": ["thv-llm", "login"],
        "fix": None,
    } in document["checks"]


def test_fix_runs_what_needs_no_user_and_checks_again(lab: Lab) -> None:
    claude, opencode = wire(lab, "claude-code"), wire(lab, "opencode")
    lab.want()
    opencode.unlink()
    os.unlink(lab.paths.helper)
    os.chmod(lab.paths.state, 0o644)
    assert {check.name for check in faults(lab)} == {"files", "service", "helper", "opencode"}

    done = lab.run("doctor", "--fix")

    assert done.code is ExitCode.DONE, done.out + done.err
    assert "Will run:\n  chmod go= " in done.err
    once = "thv-llm setup --yes --lazy --client claude-code --client opencode\n"
    assert [line for line in done.err.splitlines(keepends=True) if " setup " in line] == [
        f"  {once}",
        f"$ {once}",
    ]
    assert done.out.endswith("\nAll is well.\n")
    assert faults(lab) == []
    assert str(lab.port) in opencode.read_text()
    assert "apiKeyHelper" in claude.read_text()


def test_fix_leaves_to_the_user_what_is_the_users(lab: Lab) -> None:
    claude = wire(lab, "claude-code")
    claude.write_text('{"apiKeyHelper": "/my/own"}')
    lab.home.configure(tls_skip_verify=True, **connection(lab))
    lab.log_out()
    os.unlink(lab.paths.helper)
    before = {path: path.read_bytes() for path in (claude, Path(lab.paths.settings))}
    document = json.loads(lab.run("doctor", "--fix", "--format", "json").out)

    assert document["ran"] == []
    assert {one["name"] for one in document["checks"] if one["level"] == "fail"} == {
        "session",
        "helper",
        "claude-code",
    }
    assert {path: path.read_bytes() for path in before} == before


def test_color_only_on_a_terminal(lab: Lab) -> None:
    lab.log_out()
    assert "\x1b" not in lab.run("doctor").out
    lab.home = replace(lab.home, is_terminal=True)
    assert "\x1b[31mFAIL" in lab.run("doctor").out


def test_it_writes_no_secret_anywhere(lab: Lab) -> None:
    lab.start()
    token = tokens_seen(lab)
    done = lab.run("doctor", "--format", "json")
    secrets = [*token, lab.key()]

    assert [secret for secret in secrets if secret in done.out + done.err + lab.log()] == []


def tokens_seen(lab: Lab) -> list[str]:
    lab.get("/v1/models")
    return [
        value.partition(" ")[2]
        for request in lab.gateway.requests
        for name, value in request.headers
        if name.lower() == "authorization"
    ]
