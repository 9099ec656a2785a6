"""Whatever the provider does, stdout of `thv-llm token` is one token and a line end, or nothing.

Each case runs the program itself, which takes half a second: by default every eighth one;
all of them (two minutes) with THV_LLM_ALL_MODES=1.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.fakes.provider import FakeProvider
from tests.logged_in import LoggedIn, wait_for_worker
from tests.oidc.modes import Mode
from tests.oidc.modes_login import DISCOVERY
from tests.oidc.modes_refresh import REFRESH, RefreshMode
from thv_llm.errors import LoginRequiredError, UnreachableError

IS_WHOLE = bool(os.environ.get("THV_LLM_ALL_MODES"))
EXCEPT = {
    "ref-slow": "the second try with the same token comes after the provider has rotated it: session over",
    "ref-idt-sub": "this user's session is older than the record of who logged in",
    "disc-no-authz": "a refresh does without that endpoint",
}
MODES = [mode for mode in (*REFRESH, *DISCOVERY) if mode.name not in EXCEPT]
SAMPLE = MODES if IS_WHOLE else MODES[::8]


@pytest.mark.parametrize("mode", SAMPLE, ids=[mode.name for mode in SAMPLE])
def test_stdout_is_a_token_or_nothing(tmp_path: Path, mode: Mode) -> None:
    with FakeProvider() as provider:
        mode.install(provider)
        user = LoggedIn(tmp_path / "home", provider)
        before = user.refresh_token
        done = user.token()
        wait_for_worker(user)

        assert re.fullmatch(r"([\x21-\x7e]+\n)?", done.stdout)
        assert done.stderr.replace("\n", "").isprintable()
        assert "Traceback" not in done.stderr
        assert user.leaks() == []
        if not mode.says:
            assert (done.returncode, done.stderr) == (0, "")
            assert provider.verify_access_token(done.stdout.strip())
            return
        assert done.stdout == ""
        kind = mode.kind if isinstance(mode, RefreshMode) else UnreachableError
        assert done.returncode == kind.exit_code
        assert kind is LoginRequiredError or user.refresh_token == before
