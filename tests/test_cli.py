"""What can be typed, and how a run ends."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from thv_llm import __version__, cli, paths
from thv_llm.errors import ExitCode, LoginRequiredError
from thv_llm.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    environ = {"HOME": str(tmp_path), "PATH": "/nonexistent"}
    return World(environ, io.StringIO(), io.StringIO(), io.StringIO(), paths.find(environ))


def typed(world: World, *arguments: str) -> tuple[int, str, str]:
    code = cli.bounded(list(arguments), world)
    assert isinstance(world.stdout, io.StringIO)
    assert isinstance(world.stderr, io.StringIO)
    return code, world.stdout.getvalue(), world.stderr.getvalue()


def test_help_leads_with_examples_and_lists_every_command_but_the_one_for_tools(world: World) -> None:
    code, out, err = typed(world, "--help")

    assert (code, err) == (0, "")
    assert out.index("thv-llm setup --gateway-url") < out.index("commands:")
    for verb in cli.VERBS:
        assert bool(re.search(rf"^  {verb} ", out, re.MULTILINE)) is (verb not in cli.HIDDEN)
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


def test_the_version_is_printed(world: World) -> None:
    assert typed(world, "--version") == (0, f"thv-llm {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stup"], "next: thv-llm setup --help"),
        (["xyzzy"], "next: thv-llm --help"),
        (["config"], "ACTION"),
        (["config", "set"], "nothing to set"),
        (["config", "set", "--proxy-port", "80"], "proxy.listen_port"),
        (["config", "set", "--proxy-port", "many"], "invalid int"),
        (["config", "set", "--proxy-p", "14000"], "unrecognized"),
        (["setup", "--skip-browser", "--device-code"], "not allowed with"),
        (["--version", "--all"], "does not take"),
    ],
)
def test_a_wrong_command_line_is_one_error_with_a_next_step(
    world: World, arguments: list[str], said: str
) -> None:
    code, out, err = typed(world, *arguments)

    assert code == ExitCode.USAGE
    assert out == ""
    assert err.startswith("thv-llm: error: ")
    assert said in err
    assert "  next: " in err


def failing(error: BaseException) -> Callable[..., int]:
    def run(*_: object) -> int:
        raise error

    return run


class _Verb:
    SUMMARY = "a verb"
    EXAMPLES = "thv-llm status"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: object) -> None:
        """Take none."""

    def run(self, args: object, world: World) -> int:
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
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(cli, "_module", lambda verb: _Verb(error))

    ended, out, err = typed(world, "status")

    assert ended == code
    assert said in err
    assert "sk-secret-text" not in err + out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error", [LoginRequiredError("no session"), ValueError("sk-secret-text"), OSError(13, "refused")]
)
def test_debug_says_where_an_error_came_from_and_not_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(cli, "_module", lambda verb: _Verb(error))

    assert "came from" not in typed(world, "status")[2]
    _, _, err = typed(world, "status", "--debug")

    assert f"came from: {type(error).__name__} at " in err
    assert "sk-secret-text" not in err


def test_debug_may_stand_before_the_command(world: World) -> None:
    code, out, _ = typed(world, *cli.arranged(["--debug", "config", "show"]))

    assert code == 0
    assert out.startswith("not configured")
