from __future__ import annotations

from dataclasses import replace

import pytest

from tests.checks.finding import faults, one_fault, wire
from tests.service.lab import Lab
from thv_llm import state
from thv_llm.checks import Level


def test_a_tool_whose_file_was_changed(lab: Lab) -> None:
    path = wire(lab, "claude-code")
    path.write_text('{"apiKeyHelper": "somebody else\'s"}')

    fault = one_fault(lab, "tools")

    assert fault.name == "claude-code"
    assert str(path) in fault.reason
    assert fault.next_step == "thv-llm setup --client claude-code"


def test_a_tool_whose_wiring_was_interrupted(lab: Lab) -> None:
    wire(lab, "claude-code")
    (tool,) = state.load(lab.paths.state).wired
    (file,) = tool.files
    half = replace(file, editions=(replace(file.editions[0], done=False),))
    lab.change(wired=(replace(tool, files=(half,)),))

    assert any("interrupted" in check.reason for check in faults(lab, "tools"))


def test_no_tool_at_all(lab: Lab) -> None:
    assert one_fault(lab, "tools").next_step == "thv-llm setup"


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK"])
def test_a_variable_that_overrides_a_wired_tool(lab: Lab, variable: str) -> None:
    wire(lab, "claude-code")

    fault = one_fault(lab, "environment", **{variable: "1"})

    assert fault.level is Level.WARN
    assert fault.next_step == f"unset {variable}"
    assert faults(lab, "environment") == []


def test_a_proxy_variable_that_leads_loopback_astray(lab: Lab) -> None:
    wire(lab, "opencode")

    fault = one_fault(lab, "environment", HTTP_PROXY="http://proxy:3128")

    assert "HTTP_PROXY" in fault.reason
    assert fault.next_step.startswith("export NO_PROXY=127.0.0.1")
    assert faults(lab, "environment", HTTP_PROXY="http://proxy:3128", NO_PROXY="127.0.0.1") == []
