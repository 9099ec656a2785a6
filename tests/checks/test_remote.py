from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.checks.finding import connection, faults, look, one_fault, told_time, wire
from tests.fakes.gateway import Fault
from tests.fakes.web import ServerResponse
from tests.service.lab import Lab
from thv_llm import checks
from thv_llm.checks import Installation, Level


def test_a_provider_that_is_down(lab: Lab) -> None:
    lab.provider.close()

    fault = one_fault(lab, "provider")

    assert fault.level is Level.FAIL
    assert "cannot reach the provider" in fault.reason
    assert "check the network" in fault.next_step


def test_a_provider_that_calls_itself_otherwise(lab: Lab) -> None:
    lab.provider.alter["discovery"] = _with(issuer="https://other.example.com")

    fault = one_fault(lab, "provider")

    assert "issuer" in fault.reason
    assert fault.remedy


def _with(**members: object) -> Callable[[ServerResponse], ServerResponse]:
    def change(response: ServerResponse) -> ServerResponse:
        return replace(response, body={**response.body, **members})

    return change


@pytest.mark.parametrize(
    ("skew", "level", "by"),
    [
        (-3600, Level.FAIL, r"(3599|3600) s behind"),
        (-122, Level.FAIL, r"12[12] s behind"),
        (90, Level.WARN, r"9[01] s ahead of"),
        (-20 * 365 * 86400, Level.FAIL, "7300 days behind"),
        (10 * 365 * 86400, Level.FAIL, "3650 days ahead of"),
    ],
)
def test_a_clock_that_is_wrong(lab: Lab, skew: float, level: Level, by: str) -> None:
    lab.provider.alter["discovery"] = told_time
    here = Installation(lab.environ, lab.paths, "linux", lambda: time.time() + skew)
    fault = next(check for check in checks.run(here, only=("provider",)) if check.name == "clock")

    assert fault.level is level
    assert fault.next_step == "sudo timedatectl set-ntp true"
    assert re.match(f"this clock is {by} the provider's", fault.reason)


def test_on_windows_the_clock_is_set_as_there(lab: Lab) -> None:
    lab.provider.alter["discovery"] = told_time
    here = Installation(lab.environ, lab.paths, "win32", lambda: time.time() - 3600)
    fault = next(check for check in checks.run(here, only=("provider",)) if check.name == "clock")

    assert fault.next_step == "w32tm /resync"


def test_an_authority_that_is_not_trusted(lab: Lab) -> None:
    lab.home.configure(ca_file="", **connection(lab))

    found = faults(lab, "provider", "gateway")

    assert [check.name for check in found] == ["provider", "gateway"]
    for check in found:
        assert "certificate" in check.reason
        assert "thv-llm setup --ca-file" in check.next_step
    lab.run("config", "set", "--ca-file", str(lab.provider.ca_file))
    assert faults(lab, "provider", "gateway") == []


def test_a_gateway_that_is_down(lab: Lab) -> None:
    lab.gateway.close()

    fault = one_fault(lab, "gateway")

    assert lab.gateway.url in fault.reason
    assert "thv-llm config show" in fault.next_step


def test_a_gateway_that_lets_everybody_in(lab: Lab) -> None:
    lab.gateway.check = str
    lab.gateway.admits = lambda authorization: True  # type: ignore[method-assign]

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.WARN
    assert "without a token" in fault.reason


def test_a_gateway_that_rejects_every_token(lab: Lab) -> None:
    lab.gateway.admits = lambda authorization: False  # type: ignore[method-assign]

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.FAIL
    assert "HTTP 401" in fault.reason
    assert "--audience" in fault.next_step


def test_a_revoked_token_of_the_service_is_replaced_before_the_audience_is_blamed(lab: Lab) -> None:
    lab.start()
    lab.until_it_has_a_token()
    revoked, check = set(lab.provider.grants.access_tokens), lab.gateway.check

    def without_the_revoked(token: str) -> object:
        if token in revoked:
            raise ValueError("revoked at the gateway")
        return check(token)

    lab.gateway.check = without_the_revoked

    (found,) = look(lab, "gateway")

    assert found.level is Level.OK
    assert "accepts the token (HTTP 200; the one before was rejected (HTTP 401))" in found.reason
    assert lab.get("/v1/models")[0] == 200


def test_a_rejected_token_without_a_new_one_is_not_blamed_on_the_audience(lab: Lab) -> None:
    lab.start()
    lab.until_it_has_a_token()
    lab.gateway.admits = lambda authorization: False  # type: ignore[method-assign]
    lab.provider.alter["refresh"] = lambda _: ServerResponse(status=400, body={"error": "invalid_grant"})

    fault = one_fault(lab, "gateway")

    assert "rejects the token (HTTP 401)" in fault.name
    assert fault.next_step == "thv-llm login"


@pytest.mark.parametrize(
    ("status", "level", "next_step"),
    [
        (302, Level.FAIL, "--gateway-url"),
        (400, Level.FAIL, "administrator"),
        (402, Level.FAIL, "administrator"),
        (403, Level.FAIL, "for access"),
        (404, Level.WARN, "--gateway-url"),
        (405, Level.WARN, "--gateway-url"),
        (407, Level.FAIL, "administrator"),
        (413, Level.FAIL, "administrator"),
        (421, Level.FAIL, "administrator"),
        (426, Level.FAIL, "administrator"),
        (429, Level.WARN, "later"),
        (431, Level.FAIL, "administrator"),
        (451, Level.FAIL, "administrator"),
        (500, Level.FAIL, "later"),
        (503, Level.FAIL, "later"),
    ],
)
def test_only_a_success_is_called_success(lab: Lab, status: int, level: Level, next_step: str) -> None:
    lab.gateway.fault = lambda received: Fault(status)

    fault = one_fault(lab, "gateway")

    assert fault.level is level
    assert f"HTTP {status} from {lab.gateway.url}/v1/models" in fault.reason
    assert "accepts" not in fault.reason
    assert next_step in fault.next_step


@pytest.mark.parametrize("status", [302, 404])
def test_where_nothing_is_found_the_url_alone_is_blamed(lab: Lab, status: int) -> None:
    wire(lab, "claude-code")
    lab.gateway.fault = lambda _: Fault(status, {"Location": "/elsewhere"})

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.FAIL
    assert f"HTTP {status} from {lab.gateway.url}/v1/models" in fault.reason
    assert "thv-llm setup --gateway-url URL" in fault.next_step


def test_success_is_named(lab: Lab) -> None:
    (found,) = look(lab, "gateway")

    accepts = f"{lab.gateway.url} accepts the token (HTTP 200)"
    assert found.reason == f"{accepts}, rejects requests without one (HTTP 401)"


def test_a_url_in_a_tools_file_that_leads_nowhere_is_named_with_the_command_that_helps(lab: Lab) -> None:
    lab.home.configure(anthropic_path_prefix="/elsewhere", ca_file=lab.provider.ca_file, **connection(lab))
    wire(lab, "claude-code")

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.FAIL
    assert f"HTTP 404 from {lab.gateway.url}/elsewhere/v1/messages" in fault.reason
    assert "Claude Code" in fault.reason
    assert fault.next_step == "thv-llm setup"
