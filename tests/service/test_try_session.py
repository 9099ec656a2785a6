from __future__ import annotations

import os
import signal

import pytest

from tests import canaries
from tests.logged_in import LoggedIn
from thv_llm import files, paths
from thv_llm.errors import LoginRequiredError, ThvLlmError
from thv_llm.secret import Secret
from thv_llm.service import cold_token
from thv_llm.store.encrypted_file import EncryptedFile

RIGHT = f"open {canaries.MARK}"


def test_the_token_is_fresh_from_the_provider_each_time(user: LoggedIn) -> None:
    first = cold_token.try_session(user.settings, user.environ)
    second = cold_token.try_session(user.settings, user.environ)

    assert first.value != second.value
    assert user.provider.verify_access_token(second.value.reveal())
    assert user.provider.count("refresh") == 2
    assert user.is_alive


@pytest.mark.parametrize("verb", ["doctor", "login"])
def test_a_command_that_is_killed_in_the_middle_of_the_exchange_leaves_a_stored_session(
    user: LoggedIn, verb: str
) -> None:
    before = user.refresh_token

    assert user.run_until_the_exchange(user.command(verb=verb)) == -signal.SIGKILL
    with files.lock(user.paths.lock("session"), timeout_s=10, what="the session"):
        after = user.refresh_token

    assert after != before
    assert user.is_alive


def test_settings_that_are_not_saved_will_do(user: LoggedIn) -> None:
    wanted = user.settings
    os.unlink(user.paths.settings)

    assert cold_token.try_session(wanted, user.environ)


def test_a_passphrase_that_was_typed_goes_with_it(user: LoggedIn) -> None:
    for path in (user.paths.session_file, user.paths.session_file_key):
        os.unlink(path)
    user.store = EncryptedFile(user.paths.session_file, user.paths.session_file_key, passphrase=Secret(RIGHT))
    user.log_in()

    assert cold_token.try_session(user.settings, user.environ, passphrase=Secret(RIGHT))
    with pytest.raises(ThvLlmError, match="THV_LLM_PASSPHRASE"):
        cold_token.try_session(user.settings, user.environ)
    assert user.is_alive


def test_a_session_that_has_ended_is_told_as_such(user: LoggedIn) -> None:
    user.provider.grants._live.clear()

    with pytest.raises(LoginRequiredError, match="invalid_grant"):
        cold_token.try_session(user.settings, user.environ)


def test_a_worker_that_dies_is_an_error_with_advice(user: LoggedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "own_command", lambda *words: ["/bin/sh", "-c", "kill -9 $$"])

    with pytest.raises(ThvLlmError, match="next: try again"):
        cold_token.try_session(user.settings, user.environ)
