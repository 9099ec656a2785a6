from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.checks.finding import look, one_fault, told_time, wire
from tests.service.lab import Lab
from thv_llm import checks
from thv_llm.checks import Check, Installation


def test_a_check_covers_everything_on_the_list(lab: Lab) -> None:
    lab.provider.alter["discovery"] = told_time
    wire(lab, "claude-code")
    lab.start()
    names = {check.name for check in look(lab)}

    assert names >= {
        *("python", "program", "files", "state", "settings", "provider", "clock", "session"),
        *("token", "gateway", "service", "port", "helper", "claude-code", "environment"),
    }


def test_a_check_that_breaks_is_a_finding_without_its_text(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(here: Installation) -> Iterator[Check]:
        raise ValueError("canary")

    monkeypatch.setattr(checks, "CONFIGURED", (("token", broken),))
    fault = one_fault(lab, "token")

    assert "ValueError at" in fault.reason
    assert "canary" not in fault.reason
