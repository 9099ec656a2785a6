"""`gateway.headers` and `gateway.header_file`: who sends them, who cannot, and where the secret ones are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.machine import Machine
from tests.service.lab import Lab
from tests.service.test_service import running, service
from tests.tools.machines import VALUES
from tests.tools.machines import Machine as ToolMachine
from thv_llm import settings, validation
from thv_llm.errors import ExitCode
from thv_llm.proxy import headers
from thv_llm.proxy.http1 import Fields
from thv_llm.tools.model import Mode
from thv_llm.tools.registry import TOOLS
from thv_llm.tools.values import mode

SECRET = "subscription-key-of-the-tests"
DIRECT = [tool for tool in TOOLS if mode(tool) is Mode.DIRECT]


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        (("X-Team: a",), ("X-Team: a",)),
        (("X-Team:a",), ("X-Team: a",)),
        (("X-Team: a: b, c",), ("X-Team: a: b, c",)),
        (("X-Team: a", "x_team: b"), ("x_team: b",)),
        (("X-Team: a", "X-Other: b"), ("X-Team: a", "X-Other: b")),
    ],
)
def test_a_header_is_taken(lines: tuple[str, ...], taken: tuple[str, ...]) -> None:
    assert validation.headers(lines) == taken


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name}: x" for name in ("Authorization", "cookie", "Host", "Connection", "TE", "Upgrade")),
        *(f"{name}: x" for name in ("Transfer-Encoding", "Content_Length", "Proxy-Authorization", "Expect")),
        *(
            "X-Team",
            "X-Team:",
            "X-Team: ",
            ": x",
            "X Team: x",
            "X-Team: a\nX-B: c",
            "X-Team: a\r",
            "X-Täm: x",
        ),
        *("X-Team: ü", "X-Team: !id", "X-Team: $HOME", 'X-Team: "a"', "X-Team: x "),
    ],
)
def test_another_one_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="header"):
        validation.headers((line,))


def test_the_proxy_puts_them_in_the_place_of_the_clients_own() -> None:
    fields = Fields([(b"x_team", b"mine"), (b"Accept", b"*/*")])

    sent = headers.to_gateway(fields, b"t-1", added=[(b"X-Team", b"ours")])

    assert sent == [(b"Accept", b"*/*"), (b"X-Team", b"ours"), (b"Authorization", b"Bearer t-1")]


@pytest.mark.parametrize("tool", DIRECT, ids=lambda tool: tool.id)
def test_a_direct_tool_gets_them_in_its_file(tmp_path: Path, tool: object) -> None:
    machine = ToolMachine(tmp_path)
    planned = machine.plan(tool, headers={"X-Team": "a b", "X-Other": "c"})  # type: ignore[arg-type]

    text = "".join(file.after.decode() for file in planned.files if file.after)

    assert VALUES.headers == {}
    assert "X-Team" in text
    assert "a b" in text
    assert "X-Other" in text


def with_headers(here: Machine, *arguments: str) -> str:
    secret = here.home / "headers"
    secret.write_text(f"Ocp-Apim-Subscription-Key: {SECRET}\n\n")
    secret.chmod(0o600)
    done = here.setup("--gateway-header", "X-Team: a", "--gateway-header-file", str(secret), *arguments)
    assert done.code is ExitCode.DONE, done.err
    secret.unlink()
    return done.err


def files_with(here: Machine, text: str) -> list[Path]:
    files = (path for path in here.home.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def test_setup_sends_them_and_says_who_does_not_send_the_secret_one(here: Machine) -> None:
    said = with_headers(here)

    asked = [dict(one.headers) for one in here.gateway.requests]
    assert asked
    assert all(one["X-Team"] == "a" and one["Ocp-Apim-Subscription-Key"] == SECRET for one in asked)
    assert json.loads(here.claude.read_text())["env"]["ANTHROPIC_CUSTOM_HEADERS"] == "X-Team: a"
    assert "only the proxy adds the headers of gateway.header_file, and Claude Code does not" in said
    assert SECRET not in said
    assert not files_with(here, SECRET)
    wanted = settings.load(here.paths.settings)
    assert (wanted.gateway_headers, wanted.gateway_header_file) == (("X-Team: a",), settings.STORED)


def test_doctor_sends_them_from_the_store_and_says_the_same(here: Machine) -> None:
    with_headers(here)
    here.gateway.requests.clear()

    done = here.run("doctor")

    assert all(dict(one.headers)["Ocp-Apim-Subscription-Key"] == SECRET for one in here.gateway.requests)
    assert here.gateway.requests
    assert "only the proxy adds" in done.out
    assert SECRET not in done.out + done.err


def test_another_gateway_gets_none_of_them(here: Machine) -> None:
    with_headers(here)

    assert here.run("config", "set", "--gateway-url", "https://llm.example").code is ExitCode.DONE

    wanted = settings.load(here.paths.settings)
    assert (wanted.gateway_headers, wanted.gateway_header_file) == ((), "")


@pytest.mark.parametrize("text", ["", "Authorization: x\n", "X-Team\n", "X-Team: ü\n"])
def test_a_file_without_headers_is_refused(here: Machine, text: str) -> None:
    file = here.home / "headers"
    file.write_text(text)
    file.chmod(0o600)

    done = here.run("config", "set", "--gateway-header-file", str(file))

    assert done.code is ExitCode.FAILED
    assert "gateway.header_file" in done.err


def test_every_request_through_the_proxy_has_them_and_a_new_one_is_used_at_once(lab: Lab) -> None:
    for secret in ("one", "two"):
        file = Path(lab.paths.directory) / "headers"
        file.write_text(f"X-Key: {secret}\n")
        file.chmod(0o600)
        lab.run("config", "set", "--gateway-header", "X-Team: a", "--gateway-header-file", str(file))
        file.unlink()
    with running(service(lab)):
        assert lab.get("/v1/models")[0] == 200
        assert lab.get("/v1/models")[0] == 200
        file.write_text("X-Key: three\n")
        file.chmod(0o600)
        done = lab.run("config", "set", "--gateway-header-file", str(file))
        assert done.code is ExitCode.DONE, done.err
        assert lab.get("/v1/models")[0] == 200

    sent = [dict(one.headers) for one in lab.gateway.served("/v1/models")]
    assert [one["X-Key"] for one in sent] == ["two", "two", "three"]
    assert [one["X-Team"] for one in sent] == ["a", "a", "a"]
