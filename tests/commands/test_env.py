from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import homes
from tests.commands.homes import Home
from thv_llm import cli, state
from thv_llm.commands import env, parser
from thv_llm.errors import NotConfiguredError, UsageError
from thv_llm.state import Edition, WiredFile, WiredTool

NASTY = "it's a \"$HOME\" `id` \\ %x; \u2019 \\'"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = homes.make(tmp_path)
    home.configure(anthropic_path_prefix="/anthropic")
    return home


def test_it_exports_what_the_libraries_look_for(home: Home) -> None:
    done = home.run("env", "--shell", "sh")
    key = state.load(home.paths.state).keys["env"].reveal()

    assert done.out.splitlines() == [
        "export OPENAI_BASE_URL=http://127.0.0.1:14000/v1",
        "export OPENAI_API_BASE=http://127.0.0.1:14000/v1",
        f"export OPENAI_API_KEY={key}",
        "export OPENAI_AGENTS_DISABLE_TRACING=1",
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:14000/anthropic",
        "export ANTHROPIC_API_BASE=http://127.0.0.1:14000/anthropic",
        "export ANTHROPIC_API_URL=http://127.0.0.1:14000/anthropic",
        f"export ANTHROPIC_API_KEY={key}",
        f"export ANTHROPIC_AUTH_TOKEN={key}",
        "export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:14000",
        "export GEMINI_API_BASE=http://127.0.0.1:14000/v1beta",
        f"export GEMINI_API_KEY={key}",
    ]


def test_what_only_keeps_requests_from_going_elsewhere_yields_to_the_users_own(tmp_path: Path) -> None:
    home = homes.make(tmp_path, OPENAI_AGENTS_DISABLE_TRACING="0")
    home.configure()

    assert "OPENAI_AGENTS_DISABLE_TRACING" not in home.run("env", "--shell", "sh").out


def wire_claude_code(home: Home) -> None:
    files = (WiredFile(str(home.path / "settings.json"), "json", (Edition((), after="", wanted=""),)),)
    state.update(home.paths, lambda known: state.with_tool(known, WiredTool("claude-code", "direct", files)))


def test_what_a_configured_direct_tool_would_obey_is_left_out_as_a_whole(home: Home) -> None:
    """With ANTHROPIC_AUTH_TOKEN set, Claude Code sent the proxy's key to the gateway."""
    wire_claude_code(home)

    done = home.run("env", "--shell", "sh")

    assert "ANTHROPIC" not in done.out
    assert "OPENAI_BASE_URL" in done.out
    assert "GEMINI_API_KEY" in done.out
    assert "Claude Code is configured without them" in done.err
    assert "thv-llm run --tool anthropic -- CMD" in done.err


def test_a_tool_by_name_gets_its_variables_and_no_others(home: Home) -> None:
    wire_claude_code(home)
    home.configure(models=["m-1"])
    key = state.keys(home.paths, ["openhands"])["openhands"].reveal()

    assert "ANTHROPIC_API_KEY" in home.run("env", "--tool", "anthropic").out
    assert home.run("env", "--tool", "openhands", "--shell", "sh").out.splitlines() == [
        "export LLM_MODEL=openai/m-1",
        "export LLM_BASE_URL=http://127.0.0.1:14000/v1",
        f"export LLM_API_KEY={key}",
    ]
    assert home.run("env", "--tool", "openhands", "--unset", "--shell", "sh").out.split() == [
        *("unset", "LLM_MODEL", "unset", "LLM_BASE_URL", "unset", "LLM_API_KEY")
    ]


def test_a_tool_with_files_of_its_own_is_sent_to_setup(home: Home) -> None:
    with pytest.raises(UsageError, match="no environment variables configure 'codex'") as caught:
        home.run("env", "--tool", "codex")
    assert caught.value.next_step == "thv-llm setup --client codex"
    with pytest.raises(UsageError, match="Did you mean `anthropic`"):
        home.run("env", "--tool", "antropic")
    with pytest.raises(UsageError, match="it is one of: openai, anthropic, gemini, openhands"):
        home.run("env", "--tool", "nonsense")


def test_it_says_when_the_proxy_does_not_run(home: Home) -> None:
    assert "thv-llm proxy start --background" in home.run("env").err


def test_it_warns_of_a_proxy_in_the_environment(tmp_path: Path) -> None:
    home = homes.make(tmp_path, HTTP_PROXY="http://proxy:3128")
    home.configure()

    assert "NO_PROXY" in home.run("env").err


@pytest.mark.parametrize(
    ("shell", "first"),
    [
        ("/bin/zsh", "export OPENAI_BASE_URL="),
        ("/usr/bin/fish", "set -gx OPENAI_BASE_URL "),
        ("/opt/pwsh", "$env:OPENAI_BASE_URL = "),
        ("/bin/csh", "export OPENAI_BASE_URL="),
        ("", "export OPENAI_BASE_URL="),
    ],
)
def test_the_shell_is_known_from_the_environment(tmp_path: Path, shell: str, first: str) -> None:
    home = homes.make(tmp_path, SHELL=shell)
    home.configure()

    assert home.run("env").out.startswith(first)
    if (name := shell.rpartition("/")[2]) in env.DIALECTS:
        assert home.run("env", "--shell", name).out.startswith(first)


def test_on_windows_it_is_powershell_unless_something_else_says_so(home: Home) -> None:
    for environ, shell in (
        ({}, "powershell"),
        ({"SHELL": r"/usr/bin/bash.exe"}, "sh"),
        ({"SHELL": "/c/pwsh.exe"}, "powershell"),
    ):
        context = dataclasses.replace(home.context(), environ=environ, platform="win32")
        assert env._own_shell(context) == env.DIALECTS[shell]


def test_cmd_gets_a_line_in_which_nothing_is_escaped() -> None:
    assert env.DIALECTS["cmd"].assignment("X", "a'b c&d") == 'set "X=a\'b c&d"'
    assert env.DIALECTS["cmd"].unset.format(name="X") == 'set "X="'


@pytest.mark.parametrize("shell", ["sh", "fish", "powershell", "cmd"])
def test_unset_names_every_variable_and_needs_no_settings(tmp_path: Path, shell: str) -> None:
    lines = homes.make(tmp_path).run("env", "--unset", "--shell", shell).out.splitlines()

    assert [name for name in env.VARIABLES if not any(name in line for line in lines)] == []
    assert len(lines) == len(env.VARIABLES)


def test_without_settings_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotConfiguredError):
        homes.make(tmp_path).run("env")


@pytest.mark.parametrize(
    ("shell", "command"),
    [("sh", ["sh", "-c"]), ("sh", ["zsh", "-f", "-c"]), ("fish", ["fish", "--no-config", "-c"])],
)
def test_any_value_arrives_unchanged_in_the_shell(shell: str, command: list[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    script = f"{env.DIALECTS[shell].assignment('X', NASTY)}\nprintenv X"
    done = subprocess.run(
        [*command, script],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )

    assert done.stdout == f"{NASTY}\n"


def test_powershell_doubles_every_kind_of_single_quote() -> None:
    assert env.POWERSHELL.assignment("X", "a'b\u2019c") == "$env:X = 'a''b\u2019\u2019c'"


def test_every_verb_has_a_summary_and_examples() -> None:
    for verb in cli.VERBS:
        command = cli._command(verb)
        assert len(f"  {verb:<12}{command.SUMMARY}") <= 80
        examples = parser.examples(f"thv-llm {verb}")
        assert "thv-llm" in "\n".join(examples)
        assert all(len(line) <= 78 for line in examples)
