"""Where our files are, and how we start ourselves."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from thv_llm import paths
from thv_llm.errors import ThvLlmError


def test_the_directory_is_ours_else_that_of_xdg_else_below_home() -> None:
    assert paths.find({"HOME": "/h", "THV_LLM_HOME": "/own"}).directory == "/own"
    assert paths.find({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}).directory == "/x/toolhive"
    assert paths.find({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}).directory == "/h/.config/toolhive"
    assert paths.find({"HOME": "/h"}).directory == "/h/.config/toolhive"


def test_the_socket_lies_in_the_runtime_directory_only_when_that_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert paths.find(environ).socket == f"{tmp_path}/toolhive/llm.sock"

    tmp_path.chmod(0o755)
    assert paths.find(environ).socket == "/h/.config/toolhive/llm.sock"
    assert paths.find({**environ, "XDG_RUNTIME_DIR": "/none"}).socket == "/h/.config/toolhive/llm.sock"


def test_the_socket_can_be_named() -> None:
    assert paths.find({"HOME": "/h", "THV_LLM_SOCKET": "/run/forwarded.sock"}).socket == "/run/forwarded.sock"


def test_every_file_of_ours_lies_in_the_directory() -> None:
    found = paths.find({"HOME": "/h"})
    files = {name: path for name, path in vars(found).items() if name not in ("directory", "home")}

    assert len(files) >= 8
    for path in files.values():
        assert path.startswith("/h/.config/toolhive/")


def test_the_own_command_runs_from_anywhere(tmp_path: Path) -> None:
    command = paths.own_command("--version")

    assert command[0] == sys.executable
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("thv-llm "), done.stderr


def test_a_checkout_has_no_bundled_files() -> None:
    assert paths.bundled("LICENSES.txt") == ""


def test_an_empty_home_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.path.expanduser` makes "/" of it, in which root would make a directory."""
    monkeypatch.setenv("HOME", "")
    assert paths.find({"HOME": ""}).home == pwd.getpwuid(os.getuid()).pw_dir

    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ThvLlmError, match="no home directory"):
        paths.find({"HOME": ""})


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_without_an_absolute_home_directory_nothing_is_read_or_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    """As a user id of its own in a container has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "no/passwd/entry")  # what `expanduser` finds then
    environ = {} if home is None else {"HOME": home}

    with pytest.raises(ThvLlmError, match="there is no home directory") as caught:
        paths.find(environ)
    assert caught.value.next_step.startswith("export HOME=")
    own = paths.find({**environ, "THV_LLM_HOME": "/own"})
    assert (own.directory, own.home, own.socket) == ("/own", "", "/own/llm.sock")


@pytest.mark.parametrize("arguments", [["token"], ["token", "--min-valid", "5"], ["status"], ["setup"]])
def test_a_user_without_a_home_directory_gets_one_clear_error(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        paths.own_command(*arguments),
        cwd=tmp_path,
        env={"HOME": "~", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "thv-llm: error: there is no home directory\n"
        "  why:  HOME is a relative path: '~'\n"
        "  next: export HOME=/PATH (an absolute path), and try again\n"
    )
    assert list(tmp_path.iterdir()) == []
