"""Where a tool's files are, on each platform and with the variables that move them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from thv_llm.edit import Format
from thv_llm.tools.machine import Place, output_of
from thv_llm.tools.model import Edit, Folder

CODE = Folder(
    "~/.config/Code",
    env="XDG_CONFIG_HOME",
    below="Code",
    mac="~/Library/Code",
    windows="%APPDATA%/Code/User",
)
CLAUDE = Folder("~/.claude", env="CLAUDE_CONFIG_DIR")
LLM = Folder("~/.config/llm", env="LLM_USER_PATH", mac="~/Library/llm")

AICHAT = Folder("~/.config/aichat", env="AICHAT_DIR", xdg="aichat", mac="~/Library/aichat")


@pytest.mark.parametrize(
    ("folder", "platform", "environ", "expected"),
    [
        (AICHAT, "linux", {}, "/home/me/.config/aichat"),
        (AICHAT, "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/aichat"),
        (AICHAT, "linux", {"XDG_CONFIG_HOME": "/x", "AICHAT_DIR": "/own"}, "/own"),
        (AICHAT, "darwin", {"XDG_CONFIG_HOME": "/x"}, "/home/me/Library/aichat"),
        (CLAUDE, "linux", {}, "/home/me/.claude"),
        (CLAUDE, "linux", {"CLAUDE_CONFIG_DIR": "/data/claude/"}, "/data/claude"),
        (CLAUDE, "linux", {"CLAUDE_CONFIG_DIR": "relative"}, "/home/me/.claude"),
        (CLAUDE, "linux", {"CLAUDE_CONFIG_DIR": ""}, "/home/me/.claude"),
        (CODE, "linux", {}, "/home/me/.config/Code"),
        (CODE, "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code"),
        (CODE, "darwin", {}, "/home/me/Library/Code"),
        (CODE, "darwin", {"XDG_CONFIG_HOME": "/x"}, "/home/me/Library/Code"),
        (LLM, "darwin", {"LLM_USER_PATH": "/x"}, "/x"),
        (CODE, "win32", {"APPDATA": "/r", "XDG_CONFIG_HOME": "/x"}, "/r/Code/User"),
        (CODE, "win32", {}, "/home/me/AppData/Roaming/Code/User"),
        (CLAUDE, "win32", {}, "/home/me/.claude"),
        (CLAUDE, "win32", {"CLAUDE_CONFIG_DIR": "/data"}, "/data"),
    ],
)
def test_a_variable_moves_a_folder_when_it_is_absolute(
    folder: Folder, platform: str, environ: dict[str, str], expected: str
) -> None:
    assert Place(environ, "/home/me", platform).folder(folder) == expected


def test_absolute_paths_lie_below_the_root_and_tilde_is_the_home() -> None:
    place = Place({}, "/home/me", "linux", root="/root-of-the-test")
    assert place.expand("/etc/x/../y") == "/root-of-the-test/etc/y"
    assert place.expand("~/a") == "/home/me/a"
    assert place.expand("~") == "/home/me"


def test_a_path_of_another_system_is_none() -> None:
    assert Place({"PROGRAMFILES": "/p"}, "/home/me", "win32").expand("%PROGRAMFILES%/x") == "/p/x"
    assert Place({}, "/home/me", "win32").expand("%PROGRAMFILES%/x") == ""
    assert Place({}, "/home/me", "win32").expand("/etc/claude-code/managed-settings.json") == ""
    assert Place({"PROGRAMFILES": "/p"}, "/home/me", "linux").expand("%PROGRAMFILES%/x") == ""


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_programs_are_looked_for_on_the_path_and_where_installers_put_them(tmp_path: Path) -> None:
    place = Place({"PATH": str(tmp_path / "bin")}, str(tmp_path), "linux")
    assert place.program("tool") == ""
    local = executable(tmp_path / ".local/bin/tool")
    assert place.program("tool") == local
    first = executable(tmp_path / "bin" / "tool")
    assert place.program("tool") == first


def test_without_a_path_the_current_directory_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "tool")
    monkeypatch.chdir(tmp_path)
    assert Place({}, str(tmp_path / "home"), "linux").program("tool") == ""


def test_windows_programs_have_an_ending_and_the_current_directory_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(
        {"PATH": f".{os.pathsep}{tmp_path / 'npm'}", "PATHEXT": ".EXE;.CMD"}, str(tmp_path), "win32"
    )
    executable(tmp_path / "here" / "tool.exe")
    monkeypatch.chdir(tmp_path / "here")
    executable(tmp_path / "npm" / "tool")  # npm puts a shell script beside the .cmd
    assert place.program("tool") == ""
    shim = executable(tmp_path / "npm" / "tool.cmd")
    assert place.program("tool") == shim


def test_in_wsl_the_programs_of_windows_are_not_installed_here(tmp_path: Path) -> None:
    environ = {"PATH": "/mnt/c/Tools:/usr/bin", "WSL_DISTRO_NAME": "Debian"}
    asked: list[str] = []

    def which(_name: str, path: str) -> None:
        asked.append(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shutil.which", which)
        Place(environ, str(tmp_path), "linux").program("codex")
        Place({"PATH": "/mnt/c/Tools:/usr/bin"}, str(tmp_path), "linux").program("codex")
    assert [path.split(":")[0] for path in asked] == ["/usr/bin", "/mnt/c/Tools"]


def test_the_first_name_that_exists_is_the_target_else_the_last(tmp_path: Path) -> None:
    place = Place({}, str(tmp_path), "linux")
    edit = Edit(Folder("~/x"), ("a.jsonc", "a.json"), Format.JSON, {})
    (tmp_path / "x").mkdir()
    assert place.targets(edit) == (str(tmp_path / "x/a.json"),)
    (tmp_path / "x/a.jsonc").symlink_to("nowhere")
    assert place.targets(edit) == (str(tmp_path / "x/a.jsonc"),)
    assert set(place.possible_targets(edit)) == {str(tmp_path / "x/a.json"), str(tmp_path / "x/a.jsonc")}


def test_each_profile_is_a_target_too(tmp_path: Path) -> None:
    place = Place({}, str(tmp_path), "linux")
    edit = Edit(Folder("~/x"), ("a.json",), Format.JSON, {}, in_profiles="profiles")
    (tmp_path / "x/profiles/b").mkdir(parents=True)
    (tmp_path / "x/profiles/a").mkdir()
    (tmp_path / "x/profiles/file").touch()
    expected = [tmp_path / "x/a.json", tmp_path / "x/profiles/a/a.json", tmp_path / "x/profiles/b/a.json"]
    assert list(place.targets(edit)) == list(map(str, expected))


def test_what_a_program_prints_is_read_and_a_bad_one_says_nothing(tmp_path: Path) -> None:
    both = output_of([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr)"])
    assert sorted(both.split()) == ["1", "2"]  # two streams have no order between them
    assert output_of([str(tmp_path / "nothing")]) == ""
    assert output_of([os.devnull]) == ""
