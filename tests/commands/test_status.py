from __future__ import annotations

import json
import re
import resource
import subprocess
from pathlib import Path

import pytest

from tests.checks.finding import connection, wire
from tests.commands import worlds
from tests.fakes.web import Answer
from tests.service.lab import Lab
from thv_llm import paths, sessions, state
from thv_llm.errors import ExitCode, LoginRequiredError

STATUS_MS = 200


def test_everything_is_on_one_screen(lab: Lab) -> None:
    wire(lab, "claude-code")
    pid = lab.start().record.pid
    lab.get("/v1/models")
    lab.until_counted(1)
    done = lab.run("status")
    out = re.sub("good for (59 min( 59 s)?|1 h)", "good for an hour", done.out)

    assert done.code is ExitCode.DONE
    assert out.splitlines() == [
        f"gateway   {lab.gateway.url}",
        f"          provider {lab.provider.issuer}",
        "session   dev@example.com, since 0 s",
        "          kept in the encrypted file llm-session.enc",
        "          token good for an hour",
        f"service   running for 0 s (pid {pid}, proxy on http://127.0.0.1:{lab.port})",
        "          1 served, 0 running, 0 refused by us",
        "tools     claude-code  direct  ok       ~/.claude/settings.json",
    ]


def test_it_asks_nobody_over_the_network(lab: Lab) -> None:
    lab.provider.close()
    lab.gateway.close()

    assert lab.run("status").code is ExitCode.DONE


def test_with_check_it_asks_provider_and_gateway(lab: Lab) -> None:
    done = lab.run("status", "--check")
    assert done.code is ExitCode.DONE
    assert f"gateway   ok: {lab.gateway.url} takes our token and refuses others" in done.out

    lab.gateway.close()
    done = lab.run("status", "--check")
    assert done.code is ExitCode.FAILED
    assert f"gateway   FAIL: no answer from {lab.gateway.url}" in done.out


def test_a_new_user_is_told_what_to_type(tmp_path: Path) -> None:
    out = worlds.make(tmp_path).run("status").out

    assert "gateway   thv-llm is not configured\n            next: thv-llm setup --gateway-url" in out
    assert "session   none\n            next: thv-llm login" in out
    assert "service   not running" in out
    assert "tools     none wired\n            next: thv-llm setup" in out


def test_a_session_that_the_provider_ended_is_none_and_why_is_said(lab: Lab) -> None:
    lab.provider.alter["refresh"] = lambda _: Answer(status=400, body={"error": "invalid_grant"})
    with pytest.raises(LoginRequiredError):
        lab.run("token")

    out = lab.run("status").out
    assert "session   none: the stored session has ended (invalid_grant)\n" in out
    assert "next: thv-llm login\n" in out
    assert json.loads(lab.run("status", "--format", "json").out)["session"]["exists"] is False


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


def test_an_outdated_service_is_named(lab: Lab) -> None:
    lab.start()
    lab.home.configure(models=("m-1",), **connection(lab))

    out = lab.run("status").out

    assert "the settings changed since it started\n            next: thv-llm proxy restart" in out


def test_an_expired_token_is_no_alarm(lab: Lab) -> None:
    session = sessions.load(lab.paths.state).latest
    lab.change(sessions=sessions.Sessions(session._replace(expires_at=lab.home.now - 5)))

    assert "token" not in lab.run("status").out.replace("token_store", "")


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
    assert state.local_key(lab.paths).reveal() not in out


def test_json_of_a_new_user_is_complete_too(tmp_path: Path) -> None:
    document = json.loads(worlds.make(tmp_path).run("status", "--format", "json").out)

    assert document["session"]["exists"] is False
    assert document["service"] == {"running": False}
    assert document["tools"] == []


def test_it_is_there_at_once(lab: Lab) -> None:
    wire(lab, "claude-code")
    lab.start()
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            paths.own_command("status"), check=True, capture_output=True, env=lab.environ, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    # Processor time: on a machine that is busy with other things the clock on the wall tells nothing.
    assert min(times) * 1000 < STATUS_MS
