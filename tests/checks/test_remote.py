from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.checks.finding import connection, faults, one_fault, told_time
from tests.fakes.web import Answer
from tests.service.lab import Lab
from thv_llm import checks
from thv_llm.checks import Ground, Level


def test_a_provider_that_is_down(lab: Lab) -> None:
    lab.provider.close()

    fault = one_fault(lab, "provider")

    assert fault.level is Level.FAIL
    assert "cannot reach the provider" in fault.reason
    assert "check the network" in fault.remedy


def test_a_provider_that_calls_itself_otherwise(lab: Lab) -> None:
    lab.provider.alter["discovery"] = _with(issuer="https://other.example.com")

    fault = one_fault(lab, "provider")

    assert "issuer" in fault.reason
    assert fault.remedy


def _with(**members: object) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        return replace(answer, body={**answer.body, **members})

    return change


@pytest.mark.parametrize(("skew", "level"), [(-3600, Level.FAIL), (90, Level.WARN)])
def test_a_clock_that_is_wrong(lab: Lab, skew: float, level: Level) -> None:
    lab.provider.alter["discovery"] = told_time
    ground = Ground(lab.environ, lab.paths, "linux", lambda: time.time() + skew)
    fault = next(check for check in checks.run(ground, only=("provider",)) if check.name == "clock")

    assert fault.level is level
    assert fault.remedy == "sudo timedatectl set-ntp true"
    assert ("behind" if skew < 0 else "ahead of") in fault.reason


def test_an_authority_that_is_not_trusted(lab: Lab) -> None:
    lab.home.configure(ca_file="", **connection(lab))

    found = faults(lab, "provider", "gateway")

    assert [check.name for check in found] == ["provider", "gateway"]
    for check in found:
        assert "certificate" in check.reason
        assert "thv-llm config set --ca-file" in check.remedy
    lab.run("config", "set", "--ca-file", str(lab.provider.ca_file))
    assert faults(lab, "provider", "gateway") == []


def test_a_gateway_that_is_down(lab: Lab) -> None:
    lab.gateway.close()

    fault = one_fault(lab, "gateway")

    assert lab.gateway.url in fault.reason
    assert "thv-llm config show" in fault.remedy


def test_a_gateway_that_lets_everybody_in(lab: Lab) -> None:
    lab.gateway.check = str
    lab.gateway.admits = lambda authorization: True  # type: ignore[method-assign]

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.WARN
    assert "without a token" in fault.reason


def test_a_gateway_that_refuses_our_token(lab: Lab) -> None:
    lab.gateway.admits = lambda authorization: False  # type: ignore[method-assign]

    fault = one_fault(lab, "gateway")

    assert fault.level is Level.FAIL
    assert "refuses our token (401)" in fault.reason
    assert "--audience" in fault.remedy
