"""`models`: what the gateway lists, and why it cannot."""

from __future__ import annotations

import json

from tests.commands.machine import Machine
from thv_llm.errors import ExitCode


def test_each_model_is_a_line_on_stdout(here: Machine) -> None:
    here.setup()

    done = here.run("models")

    assert done.code == 0, done.err
    assert done.out.splitlines() == json.loads(here.run("models", "--format", "json").out)["models"]
    assert done.out.splitlines()
    assert done.err == ""


def test_it_requests_the_gateways_list_and_not_the_settings(here: Machine) -> None:
    here.setup("--models", "mine")

    assert "mine" not in here.run("models").out.splitlines()


def test_without_settings_without_a_session_and_without_a_gateway_it_says_so(here: Machine) -> None:
    done = here.run("models")
    assert (done.code, done.out) == (ExitCode.NOT_CONFIGURED, "")

    here.setup("--lazy")
    done = here.run("models")
    assert (done.code, done.out) == (ExitCode.LOGIN_REQUIRED, "")
    assert "next: thv-llm login" in done.err

    here.run("login")
    here.gateway.close()
    done = here.run("models")
    assert (done.code, done.out) == (ExitCode.UNREACHABLE, "")
