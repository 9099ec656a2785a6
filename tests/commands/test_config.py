"""`config set`, `show` and `reset`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import homes
from tests.commands.machine import Machine

CONNECTION = (
    "--gateway-url",
    "https://llm.example.com/team/",
    "--issuer",
    "https://id.example.com",
    "--client-id",
    "c",
)


def test_before_setup_the_command_to_run_is_named(here: Machine) -> None:
    assert here.run("config", "show").out.startswith("not configured; run: thv-llm setup ")
    assert here.run("config", "show", "--format", "json").out == "{}\n"
    assert here.run("config", "show").code == 0


def test_what_was_set_is_shown_with_every_default(here: Machine) -> None:
    assert here.run("config", "set", *CONNECTION, "--models", "a,b").code == 0

    text = here.run("config", "show").out
    shown = json.loads(here.run("config", "show", "--format", "json").out)

    assert "https://llm.example.com/team" in text
    assert "14000" in text
    assert shown["gateway_url"] == "https://llm.example.com/team"
    assert shown["oidc"]["scopes"] == ["openid", "offline_access"]
    assert shown["proxy"] == {"listen_port": 14000, "require_key": True}
    assert shown["bedrock"] == {"compat": False, "enable_1m": False}
    assert shown["models"] == ["a", "b"]
    assert shown["auth"] == {"cached_token_expiry": None}
    assert shown["configured_tools"] == []


def test_the_place_of_anthropics_api_goes_with_its_gateway(here: Machine) -> None:
    assert "anthropic_path_prefix" not in here.run("config", "set", *CONNECTION).err
    here.run("config", "set", "--anthropic-path-prefix", "/anthropic")

    here.run("config", "set", *CONNECTION, "--client-id", "d")
    assert 'anthropic_path_prefix = "/anthropic"' in Path(here.paths.settings).read_text()

    here.run("config", "set", "--gateway-url", "https://other.example.com")
    assert "anthropic_path_prefix" not in Path(here.paths.settings).read_text()


def test_a_single_setting_can_be_changed_and_put_back(here: Machine) -> None:
    here.run("config", "set", *CONNECTION)
    here.run("config", "set", "--no-require-key", "--audience", "gw")
    assert "require_key = false" in Path(here.paths.settings).read_text()

    here.run("config", "set", "--require-key", "--audience", "")

    assert "require_key" not in Path(here.paths.settings).read_text()
    assert "audience" not in Path(here.paths.settings).read_text()


def test_wired_tools_are_shown_and_said_to_be_unchanged(here: Machine) -> None:
    here.setup()

    done = here.run("config", "set", "--proxy-port", "15000")
    shown = json.loads(here.run("config", "show", "--format", "json").out)

    assert "thv-llm setup updates them" in done.err
    assert [tool["tool"] for tool in shown["configured_tools"]] == ["claude-code", "opencode"]
    assert shown["configured_tools"][0]["config_path"] == str(here.claude)
    assert "claude-code (direct)" in here.run("config", "show").out


def test_a_change_of_what_the_session_is_for_says_how_to_end_it(here: Machine) -> None:
    here.setup("--lazy")
    assert "session" not in here.run("config", "set", "--client-id", "other").err.lower()
    here.run("login")

    assert "session" not in here.run("config", "set", "--proxy-port", "14001").err.lower()
    told = here.run("config", "set", "--audience", "elsewhere").err

    assert "The stored session belongs to the old values" in told
    assert "thv-llm logout" in told
    assert "session                 none" in here.run("config", "show").out
    status = here.run("status").out
    assert "session   not logged in" in status
    assert "a session of earlier settings is stored\n            next: thv-llm logout" in status

    assert "Ended the session of other at" in here.run("logout").err
    assert here.provider.count("revoke") == 1


def test_reset_is_refused_while_tools_are_wired(here: Machine) -> None:
    here.setup()

    done = here.run("config", "reset")

    assert done.code == 1
    assert "claude-code, opencode" in done.err
    assert "thv-llm teardown" in done.err
    assert Path(here.paths.settings).exists()


def test_reset_forgets_settings_and_session(here: Machine) -> None:
    here.setup()
    here.run("teardown")

    done = here.run("config", "reset")

    assert done.code == 0, done.err
    assert here.provider.count("revoke") == 1
    assert here.run("config", "show").out.startswith("not configured")
    left = {path.name for path in Path(here.paths.directory).rglob("*") if path.is_file()}
    assert not {name for name in left if not name.endswith(".lock")}


def test_reset_with_nothing_there_is_fine(here: Machine) -> None:
    assert here.run("config", "reset").code == 0


def test_a_gateway_that_is_not_checked_is_shouted_about(here: Machine) -> None:
    assert "WARNING" not in here.run("config", "set", *CONNECTION).err

    done = here.run("config", "set", "--tls-skip-verify")

    assert "WARNING: the gateway's certificate is NOT checked" in done.err
    assert "WARNING" in here.setup("--dry-run", "--tls-skip-verify").err


def test_get_prints_one_value_for_scripts(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    home.configure(models=("m-1", "m-2"))

    assert home.run("config", "get", "gateway_url").out == "https://llm.example.com\n"
    assert home.run("config", "get", "models").out == "m-1 m-2\n"
    assert home.run("config", "get", "proxy.require_key").out == "true\n"
    for unset in ("oidc.audience", "service.network", "openai_path_prefix"):
        assert home.run("config", "get", unset).out == "\n"


def test_a_byte_order_mark_in_the_settings_is_no_fault_and_stays(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    home.configure()
    path = Path(home.paths.settings)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    home.run("config", "set", "--models", "m-1")

    assert home.run("config", "get", "gateway_url").out == "https://llm.example.com\n"
    assert home.run("config", "get", "models").out == "m-1\n"
    assert path.read_bytes().count(b"\xef\xbb\xbf") == 1
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_value_that_is_there_already_changes_nothing_and_that_is_said(here: Machine) -> None:
    here.setup("--models", "m-1")

    assert "old values" not in here.run("config", "set", "--models", "m-1").err
    assert "old values" in here.run("config", "set", "--models", "m-2").err


def test_switches_take_true_and_false_and_lists_add_up(tmp_path: Path) -> None:
    home = homes.make(tmp_path)
    home.configure()
    home.run("config", "set", "--require-key=false", "--models", "a,b", "--models", "c")
    assert home.run("config", "get", "proxy.require_key").out == "false\n"
    assert home.run("config", "get", "models").out == "a b c\n"

    home.run("config", "set", "--require-key=true", "--models", "d")
    assert home.run("config", "get", "proxy.require_key").out == "true\n"
    assert home.run("config", "get", "models").out == "d\n"
