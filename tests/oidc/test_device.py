"""The login by code: what is shown, and how patiently it polls. Refusals: `test_misbehaviors`."""

from __future__ import annotations

import pytest

from tests.fakes.web import ServerResponse
from tests.oidc.client import Client, leaks
from thv_llm.errors import ThvLlmError
from thv_llm.oidc.device import GRANT_TYPE


def test_code_and_pages_are_shown_and_announced(client: Client) -> None:
    client.login_by_device()

    text = "\n".join(client.said)
    assert "│   WDJB-MJHT   │" in text
    assert f"\n  {client.provider.issuer}/device\n" in text
    assert f"{client.provider.issuer}/device?user_code=WDJB-MJHT" in text
    assert "10 minutes" in text
    assert leaks(text, client.provider) == []


def test_scopes_audience_and_resource_are_sent(client: Client) -> None:
    client.configure(audience="api", resource="https://llm.example.com")
    client.login_by_device()

    assert client.provider.last("device").form == {
        "client_id": "cli",
        "scope": "openid offline_access",
        "audience": "api",
        "resource": "https://llm.example.com",
    }
    poll = client.provider.last("device_token").form
    assert poll.pop("device_code")
    assert poll == {
        "grant_type": GRANT_TYPE,
        "client_id": "cli",
        "audience": "api",
        "resource": "https://llm.example.com",
    }


@pytest.mark.parametrize(
    ("errors", "pauses"),
    [
        ([], [5]),
        (["authorization_pending"], [5, 5]),
        (["slow_down", "authorization_pending"], [5, 10, 10]),
        (["slow_down", "slow_down"], [5, 10, 15]),
    ],
)
def test_the_pauses_are_those_of_the_specification(
    client: Client, errors: list[str], pauses: list[float]
) -> None:
    client.provider.device_errors = list(errors)
    client.login_by_device()

    assert client.slept == pauses


@pytest.mark.parametrize(
    ("interval", "pause"), [(2, 2), (0, 5), (-3, 5), ("soon", 5), (None, 5), (True, 5), (1e12, 60)]
)
def test_an_odd_interval_is_the_usual_one(client: Client, interval: object, pause: float) -> None:
    def alter(response: ServerResponse) -> ServerResponse:
        response.body["interval"] = interval
        return response

    client.provider.device_errors = []
    client.provider.alter["device"] = alter
    client.login_by_device()

    assert client.slept == [pause]


def test_a_poll_without_a_response_doubles_the_pause(client: Client) -> None:
    client.provider.device_errors = ["authorization_pending"]
    client.provider.alter["device_token"] = lambda response: (
        ServerResponse(raw=b"") if client.provider.count("device_token") == 1 else response
    )
    client.login_by_device()

    assert client.slept == [5, 10]


def test_polling_ends_with_the_life_of_the_code(client: Client) -> None:
    client.provider.device_waits = True
    with pytest.raises(ThvLlmError, match="not entered in time"):
        client.login_by_device()

    assert 590 <= sum(client.slept) <= 600


def test_googles_name_for_the_page_is_understood(client: Client) -> None:
    def alter(response: ServerResponse) -> ServerResponse:
        response.body["verification_url"] = response.body.pop("verification_uri")
        return response

    client.provider.alter["device"] = alter

    assert client.login_by_device().subject == "user-1"


PLAIN = {"jwks_uri": None, "authorization_endpoint": None}


def test_where_there_is_no_other_login_the_code_is_shown_without_being_asked_for(client: Client) -> None:
    client.provider.alter["discovery"] = lambda good: ServerResponse(body={**good.body, **PLAIN})
    client.configure(scopes=["offline_access"])

    result = client.login()

    assert result.who == ""
    assert client.provider.count("authorize") == 0
    assert client.browser.urls == [f"{client.provider.issuer}/device?user_code=WDJB-MJHT"]


def test_an_openid_provider_that_lost_its_login_by_browser_gets_no_login_by_code(client: Client) -> None:
    lost = {"authorization_endpoint": None}
    client.provider.alter["discovery"] = lambda good: ServerResponse(body={**good.body, **lost})

    with pytest.raises(ThvLlmError, match="no authorization_endpoint"):
        client.login()

    assert client.provider.count("device") == 0
