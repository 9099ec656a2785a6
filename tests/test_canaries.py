"""The scan of all test runs finds what it should, and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import canaries
from tests.fakes.provider import FakeProvider

LOCAL_KEY = "thv-" + "A1-_" * 10 + "abc"


@pytest.fixture
def provider() -> FakeProvider:
    with FakeProvider(tls=False) as running:
        return running


def access_token(provider: FakeProvider) -> str:
    return provider.grants.new_access_token({"sub": "somebody"}, opaque=False)


def test_everything_that_a_provider_gives_out_is_known_in_any_dress(provider: FakeProvider) -> None:
    refresh_token = provider.issue_refresh_token()
    head, payload, _ = access_token(provider).split(".")
    dressed = [json.dumps({"a": refresh_token}), quote(refresh_token), refresh_token.encode().hex()]
    dressed += [base64.b64encode(b"x" * pad + refresh_token.encode()).decode() for pad in range(3)]

    for text in [*dressed, head, payload]:
        assert canaries.kinds(text.encode()), text


def test_each_kind_is_named(provider: FakeProvider) -> None:
    assert canaries.kinds(provider.issue_refresh_token().encode()) == {"rt"}
    assert canaries.kinds(access_token(provider).encode()) == {"encoded"}
    assert canaries.kinds(f"open {canaries.MARK}".encode()) == {"open"}
    assert canaries.kinds(LOCAL_KEY.encode()) == {"local key"}
    assert canaries.kinds(b"thv-llm-session.enc thv-a-short-one") == set()


def test_what_has_no_mark_is_found_once_it_is_noted() -> None:
    verifier = "a-verifier-that-only-this-test-has"
    assert canaries.kinds(verifier.encode()) == set()

    canaries.note("code verifier", verifier)

    assert canaries.kinds(f"?code_verifier={verifier}&x".encode()) == {"code verifier"}


def test_the_local_key_may_stand_in_the_tools_settings_and_nowhere_else(tmp_path: Path) -> None:
    scan = canaries.Scan()
    for name in ("llm-state.json", "opencode.jsonc", "llm-proxy.log", "llm.toml"):
        (tmp_path / name).write_text(LOCAL_KEY)

    scan.files(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()  # this run's own scan comes by here, too

    assert sorted(scan.hits) == [f"local key in {tmp_path / name}" for name in ("llm-proxy.log", "llm.toml")]
    assert scan.verdict() == "canaries: 2 hits in 4 files, 0 outputs, 0 commands"


def test_only_the_stdout_of_token_may_hold_an_access_token(provider: FakeProvider) -> None:
    scan, token = canaries.Scan(), access_token(provider)

    scan.command_output(["python", "/a/thv-llm.pyz", "token"], token, "")
    scan.command_output(["/home/.config/toolhive/bin/thv-llm-token"], token, "")
    assert scan.hits == []
    scan.command_output(["token"], provider.issue_refresh_token(), token)
    scan.command_output(["status"], token, "")

    assert len(scan.hits) == 3


@pytest.mark.posix
def test_command_lines_and_environments_of_a_home_are_watched(tmp_path: Path) -> None:
    scan, secret = canaries.Scan(), "a-secret-in-an-environment"
    environ = {"HOME": str(tmp_path), "SECRET": secret}

    with canaries.watched(tmp_path, scan) as seen, subprocess.Popen(["sleep", "60"], env=environ) as process:
        canaries.note("secret", secret)  # only now: this run's own scan has looked at the start
        while not any("sleep 60" in text for text in seen):
            os.sched_yield()
        process.kill()

    assert scan.hits[0].startswith("secret in a process")
