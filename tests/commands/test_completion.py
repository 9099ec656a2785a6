from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import worlds
from thv_llm.errors import UsageError


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_says_where_it_is_from(tmp_path: Path, shell: str) -> None:
    out = worlds.make(tmp_path).run("completion", shell).out

    assert f"made by: thv-llm completion {shell}" in out
    assert "claude-code" in out
    assert "token'" not in out


def test_another_shell_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        worlds.make(tmp_path).run("completion", "tcsh")
