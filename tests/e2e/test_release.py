"""What `make release-check` makes of its runs."""

from __future__ import annotations

import re

import pytest

from tests.e2e import release
from tests.e2e.prompts import PROMPTS, SLOW
from thv_llm.tools.model import Tool
from thv_llm.tools.registry import TOOLS

BY_HAND = {"aichat", "vscode"}
"""Run through a file as setup writes it, but by no program of the tests."""

REPORT = """<testsuites><testsuite>
<testcase name="test_a[codex]"/><testcase name="test_b[codex]"/><testcase name="test_b[vibe]"/>
<testcase name="test_a[pi (mariozechner/pi)]"><failure message="no answer&#10;more">…</failure></testcase>
<testcase name="test_a[vibe]"><error message="no provider">…</error></testcase><testcase name="test_b[vibe]"/>
</testsuite></testsuites>"""

SOURCE = """
    id="one",
    checked="One CLI 1.2.3-beta, run headless against a recording gateway, 2026-01-02; app not run",
    id="two",
    checked="from source, 2026-01-02; the program was not run",
    id="three",
    checked="Three 4, run headless against a recording gateway, 2026-01-02",
"""


def test_each_tool_has_its_result() -> None:
    assert release.results(REPORT) == {
        "codex": "ok",
        "pi (mariozechner/pi)": "no answer",
        "vibe": "no provider",
    }


def test_version_and_day_of_a_run_go_into_its_entry_alone() -> None:
    changed = release.with_version(SOURCE, "one", "2026.9", "2026-02-03")

    new = "One CLI 2026.9, run headless against a recording gateway, 2026-02-03; app not run"
    assert new in changed
    assert (
        changed.replace(
            new, "One CLI 1.2.3-beta, run headless against a recording gateway, 2026-01-02; app not run"
        )
        == SOURCE
    )
    for tool in ("two", "four"):  # one that was not run, one that is not there
        assert release.with_version(SOURCE, tool, "9", "2026-02-03") == SOURCE


def test_each_program_can_be_installed() -> None:
    programs = {one.program for one in (*PROMPTS, *SLOW)}

    assert programs == set(release.NPM) | set(release.PYPI)
    assert release.package_of("@openai/codex/bin/codex.js") == "@openai/codex"
    assert release.package_of("openclaw/openclaw.mjs") == "openclaw"


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool.edits], ids=lambda tool: tool.id)
def test_an_entry_claims_no_run_that_the_tests_do_not_make(tool: Tool) -> None:
    is_run = tool.id in {one.tool for one in (*PROMPTS, *SLOW)} | BY_HAND
    assert is_run != bool(re.search(r"20\d\d-\d\d-\d\d; (the program was )?not run", tool.checked))
