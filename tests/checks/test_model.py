from __future__ import annotations

from thv_llm.checks import model
from thv_llm.checks.model import Level
from thv_llm.errors import LoginRequiredError, ThvLlmError


def test_an_error_becomes_a_fault_with_its_own_command() -> None:
    error = LoginRequiredError("cannot get a token", why="not logged in", next_step="thv-llm login")

    found = model.failed("token", error)

    assert found.level is Level.FAIL
    assert found.reason == "cannot get a token: not logged in"
    assert found.remedy == ("thv-llm", "login")


def test_an_error_without_advice_still_names_a_command() -> None:
    assert model.failed("x", ThvLlmError("no")).next_step.startswith("thv-llm ")
