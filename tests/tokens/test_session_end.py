from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests import canaries
from tests.fakes.secret_service import FakeSecretService
from tests.tokens.rig import Rig, login_result
from thv_llm import sessions, state, system, tokens
from thv_llm.errors import LoginRequiredError
from thv_llm.secret import Secret
from thv_llm.sessions import Sessions
from thv_llm.settings import Settings
from thv_llm.store import DamagedError, LockedError
from thv_llm.store.encrypted_file import EncryptedFile
from thv_llm.tokens.session import Ended

RIGHT = f"open {canaries.MARK}"


def end(rig: Rig, settings: Settings | None = None, **environ: str) -> list[Ended]:
    return list(tokens.end_all(settings or rig.settings, rig.paths, {**rig.environ, **environ}))


def log_in(rig: Rig, refresh: str, **oidc: Any) -> Settings:
    """Log in with other settings; return them."""
    settings = rig.settings._replace(oidc=rig.settings.oidc._replace(**oidc))
    source = tokens.open(settings, rig.paths, rig.environ, clock=rig.clock_as_value())
    source.adopt(login_result("at", refresh, rig.clock.now() + 60))
    return settings


def refreshes(ended: list[Ended]) -> list[str]:
    return [one.refresh.reveal() for one in ended]


def test_what_was_removed_is_handed_back(rig: Rig) -> None:
    rig.source.get()
    before = rig.refresh_token

    (ended,) = end(rig)

    assert ended.refresh.reveal() == before
    assert (ended.client_id, ended.issuer, ended.is_current) == ("cli", rig.provider.issuer, True)
    assert rig.refresh_token is None
    with pytest.raises(LoginRequiredError, match="not logged in"):
        rig.another().get()
    assert end(rig) == []


def test_sessions_of_earlier_settings_end_too(rig: Rig) -> None:
    log_in(rig, "rt-1")
    log_in(rig, "rt-2", client_id="other")
    log_in(rig, "rt-3", issuer="https://elsewhere.example")

    ended = end(rig)

    assert sorted(refreshes(ended)) == ["rt-1", "rt-2", "rt-3"]
    assert {(one.client_id, one.issuer) for one in ended if not one.is_current} == {
        ("other", rig.provider.issuer),
        ("cli", "https://elsewhere.example"),
    }
    assert sessions.load(rig.paths.state).stored == ()
    assert not Path(rig.paths.session_file).exists()


def test_a_session_is_found_without_settings(rig: Rig) -> None:
    log_in(rig, "rt-1")

    assert refreshes(end(rig, Settings())) == ["rt-1"]


def test_a_session_that_was_not_recorded_is_sought_by_the_settings(rig: Rig) -> None:
    log_in(rig, "rt-1")
    state.update_sessions(rig.paths, lambda _: Sessions())

    assert refreshes(end(rig)) == ["rt-1"]


@pytest.mark.posix
def test_each_session_is_sought_in_the_store_of_its_login(rig: Rig, tmp_path: Path) -> None:
    log_in(rig, "rt-1")
    (tmp_path / "d").mkdir()
    with FakeSecretService(tmp_path / "d") as bus:
        elsewhere = rig.settings._replace(token_store="", oidc=rig.settings.oidc._replace(client_id="other"))
        source = tokens.open(
            elsewhere._replace(token_store="keyring"), rig.paths, {**rig.environ, **bus.environ}
        )
        source.adopt(login_result("at", "rt-2", rig.clock.now() + 60))

        assert refreshes(end(rig, elsewhere, **bus.environ)) == ["rt-2", "rt-1"]
        assert bus.items == {}
    assert not Path(rig.paths.session_file).exists()


@pytest.mark.posix
def test_a_keyring_that_was_named_since_does_not_hide_the_session(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    with FakeSecretService(tmp_path / "d") as bus:
        anywhere = rig.settings._replace(token_store="")
        source = tokens.open(anywhere, rig.paths, {**rig.environ, **bus.environ})
        source.adopt(login_result("at", "rt-1", rig.clock.now() + 60))
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.fakes.keyrings.LastingKeyring")

        named = {**bus.environ, "PYTHON_KEYRING_BACKEND": "tests.fakes.keyrings.LastingKeyring"}
        assert refreshes(end(rig, anywhere, **named)) == ["rt-1"]
        assert bus.items == {}


@pytest.mark.posix
def test_a_store_that_is_out_of_reach_does_not_keep_the_others(rig: Rig) -> None:
    log_in(rig, "rt-1")
    log_in(rig, "rt-2", client_id="other")
    state.update_sessions(
        rig.paths, lambda known: known._replace(latest=known.latest._replace(store="secret-service"))
    )
    removed: list[Ended] = []

    with pytest.raises(Exception, match="Secret Service"):
        removed.extend(
            tokens.end_all(
                rig.settings, rig.paths, {**rig.environ, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
            )
        )

    assert [one.store for one in sessions.load(rig.paths.state).stored] == ["secret-service"]
    assert EncryptedFile(rig.paths.session_file, rig.paths.session_file_key).load(rig.key) is None


def test_what_cannot_be_read_stays_and_the_error_says_how_to_be_rid_of_it(rig: Rig) -> None:
    Path(rig.paths.session_file).write_bytes(b"garbage")

    with pytest.raises(DamagedError, match=re.escape(system.removal_of(rig.paths.session_file))):
        end(rig)
    assert Path(rig.paths.session_file).read_bytes() == b"garbage"


def test_a_passphrase_that_is_wrong_removes_nothing(rig: Rig) -> None:
    rig.store = EncryptedFile(rig.paths.session_file, rig.paths.session_file_key, passphrase=Secret(RIGHT))
    Path(rig.paths.session_file).unlink()
    rig.log_in()
    before = Path(rig.paths.session_file).read_bytes()

    with pytest.raises(LockedError, match="the passphrase is wrong, or the file is damaged"):
        end(rig, THV_LLM_PASSPHRASE=f"not {RIGHT}")
    assert Path(rig.paths.session_file).read_bytes() == before

    assert len(end(rig, THV_LLM_PASSPHRASE=RIGHT)) == 1
