"""The words of a system: what is typed there."""

from __future__ import annotations

import subprocess

import pytest

from thv_llm import paths, system
from thv_llm.errors import ThvLlmError

NASTY = 'it\'s a "$HOME" `id` %x'


@pytest.mark.parametrize("value", ["http://user:secret@proxy:3128", "/a/b,c", "", NASTY])
def test_a_variable_is_set_to_any_value_in_a_posix_shell(value: str) -> None:
    script = f'{system.setting_of("X", value)}; printf %s "$X"; {system.unsetting_of("X")}; printf %s "$X"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == value


def test_an_ordinary_value_is_shown_as_it_is() -> None:
    assert system.setting_of("HTTPS_PROXY", "http://HOST:PORT") == "export HTTPS_PROXY=http://HOST:PORT"


def test_on_windows_it_is_what_powershell_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "NAME", "win32")

    assert system.setting_of("X", r"C:\it's") == r"$env:X = 'C:\it''s'"
    assert system.unsetting_of("X") == "Remove-Item Env:X"


def test_on_windows_the_place_for_our_directory_is_named_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "NAME", "win32")

    error = paths.no_home({"HOME": "/home/me"})
    assert error.why.startswith("LOCALAPPDATA is not set")
    assert error.next_step.startswith("$env:LOCALAPPDATA = 'C:\\")


def test_only_a_socket_has_a_short_path(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "/x" * 100
    with pytest.raises(ThvLlmError, match="there can be no socket"):
        paths.require_socket(long)

    monkeypatch.setattr(system, "NAME", "win32")
    paths.require_socket(long)


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (("thv-llm", "setup", "--client", "codex"), "thv-llm setup --client codex"),
        (
            ("icacls", r"C:\a b\x", "/inheritance:r", "*S-1-5-21:F"),
            r'icacls "C:\a b\x" /inheritance:r *S-1-5-21:F',
        ),
        (("del", r"C:\O'Brien\x"), 'del "C:\\O\'Brien\\x"'),
        (("del", r"C:\(mine)\a,b"), r'del "C:\(mine)\a,b"'),
        (("del", r"C:\$x\it's"), r"del 'C:\$x\it''s'"),
        (("thv-llm", "help", ""), 'thv-llm help ""'),
    ],
)
def test_a_command_on_windows_is_what_powershell_takes(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], typed: str
) -> None:
    monkeypatch.setattr(system, "NAME", "win32")

    assert system.command_line(words) == typed


def test_a_command_with_a_variable_set_is_what_each_shell_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.with_setting("X", "/a b", "thv-llm teardown") == "X='/a b' thv-llm teardown"
    monkeypatch.setattr(system, "NAME", "win32")
    assert system.with_setting("X", r"C:\a", "thv-llm teardown") == r"$env:X = 'C:\a'; thv-llm teardown"


def test_two_commands_are_one_line_for_each_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.one_after_the_other("a b", "c") == "a b && c"
    monkeypatch.setattr(system, "NAME", "win32")
    assert system.one_after_the_other("a b", "c") == "a b; c"
