from __future__ import annotations

import os

import pytest

from tests.checks.finding import connection, faults, look, one_fault
from tests.fakes.web import ServerResponse
from tests.service.lab import Lab
from thv_llm.checks import Level


def test_not_logged_in(lab: Lab) -> None:
    lab.log_out()

    fault = one_fault(lab, "session", "token", "gateway", "helper")

    assert (fault.name, fault.next_step) == ("session", "thv-llm login")
    lab.log_in()
    assert faults(lab, "session", "token", "gateway", "helper") == []


def test_a_session_that_the_provider_ended(lab: Lab) -> None:
    lab.provider.grants._live.clear()

    fault = one_fault(lab, "session", "token")

    assert fault.name == "token"
    assert "invalid_grant" in fault.reason
    assert fault.next_step == "thv-llm login"


def test_a_store_that_cannot_be_read(lab: Lab) -> None:
    os.unlink(lab.paths.session_file_key)

    fault = one_fault(lab, "session", "token")

    assert fault.name == "session"
    assert fault.remedy


def test_a_token_that_lives_too_short(lab: Lab) -> None:
    lab.provider.access_lifetime_s = 120

    fault = one_fault(lab, "token")

    assert fault.level is Level.WARN
    assert "120 s" in fault.reason or "119 s" in fault.reason


def test_a_token_that_is_too_long_for_some_servers(lab: Lab) -> None:
    def long(good: ServerResponse) -> ServerResponse:
        return ServerResponse(body={**good.body, "access_token": "a" * 7000})

    lab.provider.alter["refresh"] = long

    fault = one_fault(lab, "token")

    assert fault.level is Level.WARN
    assert "7000 bytes" in fault.reason


def test_a_token_for_another_audience(lab: Lab) -> None:
    lab.home.configure(oidc__audience="the-gateway", **connection(lab))
    lab.log_in()

    fault = one_fault(lab, "token")

    assert "'the-gateway'" in fault.reason
    assert "administrator of the provider" in fault.next_step


def test_the_good_line_tells_whose_and_where(lab: Lab) -> None:
    found = {check.name: check for check in look(lab, "session", "token")}

    assert found["session"].reason.startswith("dev@example.com, kept in ")
    assert found["token"].reason.startswith("expires in 60 min, for ")


def test_a_look_at_the_token_starts_no_service(lab: Lab) -> None:
    lab.want()

    assert faults(lab, "token") == []
    assert lab.processes() == []


@pytest.mark.parametrize(("left_s", "text"), [(5 * 3600, "ends in 5 h"), (600, "ends in 10 min")])
def test_a_session_that_is_about_to_end(lab: Lab, left_s: float, text: str) -> None:
    lab.ends_in(left_s)
    fault = one_fault(lab, "session")

    assert fault.level is Level.WARN
    assert text in fault.reason
    assert fault.next_step == "thv-llm login --force"


def test_a_session_that_ends_in_a_week_is_fine(lab: Lab) -> None:
    lab.ends_in(7 * 86400)

    assert not faults(lab, "session")
