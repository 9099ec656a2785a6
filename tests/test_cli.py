"""What can be typed, and how a run ends."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests import environs
from tests.commands.homes import Stream
from thv_llm import __version__, cli
from thv_llm.context import Context
from thv_llm.errors import ExitCode, LoginRequiredError


@pytest.fixture
def context(tmp_path: Path) -> Context:
    environ = environs.user(tmp_path, PATH="/nonexistent")
    return Context(environ, io.StringIO(), io.StringIO(), io.StringIO())


def typed(context: Context, *arguments: str) -> tuple[int, str, str]:
    code = cli.bounded(list(arguments), context)
    assert isinstance(context.stdout, io.StringIO)
    assert isinstance(context.stderr, io.StringIO)
    return code, context.stdout.getvalue(), context.stderr.getvalue()


def test_help_leads_with_examples_and_lists_every_command(context: Context) -> None:
    code, out, err = typed(context, "--help")

    assert (code, err) == (0, "")
    assert out.index("thv-llm setup --gateway-url") < out.index("commands:")
    for verb in cli.VERBS:
        assert re.search(rf"^  {verb} ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_command_explains_itself_by_examples_in_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.build_parser(verb).parse_args([verb, "--help"])
    text = capsys.readouterr().out

    assert ended.value.code == 0

    assert "thv-llm " + verb in text.split("usage:")[0]
    assert max(map(len, text.splitlines())) <= 80, text


def test_the_version_is_printed(context: Context) -> None:
    assert typed(context, "--version") == (0, f"thv-llm {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["staus"], "Did you mean `status`?"),
        (["doct"], "Did you mean `doctor`?"),
        (["--verson"], "Did you mean `--version`?"),
        (["xyzzy"], "next: thv-llm --help"),
        (["help", "staus"], "Did you mean `status`?"),
        (["config"], "it is one of: set, show, get, reset"),
        (["config", "sett"], "there is no command 'thv-llm config sett'\n  why:  Did you mean `set`?"),
        (["config", "set", "gateway_url", "https://x"], "Did you mean `--gateway-url`?"),
        (["config", "set", "oidc.client_id=x"], "Did you mean `--client-id`?"),
        (["config", "set", "--nope", "1"], "does not take '--nope'\n  next: "),
        (["--debgu"], "Did you mean `--debug`?"),
        (["token", "--min-valid", "x"], "--min-valid cannot be 'x'\n  why:  it must be a number"),
        (["config", "get", "gateway-url"], "Did you mean `gateway_url`?"),
        (["setup", "--isuer", "x"], "Did you mean `--issuer`?"),
        (["status", "--chekc"], "thv-llm status does not take '--chekc'\n  why:  Did you mean `--check`?"),
        (["proxy", "logs", "--folow"], "Did you mean `--follow`?"),
        (["status", "extra"], "thv-llm status does not take 'extra'"),
        (["status", "--format", "jsn"], "Did you mean `json`?"),
        (["tools", "claude"], "Did you mean `claude-code` or `claude-desktop`?"),
        (["setup", "--client", "opncode"], "Did you mean `opencode`?"),
        (["config", "set"], "nothing to set"),
        (["config", "set", "--proxy-port", "80"], "proxy.listen_port"),
        (["config", "set", "--proxy-port", "many"], "it must be an integer"),
        (["config", "set", "--proxy-p", "14000"], "Did you mean `--proxy-port`?"),
        (["setup", "--skip-browser", "--device-code"], "not allowed with"),
        (["--version", "--all"], "does not take"),
        (["setup", "--lazy=maybe"], "--lazy cannot be 'maybe'"),
        (["config", "set", "--require-key=1"], "--require-key cannot be '1'"),
        (["config", "set", "--models", "a b\x01"], "models = "),
    ],
)
def test_a_wrong_command_line_is_one_error_with_a_next_step(
    context: Context, arguments: list[str], said: str
) -> None:
    code, out, err = typed(context, *arguments)

    assert code == ExitCode.USAGE
    assert out == ""
    assert err.startswith("thv-llm: error: ")
    assert said in err
    assert "  next: " in err


def test_all_wrong_values_are_named_at_once_and_none_as_python_writes_it(context: Context) -> None:
    words = ["--proxy-port", "80", "--gateway-url", "http://x", "--scopes", "a,b\x02"]
    _, _, err = typed(context, "config", "set", *words)

    for key in ("proxy.listen_port = '80'", "gateway_url = ", "oidc.scopes = "):
        assert key in err
    assert "(" not in err.split("oidc.scopes")[1].split(" cannot")[0]


@pytest.mark.parametrize("words", [["-V"], ["version"], ["--version"]])
def test_the_version_has_three_spellings(context: Context, words: list[str]) -> None:
    assert typed(context, *words)[1] == f"thv-llm {__version__}\n"


def test_help_of_a_command_is_what_its_option_prints(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(context, "help", "config", "set")
    with pytest.raises(SystemExit):
        cli.build_parser("config").parse_args(["config", "set", "--help"])

    assert code == 0
    assert out == capsys.readouterr().out


def failing(error: BaseException) -> Callable[..., int]:
    def run(*_: object) -> int:
        raise error

    return run


class _Verb:
    SUMMARY = "a verb"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: object) -> None:
        """Take none."""

    def run(self, args: object, context: Context) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (LoginRequiredError("no session", next_step="thv-llm login"), 4, "thv-llm login"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x/llm.toml"), 1, "Permission denied"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (ValueError("sk-secret-text"), 3, "ValueError at "),
        (RecursionError("sk-secret-text"), 3, "RecursionError at "),
    ],
)
def test_every_failure_ends_with_its_exit_code_and_without_a_traceback(
    context: Context, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(cli, "_command", lambda verb: _Verb(error))

    ended, out, err = typed(context, "status")

    assert ended == code
    assert said in err
    assert "sk-secret-text" not in err + out
    assert "Traceback" not in err


@pytest.mark.posix
def test_an_interrupted_question_is_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_command", lambda verb: _Verb(KeyboardInterrupt()))
    stderr = Stream("Continue? [Y/n] ^C", is_terminal=True)
    stderr.seek(0, io.SEEK_END)
    cli.bounded(["status"], Context({"HOME": str(tmp_path)}, io.StringIO(), io.StringIO(), stderr))

    assert stderr.getvalue().split("\n")[:2] == ["Continue? [Y/n] ^C", "thv-llm: error: interrupted"]


def test_only_an_error_of_stdout_is_said_to_be_one(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Stream()
    monkeypatch.setattr(full, "write", mock.Mock(side_effect=OSError(28, "No space left on device")))
    said = typed(dataclasses.replace(context, stdout=full), "version")[2]
    assert said.startswith("thv-llm: error: cannot write to standard output\n  why:  No space")

    monkeypatch.setattr(cli, "_command", lambda verb: _Verb(OSError(12, "Cannot allocate memory")))
    said = typed(dataclasses.replace(context, stderr=io.StringIO()), "status")[2]
    assert said.startswith("thv-llm: error: the system returned an error\n  why:  Cannot allocate memory")


@pytest.mark.parametrize(
    "error", [LoginRequiredError("no session"), ValueError("sk-secret-text"), OSError(13, "refused")]
)
def test_debug_says_where_an_error_came_from_and_not_its_text(
    context: Context, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(cli, "_command", lambda verb: _Verb(error))

    assert "came from" not in typed(context, "status")[2]
    _, _, err = typed(context, "status", "--debug")

    assert f"came from: {type(error).__name__} at " in err
    assert "sk-secret-text" not in err


def test_debug_may_stand_before_the_command(context: Context) -> None:
    code, out, _ = typed(context, *cli.arranged(["--debug", "config", "show"]))

    assert code == 0
    assert out.startswith("not configured")


@pytest.mark.parametrize("words", [["setup"], ["config", "set"], ["proxy", "logs"]])
def test_help_of_a_command_is_what_the_command_itself_prints(
    context: Context, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.build_parser(words[0]).parse_args([*words, "--help"])

    assert typed(context, "help", *words)[1] == capsys.readouterr().out


def test_help_of_a_topic_is_a_page_of_the_manual(context: Context) -> None:
    code, out, _ = typed(context, "help", "troubleshooting")

    assert code == 0
    assert out.startswith("# What to do when something is wrong\n")


def test_debug_alone_is_the_overview(context: Context) -> None:
    assert cli.arranged(["--debug"]) == ["help", "--debug"]
    assert typed(context, *cli.arranged(["--debug"]))[1] == f"{cli.overview()}\n"


def test_a_mistyped_topic_gets_the_nearest_one(context: Context) -> None:
    code, _, err = typed(context, "help", "trubleshooting")

    assert code == 2
    assert "Did you mean `troubleshooting`?" in err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["setup", "--lazy=true", "--yes=false"], {"lazy": True, "yes": False}),
        (
            ["setup", "--no-autostart=true", "--no-service=false"],
            {"service.autostart": False, "no_service": False},
        ),
        (["setup", "--no-autostart=false"], {"service.autostart": True}),
        (["config", "set", "--require-key=false"], {"proxy.require_key": False}),
        (["setup", "--device-code=true"], {"flow": "device"}),
        (
            ["run", "--", "x", "--debug=true", "--a=false"],
            {"command": ["x", "--debug=true", "--a=false"], "debug": False},
        ),
        (["run", "x", "--debug=false"], {"command": ["x", "--debug=false"]}),
        (["status", "--debug=true"], {"debug": True}),
    ],
)
def test_every_switch_takes_true_and_false_and_leaves_another_programs_alone(
    words: list[str], found: dict[str, object]
) -> None:
    parsed = vars(cli.build_parser(words[0]).parse_args(words))

    named = {**parsed, "command": [word for word in parsed.get("command") or [] if word != "--"]}
    assert {name: named[name] for name in found} == found


@pytest.mark.parametrize(
    "topic",
    [
        "providers",
        "rollout",
        "settings",
        "json",
        "security",
        "troubleshooting",
        "remote",
        "scripts",
        "decisions",
    ],
)
def test_every_topic_has_its_page(context: Context, topic: str) -> None:
    code, out, err = typed(context, "help", topic)

    assert (code, err) == (0, "")
    assert out.startswith("# ")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_command_is_what_its_option_prints(
    context: Context, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    _, out, _ = typed(context, "help", verb)
    with pytest.raises(SystemExit):
        cli.build_parser(verb).parse_args([verb, "--help"])

    assert out == capsys.readouterr().out


READING = {"status", "doctor", "tools", "models", "completion", "help", "version", "token"}
READING |= {"config show", "config get", "proxy status", "proxy logs"}
"""What only reads; tokens are looked after where they are made, which these can need as well."""


def actions_of(verb: str) -> list[str]:
    parser = cli.build_parser(verb)
    for name in (verb, ""):
        below = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
        if name:
            parser = below.choices[name]
    return list(below.choices)


def test_every_command_is_known_to_write_or_to_read() -> None:
    every = set(cli.VERBS) - {"config", "proxy"} | {"doctor --fix"}
    for verb in ("config", "proxy"):
        actions = actions_of(verb)
        assert actions
        every |= {f"{verb} {action}" for action in actions}
    assert {*cli.WRITING} | READING == every
    assert not {*cli.WRITING} & READING


@pytest.mark.root
@pytest.mark.parametrize("command", [*cli.WRITING, "token"])
@pytest.mark.parametrize("owner", [1, 12345])
def test_root_writes_nothing_in_the_home_of_another_user(
    context: Context, tmp_path: Path, command: str, owner: int
) -> None:
    os.chown(tmp_path, owner, owner)

    code, out, err = typed(context, *command.split(), *(["--", "true"] if command == "run" else []))

    name = {1: "daemon", 12345: "uid 12345"}[owner]
    assert (code, out) == (1, "")
    assert f"why:  {tmp_path} belongs to {name}" in err
    assert f"next: run the same command as {name}, without sudo\n" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("command", ["status", "teardown --dry-run", "config show", "tools"])
def test_root_may_look_at_the_home_of_another_user(context: Context, tmp_path: Path, command: str) -> None:
    os.chown(tmp_path, 12345, 12345)

    assert "without sudo" not in typed(context, *command.split())[2]
    assert list(tmp_path.iterdir()) == []
