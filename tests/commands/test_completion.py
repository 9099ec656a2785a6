from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands import homes
from thv_llm import cli
from thv_llm.commands import completion
from thv_llm.commands.completion import CommandNode
from thv_llm.errors import UsageError
from thv_llm.settings import ROWS
from thv_llm.validation import OneOf

WORDS = {"TOOL": ["codex", "claude-code"], "NAME": ["codex", "claude-code"], "KEY": ["proxy.listen_port"]}
CASES = [
    (["pro"], ["proxy"]),
    (["proxy", "lo"], ["logs"]),
    (["proxy", "logs", "--fo"], ["--follow"]),
    (["status", "--format", ""], ["json", "text"]),
    (["teardown", "co"], ["codex"]),
    (["setup", "--client", "cl"], ["claude-code"]),
    (["config", "set", "--ca-file", "/etc/host"], ["/etc/host.conf", "/etc/hostname", "/etc/hosts"]),
    (["setup", "--issuer", ""], []),
    (["completion", ""], ["bash", "fish", "powershell", "zsh"]),
    (["config", "get", "proxy.l"], ["proxy.listen_port"]),
    (["nonsense", "pro"], ["proxy"]),
]


@pytest.fixture(scope="module")
def root() -> CommandNode:
    return completion.describe(cli.build_parser(), WORDS)


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (apt-get install {name})")
    return path


def run(command: Sequence[str], **environ: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True, env={**os.environ, **environ}
    )
    assert done.stderr == ""
    return done.stdout


def existing(words: Sequence[str]) -> list[str]:
    return sorted(word for word in words if not word.startswith("/") or os.path.exists(word))


def test_the_tree_holds_every_command(root: CommandNode) -> None:
    names = [node.name for node in root.all()]

    assert "proxy restart" in names
    assert "config set" in names
    assert "token" in names


def test_hidden_options_are_left_out(root: CommandNode) -> None:
    start = next(node for node in root.all() if node.name == "proxy start")
    flags = {flag for option in start.options for flag in option.flags}

    assert "--background" in flags
    assert not {"--detach", "--managed"} & flags


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_bash_offers(root: CommandNode, tmp_path: Path, typed: list[str], offered: list[str]) -> None:
    script = tmp_path / "script"
    words = " ".join(f"'{word}'" for word in ["thv-llm", *typed])
    script.write_text(
        f"{completion.bash(root)}\n"
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _thv_llm\n"
        'for one in "${COMPREPLY[@]}"; do echo "$one"; done\n'
    )

    assert sorted(run([shell("bash"), "--norc", str(script)]).split()) == existing(offered)


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_fish_offers(root: CommandNode, tmp_path: Path, typed: list[str], offered: list[str]) -> None:
    script = tmp_path / "script.fish"
    script.write_text(completion.fish(root))
    line = " ".join(["thv-llm", *typed])
    told = run(
        [shell("fish"), "--no-config", "-c", f"source {script}; complete -C '{line}'"], HOME=str(tmp_path)
    )

    assert sorted(line.split("\t")[0] for line in told.splitlines()) == existing(offered)


def typed_into(command: Sequence[str], keys: Sequence[str], until: str, **environ: str) -> str:
    """Type into a program on a terminal of its own; return what it showed up to `until`."""
    import pty  # which Windows has not

    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), {**os.environ, "TERM": "dumb", **environ})
    shown = ""
    try:
        for key in keys:
            os.write(terminal, key.encode())
        deadline = time.monotonic() + 20
        while until not in shown and (left := deadline - time.monotonic()) > 0:
            if select.select([terminal], [], [], left)[0]:
                with contextlib.suppress(OSError):
                    shown += os.read(terminal, 4096).decode("utf-8", "replace")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("pro\tres\t", "proxy restart"),
        ("proxy logs --fo\t", "proxy logs --follow"),
        ("teardown cod\t", "teardown codex"),
        ("status --format js\t", "status --format json"),
        ("status --format=js\t", "status --format=json"),
        ("setup --ca-file /etc/passw\t", "setup --ca-file /etc/passwd"),
    ],
)
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_tab_key_completes(
    root: CommandNode, tmp_path: Path, name: str, typed: str, becomes: str
) -> None:
    (tmp_path / "completion").write_text(completion.SHELLS[name](root))
    prepare = f'. {tmp_path}/completion; thv-llm() {{ echo RAN:"$*":END; }}'
    (tmp_path / ".zshrc").write_text(f"autoload -Uz compinit; compinit -u -d {tmp_path}/dump\n{prepare}\n")
    (tmp_path / "bashrc").write_text(f"{prepare}\n")
    start = {"bash": ["--rcfile", f"{tmp_path}/bashrc", "-i"], "zsh": ["-i"]}[name]

    shown = typed_into(
        [shell(name), *start], [f"thv-llm {typed}\n"], ":END\r", HOME=str(tmp_path), ZDOTDIR=str(tmp_path)
    )

    assert f"RAN:{becomes}" in shown


def test_zsh_finds_it_on_its_path_of_functions(root: CommandNode, tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_thv-llm").write_text(completion.zsh(root))
    (tmp_path / ".zshrc").write_text(
        f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump\n"
        'thv-llm() { echo RAN:"$*":END; }\n'
    )

    shown = typed_into(
        [shell("zsh"), "-i"],
        ["thv-llm doc\t\n", "thv-llm stat\t\n"],
        "RAN:status",
        ZDOTDIR=str(tmp_path),
        HOME=str(tmp_path),
    )

    assert "RAN:doctor" in shown
    assert "RAN:status" in shown


def test_texts_with_quotes_and_colons_do_not_break_a_script(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser(prog="thv-llm", description='it\'s: a $HOME `test` \\ "x"')
    below = parser.add_subparsers()
    child = below.add_parser("go", description='it\'s: a $HOME `test` \\ "x"')
    child.add_argument("--it", help="don't: $(touch x) `touch x` 100%% \\", choices=["a'b", "c:d"])
    tree = completion.describe(parser, {})

    for name in ("bash", "zsh", "fish"):
        script = tmp_path / name
        script.write_text(completion.SHELLS[name](tree))
        run([shell(name), "-n", str(script)], HOME=str(tmp_path))


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_a_script_that_says_where_it_is_from(tmp_path: Path, shell: str) -> None:
    out = homes.make(tmp_path).run("completion", shell).out

    assert f"made by: thv-llm completion {shell}" in out
    assert "claude-code" in out
    assert "keyring" in out
    assert "proxy.listen_port" in out
    assert "troubleshooting" in out
    assert "cursor" not in re.split(";;|\n", out.partition("setup --client")[2])[0]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_switch_that_turns_something_off_says_so(tmp_path: Path, shell: str) -> None:
    out = homes.make(tmp_path).run("completion", shell).out

    assert "turn off: the proxy requires the local key" in out


def test_another_shell_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        homes.make(tmp_path).run("completion", "tcsh")


def test_powershell_gets_every_command_option_and_value_in_quotes(root: CommandNode) -> None:
    script = completion.powershell(root)

    assert "'proxy logs' = @(@(), @(" in script
    assert '"--follow`tkeep showing new lines, until Ctrl-C"' in script
    assert '\'status --format\' = @("text`ttext", "json`tjson")' in script
    assert '"--no-tls-skip-verify`tturn off: ' in script
    tables = script.partition("$at = ''")[0]
    for line in tables.splitlines():
        outside = re.sub(r'"(?:[^"`$]|`.)*"|\'(?:[^\']|\'\')*\'', "", line)
        assert '"' not in outside, line
        assert outside.count("(") == outside.count(")"), line
        assert "'" not in outside, line
    for pair in re.findall(r'"((?:[^"`$]|`.)*)"', tables):
        name, _, about = pair.partition("`t")
        assert name, pair
        assert about, pair


def test_powershell_gets_ascii_which_every_encoding_of_a_profile_has(tmp_path: Path) -> None:
    assert homes.make(tmp_path).run("completion", "powershell").out.isascii()


def test_each_option_offers_its_own_values(tmp_path: Path) -> None:
    offered = homes.make(tmp_path).run("completion", "fish").out

    for row in ROWS:
        if isinstance(row.check, OneOf):
            assert f"-l {row.flag[2:]} -x -a '{' '.join(row.check.choices)}' " in offered
    assert "-l tool -x -a 'openai anthropic gemini openhands' " in offered
