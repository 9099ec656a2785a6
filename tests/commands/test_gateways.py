"""Gateways of every shape: the right URL for each tool, and what is said where there is none."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import environs
from tests.commands import homes
from tests.commands.machine import Machine
from tests.fakes.browser import FakeBrowser
from tests.fakes.gateway import FakeGateway, Fault, Received
from tests.fakes.provider import FakeProvider
from tests.fakes.web import ServerResponse, WebServer
from thv_llm import checks, gateway, settings, state
from thv_llm.commands import help
from thv_llm.errors import ExitCode
from thv_llm.gateway import GATEWAYS, PROTOCOLS
from thv_llm.net.http_client import response_with
from thv_llm.tools import engine
from thv_llm.tools.values import resolve, used
from thv_llm.validation import gateway_root

TOOLS = ("claude", "codex", "opencode", "gemini", "pi", "qwen")
PATHS = {"Anthropic": "/v1/messages", "OpenAI": "/chat/completions", "Gemini": "/v1beta/models"}

SHAPES = {
    "authenticates before it routes": ({"authenticates_first": True, "anthropic_paths": ("",)}, ""),
    "a path for each protocol": (
        {"anthropic_paths": ("/anthropic",), "openai_paths": ("/openai",), "gemini_paths": ("/gemini",)},
        "",
    ),
    "behind /v1 only": ({"anthropic_paths": (), "gemini_paths": ()}, "/v1"),
    "Anthropic at the root": ({"anthropic_paths": ("",)}, ""),
    "with /anthropic": ({"anthropic_paths": ("/anthropic",)}, ""),
    "typed with /anthropic": (
        {
            "anthropic_paths": ("/anthropic",),
            "openai_paths": ("/anthropic",),
            "gemini_paths": ("/anthropic",),
        },
        "/anthropic",
    ),
    "below another path": (
        {"anthropic_paths": ("/ai/anthropic",), "openai_paths": ("/ai",), "gemini_paths": ("/ai",)},
        "/ai",
    ),
    "as Coder has it": (
        {
            "anthropic_paths": ("/api/v2/aibridge/anthropic",),
            "openai_paths": ("/api/v2/aibridge/openai",),
            "authenticates_first": True,
        },
        "",
    ),
}


@contextlib.contextmanager
def machine(home: Path, shape: str) -> Iterator[Machine]:
    """Set up a machine whose gateway has this shape."""
    options, path = SHAPES[shape]
    with (
        FakeProvider() as provider,
        FakeGateway(provider.verify_access_token, **options) as made,  # type: ignore[arg-type]
        FakeBrowser(str(provider.ca_file)) as browser,
    ):
        made.url += path
        here = Machine(home, provider, made, browser, browser.open, homes.free_port())
        here.environ = environs.user(home, PATH=f"{home}/bin")
        here.install(*TOOLS)
        yield here


def urls(here: Machine, protocol: gateway.Protocol) -> set[str]:
    """Return the URLs at which the configured tools ask the gateway by this protocol."""
    wanted = settings.load(here.paths.settings)
    known = state.load(here.paths.state)
    values = engine.values_of(wanted, known, here.paths.helper, ("m-1",))
    through_proxy = f"http://127.0.0.1:{here.port}"
    found = set()
    for tool in engine.TOOLS:
        if tool.id in {one.tool for one in known.wired}:
            for value in used(tool) & protocol.values:
                base = resolve(value, replace(values, tool=tool.id))
                if isinstance(base, str) and base.startswith("http"):
                    whole = base.replace(through_proxy, gateway_root(wanted.gateway_url))
                    tail = PATHS[protocol.title]
                    is_root = tail.startswith("/chat") and not whole.endswith("/v1")
                    found.add(whole + ("/v1" if is_root else "") + tail)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tool_gets_a_url_that_the_gateway_serves_and_doctor_requests_it(
    tmp_path: Path, shape: str
) -> None:
    with machine(tmp_path, shape) as here:
        done = here.setup()
        assert done.code is ExitCode.DONE, done.err
        served = {
            "Anthropic": here.gateway.anthropic_paths,
            "OpenAI": here.gateway.openai_paths,
            "Gemini": here.gateway.gemini_paths,
        }
        origin = re.match(r"https://[^/]+", here.gateway.url)
        assert origin
        for protocol in PROTOCOLS:
            tail = PATHS[protocol.title].replace("/chat", "/v1/chat")
            there = {f"{origin[0]}{prefix}{tail}" for prefix in served[protocol.title]}
            assert urls(here, protocol) <= there, protocol.title
            assert bool(urls(here, protocol)) == bool(there)
            lacking = f"the gateway does not serve {protocol.title}'s API"
            assert (lacking in done.err) == (not there), done.err

        here.gateway.requests.clear()
        doctor = here.run("doctor")
        asked = {one.path for one in here.gateway.requests if one.admitted}
        for protocol in PROTOCOLS:
            prefix = served[protocol.title][0] if served[protocol.title] else None
            found = [path for path in asked if path.endswith(protocol.path) and path.startswith(prefix or "")]
            assert bool(found) == (prefix is not None)
        assert "API there" not in doctor.out


def test_a_tool_whose_api_is_nowhere_is_skipped_by_name_with_the_reason(tmp_path: Path) -> None:
    with machine(tmp_path, "with /anthropic") as here:
        here.gateway.openai_paths = ()
        done = here.setup("--client", "claude-code", "--client", "opencode", "--models", "m-1")
        named = here.setup("--openai-path-prefix", "/v9", "--client", "opencode", "--models", "m-1")

    assert done.code is ExitCode.FAILED
    assert "Skipped OpenCode: the gateway does not serve OpenAI's API (HTTP 404 at every path" in done.err
    assert "for its path; then: thv-llm setup --openai-path-prefix PATH" in done.err
    assert done.err.endswith("Skipped: OpenCode (the reasons are above).\n")
    assert here.wired == ["claude-code", "opencode"]
    assert named.code is ExitCode.DONE, "what the user types stands"


def test_one_that_was_configured_before_stays_and_doctor_fails(tmp_path: Path) -> None:
    with machine(tmp_path, "with /anthropic") as here:
        here.setup("--models", "m-1")
        here.gateway.openai_paths = ()

        again = here.setup("--models", "m-1")

        assert (
            "then: thv-llm setup --openai-path-prefix PATH; until then: thv-llm teardown opencode"
            in again.err
        )
        assert "no OpenAI API there" in " ".join(here.run("doctor").out.split())
        assert "opencode" in here.wired


@pytest.mark.parametrize("status", [401, 403, 429, 500, 302])
def test_what_is_not_known_to_be_absent_is_configured(tmp_path: Path, status: int) -> None:
    with machine(tmp_path, "with /anthropic") as here:
        here.gateway.fault = lambda asked: (
            Fault(status, {"Location": "/elsewhere"}) if "chat" in asked.path else None
        )
        done = here.setup("--models", "m-1")

        assert done.code is ExitCode.DONE, done.err
        assert "opencode" in here.wired


def test_a_path_that_goes_away_is_a_fault_of_doctor(tmp_path: Path) -> None:
    with machine(tmp_path, "with /anthropic") as here:
        here.setup()
        here.gateway.anthropic_paths = ("",)

        done = here.run("doctor")

        assert done.code is ExitCode.FAILED
        seen = " ".join(done.out.split())
        assert re.search(r"HTTP 404 from \S+/anthropic/v1/messages: no Anthropic API there", seen), seen
        assert here.setup().code is ExitCode.DONE
        assert "no Anthropic API" not in here.run("doctor").out


def test_a_url_that_ends_with_one_protocols_path_is_told_where_the_others_are(tmp_path: Path) -> None:
    with machine(tmp_path, "with /anthropic") as here:
        root = here.gateway.url
        here.gateway.url += "/anthropic"

        done = here.setup()

        assert f"the gateway serves OpenAI and Gemini's API at {root}, not below {root}/anthropic" in done.err
        here.gateway.url = root
        assert "serves" not in here.setup().err
        wanted = settings.load(here.paths.settings)
        assert (wanted.gateway_url, wanted.anthropic_path_prefix) == (root, "/anthropic")


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/chat/completions", "/anthropic/v1/messages", "/v1/models"]
)
def test_the_url_of_a_single_endpoint_is_refused(here: Machine, path: str) -> None:
    here.gateway.url += path

    done = here.setup("--lazy")

    assert done.code is ExitCode.USAGE
    assert "without the path of a single endpoint" in done.err


LOGIN_PAGE = "<!doctype html><title>Sign in</title><form><input name=password></form>"
FRONTS = {
    "a redirect to another host": ServerResponse(
        302, b"", {"Location": "https://team.cloudflareaccess.com/cdn-cgi/x"}
    ),
    "a redirect to a login here": ServerResponse(307, b"", {"Location": "/oauth2/start?rd=%2Fv1%2Fmodels"}),
    "the login page itself": ServerResponse(200, LOGIN_PAGE),
    "a login page with 401": ServerResponse(401, LOGIN_PAGE),
}


@pytest.mark.parametrize("name", FRONTS)
def test_a_sign_in_proxy_in_front_is_called_that(here: Machine, name: str) -> None:
    with WebServer(lambda _: FRONTS[name]) as front:
        here.gateway.url = front.url
        setup = here.setup()
        doctor = here.run("doctor")
        here.run("logout")
        logged_out = here.run("doctor")

    assert setup.err.count("a sign-in proxy stands in front of the gateway") >= 1
    for done in (doctor, logged_out):
        assert "FAIL  gateway" in done.out
        assert done.out.count("a sign-in proxy stands in front of the gateway") == 1
        assert "API there" not in done.out


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (301, {"location": "https://g/v1/models/"}, b""),
        (308, {"location": "/v2/models"}, b""),
        (304, {}, b""),
        (404, {"content-type": "text/html"}, b"<h1>not found</h1>"),
        (200, {"content-type": "application/json"}, b'{"form": "<form> sign in"}'),
    ],
)
def test_another_response_is_no_login_page(status: int, headers: dict[str, str], body: bytes) -> None:
    assert gateway.sign_in_host(response_with("g", status, headers, body)) == ""


@pytest.mark.parametrize("verb", [["login"], ["token", "--login"]])
def test_without_a_token_the_root_is_written_and_the_first_login_finds_out(
    tmp_path: Path, verb: list[str]
) -> None:
    with machine(tmp_path, "a path for each protocol") as here:
        here.setup("--lazy", "--models", "m-1")
        lazy = settings.load(here.paths.settings)
        changed = here.home / ".qwen" / "settings.json"
        changed.write_text(changed.read_text().replace("thv-llm", "mine"))
        kept = changed.read_bytes()

        login = here.run(*verb)

        after = settings.load(here.paths.settings)
        conditions = {one.tool: one.condition.value for one in checks_of(here).drift}
        assert lazy.anthropic_path_prefix is None
        prefixes = (after.anthropic_path_prefix, after.openai_path_prefix, after.gemini_path_prefix)
        assert prefixes == ("/anthropic", "/openai", "/gemini")
        assert f"Claude Code: changed {here.claude}\n" in login.err
        assert f"{here.gateway.url}/anthropic" in here.claude.read_text()
        assert conditions == {"qwen-code": "changed"}, "what a user has changed is left alone"
        assert changed.read_bytes() == kept
        assert "changed" not in here.run("login", "--force").err


def test_the_first_login_names_the_tools_that_cannot_work_and_the_models(tmp_path: Path) -> None:
    with machine(tmp_path, "behind /v1 only") as here:
        here.setup("--lazy", "--client", "codex", "--client", "claude-code")

        login = here.run("login")

    assert "Claude Code will not work: the gateway does not serve Anthropic's API" in login.err
    assert "Found, not configured: pi, OpenCode, Gemini CLI, Qwen Code.\n  next: thv-llm setup\n" in login.err
    assert "Codex will" not in login.err


def checks_of(here: Machine) -> checks.Installation:
    return checks.Installation(here.environ, here.paths, "linux", time.time)


def test_a_gateway_that_refuses_the_token_changes_no_path(tmp_path: Path) -> None:
    with machine(tmp_path, "a path for each protocol") as here:
        here.setup()
        before = settings.load(here.paths.settings)

        def refuse(_: Received) -> Fault:
            return Fault(403)

        here.gateway.fault = refuse
        here.setup("--models", "m-1")
        assert settings.load(here.paths.settings)._replace(models=()) == before


def test_the_table_names_what_is_asked_for_and_leaves_out_others_hosts() -> None:
    anthropic = PROTOCOLS[0]
    assert gateway.candidates("https://x.cloud.databricks.com", anthropic)[0] == "/ai-gateway/anthropic"
    assert "/ai-gateway/anthropic" not in gateway.candidates("https://llm.example.com", anthropic)
    assert "/api/v2/aibridge/anthropic" in gateway.candidates("https://llm.example.com", anthropic)


@pytest.mark.parametrize("known", GATEWAYS, ids=lambda known: known.title)
def test_the_manual_says_where_a_known_gateway_serves_what(known: gateway.KnownGateway) -> None:
    (row,) = [line for line in help.page("gateways").splitlines() if line.startswith(f"| {known.title} |")]

    assert re.findall("`(/[^`]*)`", row.split("|")[3]) == list(filter(None, dict.fromkeys(known.prefixes)))
