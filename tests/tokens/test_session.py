from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import keyrings
from tests.fakes.provider import FakeProvider
from tests.fakes.secret_service import FakeSecretService
from tests.tokens.rig import FakeTime, Rig, login_result
from thv_llm import sessions, state, tokens
from thv_llm.errors import LoginRequiredError
from thv_llm.store.encrypted_file import EncryptedFile


def test_opening_reads_and_asks_nothing(tmp_path: Path) -> None:
    clock = FakeTime()
    with FakeProvider(tls=False) as provider:
        Rig(tmp_path, provider, clock)

        assert provider.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.posix
def test_a_login_into_another_store_leaves_no_session_in_the_old_one(rig: Rig, tmp_path: Path) -> None:
    rig.source.adopt(login_result("at-1", "rt-1", rig.clock.now() + 60))
    directory = tmp_path / "d"
    directory.mkdir()

    with FakeSecretService(directory) as bus:
        settings = rig.settings._replace(token_store="keyring")
        environ = {**rig.environ, **bus.environ}
        source = tokens.open(settings, rig.paths, environ, clock=rig.clock_as_value())
        source.adopt(login_result("at-2", "rt-2", rig.clock.now() + 60))

        assert [item.secret for item in bus.items.values()] == [b"rt-2"]
        assert rig.refresh_token is None
        assert sessions.load(rig.paths.state).latest.store == "secret-service"
        assert "Secret Service" in source.describe()


@pytest.mark.posix
@pytest.mark.parametrize("backend", ["LastingKeyring", "DesktopKeyring"])
def test_a_login_after_a_keyring_was_named_is_kept_where_that_keyring_keeps_it(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    with FakeSecretService(directory) as bus:
        settings, environ = rig.settings._replace(token_store=""), {**rig.environ, **bus.environ}
        tokens.open(settings, rig.paths, environ).adopt(login_result("at-1", "rt-1", rig.clock.now() + 60))

        named = {**environ, "PYTHON_KEYRING_BACKEND": f"tests.fakes.keyrings.{backend}"}
        for name in ("PYTHON_KEYRING_BACKEND", "DBUS_SESSION_BUS_ADDRESS"):
            monkeypatch.setenv(name, named[name])
        source = tokens.open(settings, rig.paths, named)
        source.adopt(login_result("at-2", "rt-2", rig.clock.now() + 60))

        assert source.has_session()
        assert "keyrings" in source.describe()
        assert [item.secret for item in bus.items.values()] in ([], [b"rt-2"])
        known = sessions.load(rig.paths.state)
        assert [one.store for one in known.stored] == ["keyring"]
    keyrings.LastingKeyring.kept.clear()


@pytest.mark.posix
def test_a_login_that_is_killed_while_it_moves_the_session_has_moved_it(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.source.adopt(login_result("at-1", "rt-1", rig.clock.now() + 60))
    directory = tmp_path / "d"
    directory.mkdir()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with FakeSecretService(directory) as bus:
        settings = rig.settings._replace(token_store="keyring")
        environ = {**rig.environ, **bus.environ}
        source = tokens.open(settings, rig.paths, environ, clock=rig.clock_as_value())
        with monkeypatch.context() as patch:
            patch.setattr(EncryptedFile, "delete", killed)
            with pytest.raises(KeyboardInterrupt):
                source.adopt(login_result("at-2", "rt-2", rig.clock.now() + 60))

        assert tokens.open(rig.settings._replace(token_store=""), rig.paths, environ).has_session()
        assert [one.store for one in sessions.load(rig.paths.state).stored] == ["secret-service", "file"]

        source.adopt(login_result("at-3", "rt-3", rig.clock.now() + 60))
        assert rig.refresh_token is None
        assert [one.store for one in sessions.load(rig.paths.state).stored] == ["secret-service"]


def test_a_refreshed_identity_must_be_the_one_that_logged_in(rig: Rig) -> None:
    rig.provider.id_token_on_refresh = True
    assert rig.source.get()

    rig.source.adopt(login_result("at", rig.refresh_token, rig.clock.now()))
    rig.provider.user["sub"] = "somebody-else"
    state.update_sessions(
        rig.paths, lambda known: known._replace(latest=known.latest._replace(subject="somebody"))
    )
    before = rig.refresh_token

    with pytest.raises(Exception, match=r"another|sub|ID token") as caught:
        rig.another().get()

    assert not isinstance(caught.value, LoginRequiredError)
    assert rig.refresh_token == before


@pytest.mark.posix
def test_a_broken_record_leads_to_the_session_all_the_same(rig: Rig, tmp_path: Path) -> None:
    Path(rig.paths.state).write_text("{broken")
    (tmp_path / "d").mkdir()

    with FakeSecretService(tmp_path / "d") as bus:  # which would be asked first if nothing were known
        settings = rig.settings._replace(token_store="")
        source = tokens.open(settings, rig.paths, {**rig.environ, **bus.environ})

        assert source.get()
    assert rig.is_alive
