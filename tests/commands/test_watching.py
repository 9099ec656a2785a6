from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tests.commands.homes import NOW
from thv_llm.commands import watching
from thv_llm.proxy.stats import Figures, LogEntry, Outcome
from thv_llm.service.background import Running
from thv_llm.service.pid_file import ServiceRun
from thv_llm.system import terminal

DONE = LogEntry(NOW, "POST", "/v1/chat/completions", 200, 210.4, 1840.0, 300, 14_234, "claude-cli/2.1")
RUN = ServiceRun(4242, "then", NOW - 7800, "/opt/thv-llm.pyz", "1:2", "0.1.0", 14000, "abc")
FIGURES = Figures(152, 1, 3, {"2xx": 149, "4xx": 3}, 147, 2, 3, 0, 210.4, 1840.0, {})


def test_a_request_is_one_line_of_a_table() -> None:
    assert watching.request(DONE) == (
        "POST /v1/chat/completions     200    210 ms  1.84 s 14.2 kB claude-cli"
    )


def test_a_403_says_whose_it_was_and_names_the_rule() -> None:
    ours = replace(DONE, status=403, outcome=Outcome.PROXY, reason="Host is not this proxy's address")
    theirs = replace(DONE, status=403, outcome=Outcome.GATEWAY)

    assert watching.request(ours).endswith("(proxy: Host is not this proxy's address)")
    assert watching.request(theirs).endswith("(gateway)")


def test_a_tool_that_disconnected_got_no_response() -> None:
    line = watching.request(replace(DONE, method="", status=0, first_byte_ms=None, agent=""))

    assert line.split()[:3] == ["?", "/v1/chat/completions", "gone"]
    assert line.endswith(" -")


def test_the_line_fits_80_columns_behind_its_time_and_stands_below_its_heading() -> None:
    line = watching.request(DONE)

    assert len("10:11:12  " + line) <= 80
    for word, below in (("path", "/v1"), ("got", "200"), ("tool", "claude-cli")):
        assert watching.HEADING.index(word) == line.index(below)


def test_columns_stay_in_place_for_long_paths() -> None:
    long = replace(DONE, path="/v1beta/models/gemini-3-pro:streamGenerateContent")

    assert watching.request(long).index(" 200") == watching.request(DONE).index(" 200")
    assert "…-pro:streamGenerateContent"[-23:] in watching.request(long)


@pytest.mark.parametrize("found", [None, Running(RUN, responds=True), Running(RUN, responds=False)])
def test_the_screen_fits_80_columns(found: Running | None) -> None:
    lines = watching.lines(found, {"proxy": asdict(FIGURES)}, ["the settings changed"], now=NOW)

    assert all(len(part) <= 80 for line in lines for part in terminal.fitted(line, 80).splitlines())


def test_the_screen_tells_since_when_where_and_how_fast() -> None:
    lines = watching.lines(Running(RUN, responds=True), {"proxy": asdict(FIGURES)}, [], now=NOW)

    assert [terminal.fitted(line, 80) for line in lines] == [
        "running     started 2 h 10 min ago (pid 4242, thv-llm 0.1.0)",
        "listens on  http://127.0.0.1:14000",
        "requests    152 total, 147 ok, 2 gateway errors, 3 rejected by the proxy, 1\n            running",
        "responses   149 2xx, 3 4xx",
        "first byte  p50 210 ms, p99 1.84 s",
    ]


def test_a_service_without_proxy_has_no_counts() -> None:
    found = Running(replace(RUN, port=None), responds=True)

    assert len(watching.lines(found, {"proxy": None}, [], now=NOW)) == 2


def test_json_holds_the_same_and_is_plain() -> None:
    document = watching.document(Running(RUN, responds=True), {"proxy": asdict(FIGURES)}, ["why"])

    assert document["proxy_port"] == 14000
    assert document["restart_because"] == ["why"]
    assert document["requests"] == asdict(FIGURES)
    assert watching.document(None, {}, []) == {"running": False}
