from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checks.finding import connection, wire
from tests.commands import homes
from tests.fakes.gateway import Fault
from tests.fakes.web import ServerResponse
from tests.service.lab import Lab, until
from thv_llm import paths, state
from thv_llm.errors import ExitCode, LoginRequiredError, UnreachableError
from thv_llm.service import agent_protocol, background, helper
from thv_llm.sessions import Sessions

STATUS_BARE_PYTHONS = 11
"""The processor time that the command may take, in starts of a Python that does nothing."""


def test_everything_is_on_one_screen(lab: Lab) -> None:
    wire(lab, "claude-code")
    pid = lab.start().record.pid
    lab.get("/v1/models")
    lab.until_counted(1)
    done = lab.run("status")
    out = re.sub("expires in (59 min( 59 s)?|1 h)", "expires in an hour", done.out)

    assert done.code is ExitCode.DONE
    assert out.splitlines() == [
        f"gateway   {lab.gateway.url}",
        f"          provider {lab.provider.issuer}",
        "session   dev@example.com, logged in 0 s ago",
        "          kept in the encrypted file llm-session.enc",
        "          access token expires in an hour",
        f"service   started 0 s ago (pid {pid}, proxy on http://127.0.0.1:{lab.port})",
        "          requests 1 total, 1 ok",
        "tools     claude-code  direct  ok       ~/.claude/settings.json",
    ]


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    document = json.loads(homes.make(tmp_path).run("status", "--format", "json").out)

    assert document["gateway"] == {"url": None, "issuer": None, "client_id": None}
    assert document["session"].pop("exists") is False
    assert set(document["session"].values()) == {None}


def test_a_keyring_that_was_not_looked_into_is_told_with_an_age(lab: Lab) -> None:
    latest = state.load(lab.paths.state).sessions.latest._replace(store="secret-service")
    lab.change(sessions=Sessions(latest._replace(logged_in_at=lab.home.now - 180)))
    assert (
        "\n          stored in the Secret Service (your desktop's keyring) 3 min ago\n"
        in lab.run("status").out
    )

    lab.change(sessions=Sessions(latest._replace(logged_in_at=lab.home.now + 1e8)))
    assert "keyring) (this clock was set back since)\n" in lab.run("status").out

    lab.change(sessions=Sessions(latest._replace(logged_in_at=None)))  # the record of the login was lost
    assert "keyring) at an unknown time\n" in lab.run("status").out


def test_it_sends_no_request_over_the_network(lab: Lab) -> None:
    lab.provider.close()
    lab.gateway.close()

    assert lab.run("status").code is ExitCode.DONE


def test_its_exit_code_tells_scripts_what_is_missing(lab: Lab, tmp_path: Path) -> None:
    assert homes.make(tmp_path / "empty").run("status").code is ExitCode.NOT_CONFIGURED
    lab.want()
    assert lab.run("status").code is ExitCode.FAILED
    lab.log_out()
    assert lab.run("status").code is ExitCode.LOGIN_REQUIRED


def test_with_check_it_sends_requests_to_provider_and_gateway(lab: Lab) -> None:
    done = lab.run("status", "--check")
    assert done.code is ExitCode.DONE
    assert f"gateway   ok: {lab.gateway.url} accepts the token (HTTP 200), rejects" in done.out

    lab.gateway.close()
    done = lab.run("status", "--check")
    assert done.code is ExitCode.FAILED
    assert f"gateway   FAIL: cannot reach the gateway at {lab.gateway.url}" in done.out


def test_a_new_user_is_told_what_to_type(tmp_path: Path) -> None:
    out = homes.make(tmp_path).run("status").out

    assert "gateway   thv-llm is not configured\n            next: thv-llm setup URL (the gateway's)" in out
    assert "session   not logged in\nservice   " in out  # a login needs the settings first
    assert "service   not running" in out
    assert "tools     none configured\n            next: thv-llm setup" in out


def test_a_session_that_the_provider_ended_is_none_and_why_is_said(lab: Lab) -> None:
    lab.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})
    with pytest.raises(LoginRequiredError):
        lab.run("token")

    out = lab.run("status").out
    assert "session   not logged in: the stored session has ended (invalid_grant)\n" in out
    assert "next: thv-llm login\n" in out
    assert json.loads(lab.run("status", "--format", "json").out)["session"]["exists"] is False


def test_a_session_is_seen_whose_record_is_lost(lab: Lab) -> None:
    os.unlink(lab.paths.state)
    done = lab.run("status")

    assert "session   name unknown\n          kept in the encrypted file llm-session.enc\n" in done.out
    assert done.code is ExitCode.DONE
    lab.log_out()
    assert "session   not logged in\n" in lab.run("status").out


def test_a_session_whose_provider_wants_its_user_needs_a_login(lab: Lab) -> None:
    lab.provider.alter["refresh"] = lambda _: ServerResponse(400, {"error": "interaction_required"})
    with pytest.raises(LoginRequiredError):
        lab.run("token")

    assert lab.run("status").code is ExitCode.LOGIN_REQUIRED


def test_a_changed_tool_is_named_with_its_keys(lab: Lab) -> None:
    path = wire(lab, "claude-code")
    path.write_text("{}")
    out = lab.run("status").out

    assert "claude-code  direct  changed  ~/.claude/settings.json" in out
    assert "/apiKeyHelper" in out
    assert "next: thv-llm setup --client claude-code" in out


def test_a_service_that_should_run_is_missed(lab: Lab) -> None:
    lab.want()

    assert "not running, though tools need it" in lab.run("status").out


def test_tools_that_need_a_stopped_proxy_are_not_ok(lab: Lab) -> None:
    wire(lab, "opencode")
    wire(lab, "claude-code")
    lab.start()
    assert lab.run("status").code is ExitCode.DONE
    lab.run("proxy", "stop")
    done = lab.run("status")

    assert done.code is ExitCode.FAILED
    assert "service   not running\n            next: thv-llm proxy start --background\n" in done.out
    assert "opencode     proxy   stopped" in done.out
    assert "claude-code  direct  ok" in done.out


def test_an_outdated_service_is_named(lab: Lab) -> None:
    lab.start()
    lab.home.configure(models=("m-1",), **connection(lab))

    out = lab.run("status").out

    assert "the settings changed since it started\n            next: thv-llm setup" in out


def test_a_token_that_does_not_exist_is_not_shown(lab: Lab) -> None:
    """The state file says when a token expired that was lost with the service."""
    assert "access token" not in lab.run("status").out
    lab.provider.alter["refresh"] = lambda _: ServerResponse(status=503)
    lab.start(proxy=False)
    until(lambda: background.facts(lab.paths)["refresh_failed"])
    done = lab.run("status")

    assert "no access token; the last refresh failed 0 s ago: " in done.out
    assert "503" in done.out
    assert done.code is ExitCode.FAILED
    document = json.loads(lab.run("status", "--format", "json").out)
    assert document["session"]["token_expires_at"] is None
    assert "503" in document["session"]["refresh_failed"]["why"]


def test_a_failure_without_a_service_is_told_with_its_age(lab: Lab) -> None:
    lab.provider.alter["refresh"] = lambda _: ServerResponse(status=503)
    with pytest.raises(UnreachableError):
        lab.run("token")
    lab.home = replace(lab.home, now=time.time() + 90)

    assert "the last refresh failed 1 min 30 s ago: " in lab.run("status").out


def test_the_end_of_the_session_is_told_and_what_to_do_a_day_ahead(lab: Lab) -> None:
    assert "session ends" not in lab.run("status").out
    lab.ends_in(7 * 86400 + 60)
    assert "session ends in 7 days" in lab.run("status").out
    assert "login --force" not in lab.run("status").out
    lab.ends_in(7260)

    done = lab.run("status")

    assert "session ends in 2 h" in done.out
    assert "next: thv-llm login --force" in done.out
    assert done.code is ExitCode.DONE
    assert json.loads(lab.run("status", "--format", "json").out)["session"]["ends_at"] > time.time()


def test_a_locked_store_is_told(lab: Lab) -> None:
    os.unlink(lab.paths.session_file_key)
    lab.start(proxy=False)
    until(lambda: background.facts(lab.paths)["refresh_failed"])

    assert "no access token; the last refresh failed" in lab.run("status").out


def test_a_clock_that_was_set_back_makes_no_token_last_for_years(lab: Lab) -> None:
    lab.home = replace(lab.home, now=time.time() - 20 * 365 * 86400)
    lab.start(proxy=False)
    lab.until_it_has_a_token()
    out = lab.run("status").out

    assert "days" not in out
    assert "ago" not in out


def test_errors_are_not_counted_as_served(lab: Lab) -> None:
    lab.start()
    lab.gateway.fault = lambda _: Fault(500)
    for _ in range(3):
        lab.get("/v1/models")
    lab.get("/v1/models", key="wrong")
    lab.until_counted(4)

    assert "requests 4 total, 3 gateway errors, 1 rejected by the proxy" in lab.run("status").out


def test_json_is_stable_and_free_of_secrets(lab: Lab) -> None:
    wire(lab, "opencode")
    lab.start()
    out = lab.run("status", "--format", "json").out
    document = json.loads(out)

    assert set(document) == {"gateway", "session", "service", "tools", "checks"}
    assert document["gateway"] == {
        "url": lab.gateway.url,
        "issuer": lab.provider.issuer,
        "client_id": "cli",
    }
    assert document["session"]["exists"] is True
    assert document["service"]["proxy_port"] == lab.port
    assert document["tools"][0]["tool"] == "opencode"
    assert lab.key("opencode") not in out


def test_json_of_a_new_user_is_complete_too(tmp_path: Path) -> None:
    document = json.loads(homes.make(tmp_path).run("status", "--format", "json").out)

    assert document["session"]["exists"] is False
    assert document["service"] == {"running": False}
    assert document["tools"] == []


@pytest.mark.posix
def test_it_is_there_at_once(lab: Lab) -> None:
    import resource  # which Windows has not

    def used(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=lab.environ, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    wire(lab, "claude-code")
    lab.start()
    times = [(used(*paths.own_command("status")), used(sys.executable, "-c", "pass")) for _ in range(5)]

    # In turn, as the speed of a machine changes with what else it does, even in processor time.
    ours, bare = (min(column) for column in zip(*times, strict=True))
    assert ours < STATUS_BARE_PYTHONS * bare


def test_each_tool_has_its_last_request_and_its_last_error(lab: Lab) -> None:
    for tool in ("opencode", "gemini-cli", "claude-code", "claude-desktop"):
        wire(lab, tool)
    lab.start()
    began = time.time()
    for _ in range(2):
        assert lab.get("/v1/models", key=lab.key("opencode"))[0] == 200
    assert lab.get("/v1/\x7fmodels".replace("\x7f", "%7f"), key=lab.key("opencode"))[0] == 400
    command = [lab.paths.helper, "--tool", "claude-code"]
    helper.write(lab.paths)
    assert subprocess.run(command, env=lab.environ, capture_output=True, check=True).stdout
    lab.until_counted(3)

    document = json.loads(lab.run("status", "--format", "json").out)
    seen = {tool.pop("tool"): tool for tool in document["tools"]}
    text = lab.run("status").out

    assert began - 1 < seen["opencode"]["last_request"] < time.time() + 1
    assert seen["opencode"]["requests_today"] == 3
    assert seen["opencode"]["last_error"]["status"] == 400
    assert "control byte" in seen["opencode"]["last_error"]["reason"]
    assert began - 1 < seen["claude-code"]["last_request"] < time.time() + 1
    assert (seen["claude-code"]["requests_today"], seen["claude-code"]["last_error"]) == (1, None)
    assert (seen["gemini-cli"]["requests_today"], seen["gemini-cli"]["last_request"]) == (0, None)
    assert seen["claude-desktop"]["requests_today"] is None  # it takes no arguments
    assert "3 requests since the service started, the last one" in text
    assert "last error" in text
    assert "HTTP 400: control byte in the path" in text
    assert "1 request since the service started" in text

    of_service = json.loads(lab.run("proxy", "status", "--format", "json").out)["tools"]
    assert [(tool["tool"], tool["requests_today"]) for tool in of_service] == [
        ("claude-code", 1),
        ("opencode", 3),
    ]
    assert "HTTP 400: control byte in the path" in lab.run("proxy", "status").out
    assert "1 request since the service started" in lab.run("tools", "claude-code").out
    of_tool = json.loads(lab.run("tools", "opencode", "--format", "json").out)
    assert of_tool["last_error"]["status"] == 400

    lab.run("proxy", "stop")
    (stopped, *_) = json.loads(lab.run("status", "--format", "json").out)["tools"]
    assert (stopped["last_request"], stopped["requests_today"]) == (None, None)


def test_a_helper_that_gets_no_token_is_the_tools_last_error(lab: Lab) -> None:
    wire(lab, "claude-code")
    helper.write(lab.paths)
    lab.start(proxy=False)
    lab.until_it_has_a_token()
    lab.log_out()
    agent_protocol.call(lab.paths.socket, "forget", timeout_s=10)
    command = [lab.paths.helper, "--tool", "claude-code"]
    assert subprocess.run(command, env=lab.environ, capture_output=True, check=False).returncode == 4

    (tool,) = json.loads(lab.run("status", "--format", "json").out)["tools"]

    assert tool["last_error"]["status"] is None
    assert tool["last_error"]["reason"]
