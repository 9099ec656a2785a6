"""Every misbehavior of a provider is refused or taken as it should be, with one error that says why."""

from __future__ import annotations

import re

import pytest

from tests.oidc.client import Client, leaks
from tests.oidc.modes import Mode
from tests.oidc.modes_id_token import ID_TOKEN
from tests.oidc.modes_login import CALLBACK, DISCOVERY, IGNORED, TOKEN
from tests.oidc.modes_refresh import DEVICE, REFRESH, RefreshMode
from thv_llm.errors import InteractionRequiredError, ThvLlmError, UnreachableError

VISIBLE = re.compile(r"[\x21-\x7e]+")

ALL = (*DISCOVERY, *CALLBACK, *ID_TOKEN, *TOKEN, *REFRESH, *DEVICE)


def by_name(modes: tuple[Mode, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mode", modes, ids=[mode.name for mode in modes])


def prepare(client: Client, mode: Mode) -> None:
    mode.install(client.provider)
    if "slow" in mode.name:
        client.http._client._timeout_s = 0.4


def login_or_error(client: Client, mode: Mode) -> ThvLlmError | None:
    prepare(client, mode)
    try:
        if mode in DEVICE:
            result = client.login_by_device()
        else:
            result = client.login(visits=2 if mode.says == IGNORED else 1)
    except ThvLlmError as error:
        return error
    assert VISIBLE.fullmatch(result.tokens.access.reveal())
    assert (result.subject, result.who) == ("user-1", "dev@example.com")
    return None


def assert_as_expected(client: Client, mode: Mode, error: ThvLlmError | None) -> None:
    text = str(error or "")
    assert bool(error) == bool(mode.says), text
    assert mode.says in text
    assert not error or error.why
    everything = text + "".join(client.said) + repr(error)
    assert leaks(everything, client.provider) == []
    assert everything.replace("\n", "").isprintable()


@by_name(DISCOVERY)
def test_metadata(client: Client, mode: Mode) -> None:
    error = login_or_error(client, mode)

    assert_as_expected(client, mode, error)
    if error is not None:
        assert isinstance(error, UnreachableError)
        assert client.provider.count("authorize") == 0
        assert client.provider.count("token") == 0
        assert not hasattr(client, "browser") or not client.browser.urls


@by_name(CALLBACK)
def test_callback(client: Client, mode: Mode) -> None:
    error = login_or_error(client, mode)

    if mode.says == IGNORED:
        assert error is None
        assert client.browser.statuses == [400, 200]
        return
    assert_as_expected(client, mode, error)
    if error is not None:
        assert client.provider.count("token") == 0
        assert "The login failed" in client.browser.page
        assert "<script>" not in client.browser.page


@by_name(ID_TOKEN)
def test_id_token(client: Client, mode: Mode) -> None:
    error = login_or_error(client, mode)

    assert_as_expected(client, mode, error)
    if error is not None:
        assert isinstance(error, UnreachableError)
        assert "The login failed" in client.browser.page
        assert client.provider.count("jwks") <= 2


@by_name(TOKEN)
def test_token_response(client: Client, mode: Mode) -> None:
    assert_as_expected(client, mode, login_or_error(client, mode))


@by_name(DEVICE)
def test_device(client: Client, mode: Mode) -> None:
    assert_as_expected(client, mode, login_or_error(client, mode))


@by_name(REFRESH)
def test_refresh(client: Client, mode: Mode) -> None:
    token = client.provider.issue_refresh_token()
    prepare(client, mode)

    if not isinstance(mode, RefreshMode):
        tokens = client.refresh(token, subject="user-1")
        assert VISIBLE.fullmatch(tokens.access.reveal())
        return
    with pytest.raises(ThvLlmError) as caught:
        client.refresh(token, subject="user-1")

    error = caught.value
    assert_as_expected(client, mode, error)
    assert isinstance(error, mode.kind)
    assert isinstance(error, InteractionRequiredError) == (mode.kind is InteractionRequiredError)
    assert getattr(error, "maybe_sent", False) == mode.maybe_sent
    assert getattr(error, "retry_after_s", None) == mode.retry_after_s


def test_the_tables_name_each_misbehavior_once() -> None:
    names = [mode.name for mode in ALL]

    assert len(names) == len(set(names))
    assert len(names) >= 103
