"""Setting up: what is written, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shlex
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands.homes import Run
from tests.commands.machine import CLAUDE, Machine
from tests.fakes.browser import no_browser
from tests.fakes.gateway import FakeGateway
from tests.fakes.web import ServerResponse
from thv_llm import cli, settings, state
from thv_llm.commands import parser as flags
from thv_llm.tools import engine

BY_HAND = "thv-llm tools claude-code (shows what to add by hand)"


def test_setup_logs_in_and_wires_every_tool_that_it_finds(here: Machine) -> None:
    done = here.setup()

    assert done.code == 0, done.err
    assert done.out == ""
    assert here.wired == ["claude-code", "opencode"]
    claude = json.loads(here.claude.read_text())
    assert claude["apiKeyHelper"] == f"{here.paths.helper} --tool claude-code"
    assert claude["env"]["ANTHROPIC_BASE_URL"] == f"{here.gateway.url}/anthropic"
    assert claude["model"] == "opus"
    opencode = here.opencode.read_text()
    assert f"http://127.0.0.1:{here.port}/v1" in opencode
    assert "// mine" in opencode
    assert '"m-1"' in opencode
    assert str(here.claude) in done.err
    assert "thv-llm teardown" in done.err
    assert settings.load(here.paths.settings).gateway_url == here.gateway.url


def test_setup_then_teardown_gives_every_byte_and_mode_back(here: Machine) -> None:
    here.claude.chmod(0o640)
    before = here.snapshot()

    assert here.setup().code == 0
    assert here.snapshot() != before
    undone = here.run("teardown")

    assert undone.code == 0, undone.err
    assert here.snapshot() == before
    assert here.wired == []


def test_a_second_setup_changes_nothing_and_teardown_still_finds_the_first_state(here: Machine) -> None:
    before = here.snapshot()
    here.setup()
    wired = here.snapshot()
    record = Path(here.paths.state).read_bytes()

    again = here.setup()

    assert again.code == 0
    assert here.snapshot() == wired
    assert "already configured" in again.err
    assert "running sessions pick it up" not in again.err  # they have
    assert json.loads(Path(here.paths.state).read_bytes())["wired"] == json.loads(record)["wired"]
    here.run("teardown")
    assert here.snapshot() == before


def test_files_that_setup_made_are_gone_after_teardown_and_so_are_their_directories(here: Machine) -> None:
    here.claude.unlink()
    here.opencode.unlink()
    here.claude.parent.rmdir()
    here.opencode.parent.rmdir()

    assert here.setup().code == 0
    assert here.claude.stat().st_mode & 0o777 == 0o600
    assert here.run("teardown").code == 0

    assert not here.claude.parent.exists()
    assert not here.opencode.parent.exists()


def test_a_second_login_is_not_asked_for_while_the_session_is_good(here: Machine) -> None:
    here.setup()
    here.open_browser = no_browser

    assert "Already logged in" in here.setup().err


def refused_client(_: ServerResponse) -> ServerResponse:
    return ServerResponse(401, {"error": "invalid_client"})


def refused_by_the_user(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("error", "access_denied"), *(pair for pair in pairs if pair[0] != "code")]


@pytest.mark.parametrize("fault", ["authority", "scopes", "client", "user"])
def test_the_line_that_a_first_setup_prints_when_it_fails_works_as_it_is(here: Machine, fault: str) -> None:
    at = here.connection.index("--ca-file")
    ca_file = here.connection[at + 1]
    words = here.connection if fault != "authority" else here.connection[:at] + here.connection[at + 2 :]
    if fault == "scopes":
        here.provider.scopes = frozenset({"openid", "offline_access"})
        words = [*words, "--scopes", "openid of-nobody"]
    elif fault == "client":
        here.provider.alter["token"] = refused_client
    elif fault == "user":
        here.provider.alter_callback = refused_by_the_user

    refused = here.run("setup", *words, "--no-service", "--client", "claude-code")
    here.provider.alter.clear()
    here.provider.alter_callback = None
    line = refused.err.partition("  next: ")[2].partition("thv-llm ")[2].splitlines()[0]
    values = {"FILE": ca_file, "LIST": "openid offline_access", "ID": "thv-llm"}
    done = here.run(*(values.get(word, word) for word in shlex.split(line)))

    assert refused.code != 0
    assert done.code == 0, f"{line}: {done.err}"
    assert here.wired == ["claude-code"]
    assert settings.load(here.paths.settings).proxy_port == here.port


@pytest.mark.posix
def test_what_is_in_the_place_of_the_socket_is_found_before_the_login_and_stays(here: Machine) -> None:
    path = Path(here.paths.socket)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text("mine")

    refused = here.setup()
    removed = here.run("uninstall", "--yes")

    assert refused.code == 1
    assert f"next: mv {path} {path}.old && thv-llm setup --gateway-url" in refused.err
    assert here.provider.count("authorize") == 0
    assert removed.code == 0
    assert f"Left {path}" in removed.err
    assert path.read_text() == "mine"


def test_the_line_that_a_failed_setup_prints_has_no_secret_of_a_url_in_it() -> None:
    words = ["setup", "--from", "https://example.com/team.toml?sig=canary-of-this-test", "--skip-browser"]
    args = cli.build_parser("setup").parse_args(words)

    assert flags.retyped("thv-llm login", args) == "thv-llm setup --from URL --skip-browser"
    assert flags.retyped("thv-llm login --device-code", args) == "thv-llm setup --from URL --device-code"
    assert flags.retyped("thv-llm setup --help", args) == "thv-llm setup --help"


def test_the_line_that_a_failed_setup_prints_can_be_typed_when_the_url_stood_behind_a_mark() -> None:
    args = cli.build_parser("setup").parse_args(["setup", "--yes", "--", "https://llm.example.com"])

    again = flags.retyped("thv-llm setup --audience NAME", args)

    assert again == "thv-llm setup https://llm.example.com --yes --audience NAME"
    cli.build_parser("setup").parse_args(again.split()[1:])


def test_a_dry_run_shows_the_changes_and_makes_none(here: Machine) -> None:
    before = here.snapshot()
    here.open_browser = no_browser

    done = here.setup("--dry-run")

    assert done.code == 0
    assert "+++ " in done.out
    assert "apiKeyHelper" in done.out
    assert here.snapshot() == before
    assert not Path(here.paths.directory).exists()
    assert here.gateway.requests == []
    assert here.provider.requests == []


def test_without_a_tool_the_settings_are_saved_and_a_later_setup_needs_no_flags(here: Machine) -> None:
    remove_tools(here)
    here.open_browser = no_browser

    done = here.setup()

    assert done.code == 0
    assert "Looked for Claude Code" in done.err
    saved = "Settings saved. No AI tool found yet; run thv-llm setup again after installing one."
    assert done.err.endswith(saved + "\n")
    assert settings.load(here.paths.settings).gateway_url == here.gateway.url
    here.install("claude")
    assert here.run("setup", "--lazy", "--no-service").code == 0
    assert here.wired == ["claude-code"]


def remove_tools(here: Machine) -> None:
    for path in (here.claude, here.opencode, here.home / "bin" / "claude", here.home / "bin" / "opencode"):
        path.unlink()
    for directory in (here.claude.parent, here.opencode.parent):
        directory.rmdir()


@pytest.mark.parametrize(
    ("program", "title", "next_step"),
    [
        ("cursor", "Cursor", "Override OpenAI Base URL"),
        ("windsurf", "Windsurf", "thv-llm tools"),
        ("crush", "Crush", "crush.json"),
        ("openhands", "OpenHands CLI", "thv-llm tools openhands"),
    ],
)
def test_a_tool_that_cannot_be_configured_is_named_with_the_reason(
    here: Machine, program: str, title: str, next_step: str
) -> None:
    remove_tools(here)
    here.install(program)

    done = here.setup()

    assert done.code == 0
    assert f"Found {title}: {engine.by_name(program).reason}." in done.err
    assert next_step in done.err
    assert "No AI tool" not in done.err
    assert "Looked for" not in done.err
    assert "Settings saved. Found no tool that setup can configure" in done.err
    assert settings.load(here.paths.settings).gateway_url == here.gateway.url


def test_beside_a_tool_that_is_configured_the_others_are_named_too(here: Machine) -> None:
    here.install("cursor")
    (here.home / ".codeium" / "windsurf").mkdir(parents=True)

    done = here.setup()

    assert done.code == 0
    assert here.wired == ["claude-code", "opencode"]
    assert "Found Cursor: it sends every request" in done.err
    assert f"Found Windsurf ({here.home}/.codeium/windsurf): " in done.err


def test_an_option_without_effect_is_said(here: Machine) -> None:
    done = here.setup("--client", "opencode", "--bedrock-compat", "--models", "m-1", "--models", "m-2")

    assert done.code == 0
    assert "Note: --bedrock-compat has no effect here" in done.err
    assert settings.load(here.paths.settings).models == ("m-1", "m-2")
    assert {"m-1", "m-2"} <= set(here.opencode.read_text().split('"'))
    again = here.run("config", "set", "--no-bedrock-compat", "--enable-1m")
    assert "Note: --enable-1m has no effect without --bedrock-compat.\n  next: thv-llm setup" in again.err
    assert "Note: " not in here.run("setup", "--no-service", "--no-enable-1m").err


def test_codex_gets_a_model_of_the_gateways_where_it_has_none(here: Machine) -> None:
    codex = here.home / ".codex" / "config.toml"
    here.setup("--client", "codex")
    assert 'model = "m-1"' in codex.read_text()
    here.run("teardown")

    here.write(codex, 'model = "mine"\n')
    done = here.setup("--client", "codex")
    assert codex.read_text().startswith('model = "mine"\n')
    assert "your model stays" in done.err
    here.run("teardown")
    assert codex.read_text() == 'model = "mine"\n'


def test_a_named_tool_alone_is_touched_whatever_else_the_settings_change(here: Machine) -> None:
    here.setup()
    here.install("codex")
    claude = here.claude.read_bytes()

    done = here.setup("--client", "codex", "--bedrock-compat", "--models", "claude-opus-9", "--yes")

    assert done.code == 0
    assert here.claude.read_bytes() == claude
    assert "Claude Code:" not in done.err


def test_a_file_that_does_not_parse_is_skipped_with_line_and_column_and_the_others_go_on(
    here: Machine,
) -> None:
    here.write(here.claude, '{\n  "model": oops\n}\n')

    done = here.setup()

    assert done.code == 0
    assert f"{here.claude}:2:12" in done.err
    assert here.wired == ["opencode"]
    assert here.claude.read_text() == '{\n  "model": oops\n}\n'


def test_when_every_file_is_broken_setup_fails_before_the_login(here: Machine) -> None:
    here.write(here.claude, "{")
    here.write(here.opencode, "[")
    here.open_browser = no_browser

    done = here.setup()

    assert done.code == 1
    assert done.err.endswith("Settings saved. No tool was configured.\n")
    assert settings.load(here.paths.settings).gateway_url == here.gateway.url


def test_a_refused_login_leaves_every_file_as_it_was(here: Machine) -> None:
    before = here.snapshot()
    here.provider.alter_callback = lambda pairs: [
        ("error", "access_denied"),
        *[pair for pair in pairs if pair[0] in ("state", "iss")],
    ]

    done = here.setup()

    assert done.code == 1
    assert "access_denied" in done.err
    assert here.snapshot() == before
    assert not Path(here.paths.settings).exists()


def test_a_provider_that_is_down_is_exit_6_and_leaves_every_file_as_it_was(here: Machine) -> None:
    before = here.snapshot()
    here.provider.alter["discovery"] = lambda response: ServerResponse(503, "down")

    done = here.setup()

    assert done.code == 6
    assert "  next: " in done.err
    assert here.snapshot() == before
    assert not Path(here.paths.settings).exists()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--gateway-url", "http://llm.example.com"], 2, "gateway_url"),
        (["--gateway-url", "https://u:hunter2@llm.example.com"], 2, "user info"),
        (["--gateway-url", "https://llm.example.com?x=1"], 2, "query"),
        (["--gateway-url", "https://"], 2, "host"),
        (["--proxy-port", "70000"], 2, "proxy.listen_port"),
        (["--client", "notepad"], 2, "notepad"),
        (["--issuer", "https://127.0.0.1:1/other"], 6, "127.0.0.1"),
    ],
)
def test_bad_input_is_one_error_and_changes_nothing(
    here: Machine, flags: list[str], code: int, said: str
) -> None:
    before = here.snapshot()
    here.open_browser = no_browser

    done = here.setup(*flags)

    assert done.code == code, done.err
    assert said in done.err
    assert "hunter2" not in done.err
    assert here.snapshot() == before
    assert not Path(here.paths.settings).exists()


def test_an_issuer_that_is_not_the_documents_is_refused_with_both_names(here: Machine) -> None:
    done = here.setup("--issuer", here.provider.issuer + "/")

    assert done.code == 6
    assert here.provider.issuer in done.err
    assert not Path(here.paths.settings).exists()


def test_missing_settings_are_named_with_the_command(here: Machine) -> None:
    done = here.run("setup", "--gateway-url", here.gateway.url)

    assert done.code == 5
    assert "oidc.issuer, oidc.client_id" in done.err


def test_a_settings_file_that_is_not_toml_is_named_with_its_place(here: Machine) -> None:
    here.write(Path(here.paths.settings), "gateway_url = \nx")

    done = here.setup()

    assert done.code == 1
    assert here.paths.settings in done.err
    assert "line 1" in done.err


def test_a_foreign_process_on_the_port_costs_only_the_proxy_tools(here: Machine) -> None:
    with socket.create_server(("127.0.0.1", here.port)) as foreign:
        done = here.setup(with_service=True)
        again = here.run("setup", "--client", "opencode")
        seen = [_received(foreign) for _ in range(3) if _is_waiting(foreign)]

    assert done.code == 0
    assert f"Skipped OpenCode: port {here.port} on 127.0.0.1, the proxy's, is used by" in done.err
    assert f"  next: thv-llm setup --proxy-port {here.port + 1}\n" in done.err
    assert done.err.endswith("Skipped: OpenCode (the reasons are above).\n")
    assert here.wired == ["claude-code"]
    assert (again.code, again.err.count("Skipped OpenCode")) == (1, 1)
    assert set(seen) <= {b""}, "something was sent to it"
    assert here.run("setup", "--proxy-port", str(here.port + 1)).code == 0
    assert here.wired == ["claude-code", "opencode"]
    assert here.run("teardown").code == 0


def _received(listener: socket.socket) -> bytes:
    with listener.accept()[0] as connection:
        return connection.recv(1)


def _is_waiting(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def test_settings_that_cannot_be_saved_stop_setup_before_anything_is_changed(here: Machine) -> None:
    here.setup()
    before = here.snapshot()
    elsewhere = here.home.parent / "settings.toml"
    shutil.move(here.paths.settings, elsewhere)
    elsewhere.chmod(0o444)
    Path(here.paths.settings).symlink_to(elsewhere)
    before = here.snapshot()
    here.open_browser = no_browser

    done = here.setup("--audience", "other")

    assert done.code == 1
    assert f"cannot write {here.paths.settings}" in done.err
    assert here.snapshot() == before
    assert here.setup().code == 0, "nothing has to be saved"


def test_settings_in_a_read_only_store_need_no_write_for_what_is_found_each_time(here: Machine) -> None:
    here.setup()
    here.run("teardown")
    path, store = Path(here.paths.settings), here.home.parent / "store.toml"
    text = "".join(line for line in path.read_text().splitlines(True) if "path" not in line)
    path.unlink()
    store.write_text(text)
    store.chmod(0o444)
    path.symlink_to(store)

    done = here.run("setup", "--yes", "--no-service")

    assert done.code == 0, done.err
    assert "Not saved: anthropic_path_prefix" in done.err
    assert f"cannot write {path}" in done.err
    assert here.wired == ["claude-code", "opencode"]
    assert json.loads(here.claude.read_text())["env"]["ANTHROPIC_BASE_URL"].endswith("/anthropic")
    assert (store.read_text(), path.is_symlink()) == (text, True)


@pytest.mark.parametrize("mode", [0o444, 0o400, 0o644])
def test_our_own_settings_are_saved_whatever_their_mode(here: Machine, mode: int) -> None:
    here.setup()
    Path(here.paths.settings).chmod(mode)

    done = here.setup("--models", "m-1")

    assert done.code == 0, done.err
    assert settings.load(here.paths.settings).models == ("m-1",)
    assert stat.S_IMODE(Path(here.paths.settings).stat().st_mode) == mode


def test_a_read_only_file_of_one_tool_is_found_before_the_login(here: Machine) -> None:
    here.claude.chmod(0o400)

    done = here.setup()

    assert done.code == 0
    assert "Skipped Claude Code: cannot write" in done.err
    assert done.err.index("Skipped Claude Code") < done.err.index("Logged in")
    assert here.wired == ["opencode"]


def a_dangling_directory(path: Path) -> str:
    shutil.rmtree(path.parent)
    path.parent.symlink_to("/nonexistent/place")
    return f"{path.parent} is a symbolic link to a directory that does not exist"


def a_file_in_a_store(path: Path) -> str:
    store = path.parent.parent.parent / "store"
    store.mkdir()
    shutil.move(path, store / "settings")
    path.symlink_to(store / "settings")
    (store / "settings").chmod(0o444)
    store.chmod(0o555)
    return f"it is read-only, and so is its directory; it lies at {store / 'settings'}"


@pytest.mark.parametrize(
    ("make", "next_step"),
    [(a_dangling_directory, "make that directory or remove the link"), (a_file_in_a_store, BY_HAND)],
)
def test_what_cannot_be_written_is_found_before_the_login(
    here: Machine, make: Callable[[Path], str], next_step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is a_file_in_a_store and os.geteuid() == 0:  # whom modes do not stop
        really = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: "store" not in str(path) and really(path, mode))
    why = make(here.claude)

    done = here.setup()

    assert done.code == 0, done.err
    assert f"Skipped Claude Code: cannot write {here.claude}: {why}\n  next: {next_step}" in done.err
    assert done.err.index("Skipped Claude Code") < done.err.index("Logged in")
    assert here.wired == ["opencode"]
    assert here.run("tools", "claude-code").code == 0


@contextlib.contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)  # a worker lingers


@contextlib.contextmanager
def immutable(path: Path, flag: str) -> Iterator[None]:
    subprocess.run(["chattr", f"+{flag}", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{flag}", path], check=True)


@pytest.mark.root
def test_a_file_that_is_mounted_by_itself_is_found_before_the_login(here: Machine) -> None:
    here.write(here.home / "on the host", CLAUDE)
    here.claude.unlink()
    here.claude.with_name("a b").write_text("")
    here.claude.symlink_to("a b")
    with mounted("--bind", str(here.home / "on the host"), str(here.claude.with_name("a b"))):
        done = here.setup()
        assert here.claude.read_text() == CLAUDE.replace("\r", "")

    assert done.code == 0, done.err
    assert "it is mounted by itself (a bind mount)" in done.err
    assert f"  next: {BY_HAND}\n" in done.err
    assert done.err.index("Skipped Claude Code") < done.err.index("Logged in")
    assert here.wired == ["opencode"]


@pytest.mark.root
@pytest.mark.parametrize("flag", ["i", "a"])
def test_a_file_that_the_system_protects_is_found_before_the_login(here: Machine, flag: str) -> None:
    with immutable(here.claude, flag):
        done = here.setup()

    assert done.code == 0, done.err
    assert "it is immutable or append-only (chattr)\n" in done.err
    assert f"  next: sudo chattr -ia {here.claude}" in done.err
    assert done.err.index("Skipped Claude Code") < done.err.index("Logged in")
    assert here.wired == ["opencode"]


@pytest.mark.root
def test_in_a_directory_without_programs_the_shell_runs_the_helper(here: Machine) -> None:
    own = Path(here.paths.directory)
    own.mkdir(parents=True)
    own.chmod(0o700)
    with mounted("-t", "tmpfs", "-o", "noexec,mode=0700", "tmpfs", str(own)):
        done = here.setup("--client", "claude-code")
        command = json.loads(here.claude.read_text())["apiKeyHelper"]
        token = subprocess.run(command, shell=True, env=here.environ, capture_output=True, check=False)
        checks = json.loads(here.run("doctor", "--format", "json").out)["checks"]
        torn_down = here.run("teardown")

    assert done.code == 0, done.err
    assert command.startswith(f"/bin/sh {here.paths.helper}")
    assert token.stdout, token.stderr
    assert [one["level"] for one in checks if one["name"] == "helper"] == ["ok"]
    assert torn_down.code == 0
    assert here.claude.read_bytes() == CLAUDE.encode()


def test_a_gateway_that_names_no_models_costs_only_the_tools_that_need_them(here: Machine) -> None:
    here.gateway.models = ()

    done = here.setup()

    assert done.code == 0
    assert here.wired == ["claude-code"]
    assert "--models" in done.err


def test_a_dry_run_says_what_would_be_saved_where_no_file_would_change(here: Machine) -> None:
    new = here.setup("--client", "claude-code", "--dry-run").err
    here.setup()
    given = here.setup("--models", "m-1,m-2", "--dry-run")
    here.setup("--models", "m-1,m-2")
    done = here.setup("--dry-run")

    assert "Settings that would be saved: gateway_url, oidc.issuer" in new
    assert (given.out, done.out) == ("", "")
    assert "Settings that would be saved: models.\nNothing was changed (--dry-run).\n" in given.err
    assert "Everything is as setup would leave it." in done.err


def test_the_place_of_anthropics_api_is_kept_and_asked_for_anew_at_another_gateway(here: Machine) -> None:
    here.setup()
    assert settings.load(here.paths.settings).anthropic_path_prefix == "/anthropic"
    with FakeGateway(here.provider.verify_access_token, anthropic_paths=("",)) as other:
        here.gateway = other
        dry = here.setup("--dry-run")
        done = here.setup()

    assert done.code == 0, done.err
    assert f'"ANTHROPIC_BASE_URL": "{other.url}"' in dry.out
    assert "will be asked where it serves each API" in dry.err
    assert json.loads(here.claude.read_text())["env"]["ANTHROPIC_BASE_URL"] == other.url
    assert settings.load(here.paths.settings).anthropic_path_prefix == ""


def test_a_place_of_anthropics_api_that_was_given_with_the_gateway_is_taken(here: Machine) -> None:
    here.setup("--anthropic-path-prefix", "/claude")
    here.gateway.url += "/team/v1"

    here.setup("--anthropic-path-prefix", "/claude")

    assert settings.load(here.paths.settings).anthropic_path_prefix == "/claude"
    claude = json.loads(here.claude.read_text())
    assert claude["env"]["ANTHROPIC_BASE_URL"] == here.gateway.url.removesuffix("/v1") + "/claude"


def test_models_on_the_command_line_are_offered_and_saved(here: Machine) -> None:
    here.setup("--models", "alpha,beta")

    assert '"alpha"' in here.opencode.read_text()
    assert settings.load(here.paths.settings).models == ("alpha", "beta")


def test_lazy_setup_of_a_user_who_is_logged_in_does_not_ask_for_a_login(here: Machine) -> None:
    here.setup("--models", "alpha")

    told = here.setup("--lazy", "--yes", "--models", "beta").err

    assert "What is left to do:" in told
    assert "thv-llm login" not in told


def test_lazy_setup_needs_no_login_and_the_first_token_says_what_to_run(here: Machine) -> None:
    here.open_browser = no_browser

    done = here.setup("--lazy", "--yes", "--models", "alpha")

    assert done.code == 0, done.err
    assert "What is left to do:\n  thv-llm login" in done.err
    assert here.wired == ["claude-code", "opencode"]
    token = here.run("token")
    assert (token.code, token.out) == (4, "")
    assert "thv-llm login" in token.err


def test_only_the_named_tool_is_wired(here: Machine) -> None:
    here.setup("--client", "opencode")

    assert here.wired == ["opencode"]
    again = here.setup("--client", "claude-code", "--models", "m-9")
    assert "OpenCode" not in again.err
    assert "m-9" not in here.opencode.read_text()


def test_a_named_tool_that_could_not_be_configured_is_exit_1(here: Machine) -> None:
    here.write(here.claude, "{")

    done = here.setup("--client", "claude-code", "--client", "opencode")

    assert done.code == 1
    assert here.wired == ["opencode"]


def test_a_named_tool_that_cannot_be_wired_is_skipped_with_the_reason(here: Machine) -> None:
    done = here.setup("--client", "cursor")

    assert done.code == 1
    assert f"Skipped Cursor: {engine.by_name('cursor').reason}" in done.err
    assert done.err.endswith("Settings saved. No tool was configured.\n")
    assert here.wired == []
    assert here.provider.requests == []


def test_at_a_terminal_a_no_stops_before_anything_is_changed(here: Machine) -> None:
    before = here.snapshot()

    done = here.setup(is_terminal=True, stdin="n\n")

    assert done.code == 1
    assert str(here.claude) in done.err
    assert here.provider.requests == []
    assert here.snapshot() == before
    assert not Path(here.paths.settings).exists()


def test_the_end_of_input_is_no_yes(here: Machine) -> None:
    before = here.snapshot()

    done = here.setup(is_terminal=True, stdin="")

    assert done.code == 1
    assert "[Y/n] \nthv-llm: error: cancelled\n  why:  nothing was changed" in done.err
    assert here.snapshot() == before


def test_an_unwritable_directory_is_named_and_the_other_tool_goes_on(here: Machine) -> None:
    target = here.home / "elsewhere"
    here.claude.unlink()
    here.claude.symlink_to(target)  # dangling: refused, because it is not known what it should be

    done = here.setup()

    assert done.code == 0
    assert str(here.claude) in done.err
    assert here.wired == ["opencode"]


def test_a_directory_too_deep_for_a_socket_stops_setup_before_anything_is_written(here: Machine) -> None:
    before = here.snapshot()
    here.environ["THV_LLM_HOME"] = str(here.home / ("deep" * 30))

    done = here.setup()

    assert done.code == 1
    assert "THV_LLM_SOCKET" in done.err
    assert here.snapshot() == before
    assert not Path(here.paths.directory).exists()


def test_another_client_id_leaves_the_session_behind_and_logout_ends_both(here: Machine) -> None:
    here.setup()

    done = here.setup("--client-id", "other")

    assert done.code == 0
    assert "belongs to the old values" in done.err
    assert here.provider.count("authorize") == 2

    done = here.run("logout")

    assert "Logged out." in done.err
    assert f"Ended the session of thv-llm at {here.provider.issuer}, from earlier settings." in done.err
    revoked = {request.form["client_id"] for name, request in here.provider.requests if name == "revoke"}
    assert revoked == {"thv-llm", "other"}


def test_two_setups_at_once_wire_once_and_teardown_finds_the_first_state(here: Machine) -> None:
    before = here.snapshot()
    done: list[Run] = []
    both = [threading.Thread(target=lambda: done.append(here.setup())) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(30)

    assert [run.code for run in done] == [0, 0], [run.err for run in done]
    assert here.wired == ["claude-code", "opencode"]
    here.run("teardown")
    assert here.snapshot() == before


def test_each_proxy_tool_has_a_key_of_its_own_until_its_teardown(here: Machine) -> None:
    here.environ["THV_LLM_SOCKET"] = str(here.home / "s")
    here.install("gemini")

    def status(key: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/models", headers={"x-api-key": key})
            return connection.getresponse().status

    def key(tool: str) -> str:
        return state.load(here.paths.state).keys[tool].reveal()

    try:
        assert here.setup("--models", "m-1", with_service=True).code == 0
        first, other = key("opencode"), key("gemini-cli")
        assert first in here.opencode.read_text()
        assert other in (here.home / ".gemini" / ".env").read_text()
        assert set(state.load(here.paths.state).keys) == {"opencode", "gemini-cli"}
        assert (status(first), status(other)) == (200, 200)

        assert here.run("teardown", "opencode").code == 0
        assert (status(first), status(other)) == (401, 200)

        shared = state.local_key(here.paths).reveal()  # as after an upgrade from 0.1.0
        state.update(here.paths, lambda old: replace(old, keys={}, is_shared=True))
        here.run("proxy", "restart")
        assert status(shared) == 200
        assert here.run("status").code == 1
        assert here.setup("--models", "m-1", with_service=True).code == 0
        assert status(shared) == 401
        assert status(key("opencode")) == status(key("gemini-cli")) == 200
        assert key("opencode") != first

        assert here.run("teardown").code == 0
        assert not state.load(here.paths.state).keys
    finally:
        here.run("proxy", "stop")


def test_a_user_who_does_not_continue_is_told_what_stays(here: Machine) -> None:
    told = here.setup("--skip-browser", is_terminal=True, stdin="n\n").err
    assert "why:  nothing was changed\n" in told

    here.run("config", "set", *here.connection)
    here.run("login")
    for answer in ("n\n", ""):
        told = here.setup(is_terminal=True, stdin=answer).err
        assert "nothing was changed; you stay logged in (thv-llm logout ends the session)" in told
    assert here.run("token").code == 0


def test_without_a_tool_a_lazy_setup_still_names_the_login(here: Machine) -> None:
    for path in (here.claude, here.opencode, here.home / "bin" / "claude", here.home / "bin" / "opencode"):
        path.unlink()
    for path in (here.claude.parent, here.opencode.parent):
        path.rmdir()

    told = here.setup("--lazy").err

    assert "Settings saved. No AI tool found yet" in told
    assert "What is left to do:\n  thv-llm login" in told
