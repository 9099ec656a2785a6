"""A login from the first URL to checked tokens. What a provider can do wrong: `test_misbehaviors`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.fakes.browser import FakeBrowser, broken_browser, no_browser, where_it_ends
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.grants import Grant
from tests.fakes.provider import FakeProvider
from tests.fakes.web import CA_FILE, ServerResponse
from tests.oidc.client import GATEWAY, Client, leaks
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.oidc import id_token
from thv_llm.oidc import login as login_module
from thv_llm.oidc.http import Provider
from thv_llm.oidc.interaction import Interaction
from thv_llm.oidc.login import LoginResult
from thv_llm.secret import Secret


class Person:
    """A user at a terminal who sees lines and pastes lines.

    Args:
        paste: what to do with the URL that is shown; returns what to paste.
    """

    def __init__(self, paste: Callable[[str], str]) -> None:
        self.said: list[str] = []
        self._paste = paste
        self._shown = 0

    def interaction(self, open_browser: Callable[[str], bool] = no_browser) -> Interaction:
        return Interaction(self.said.append, open_browser, self.read_line)

    def read_line(self, timeout_s: float) -> str | None:
        urls = [line.strip() for line in self.said if line.strip().startswith("https://")]
        if len(urls) <= self._shown:
            time.sleep(timeout_s)
            return None
        self._shown += 1
        return self._paste(urls[-1])


def where_the_browser_ends(url: str) -> str:
    """Log in on another machine, where the redirect leads nowhere."""
    return where_it_ends(url, CA_FILE)


def test_the_browser_login_gives_checked_tokens(client: Client) -> None:
    result = client.login()

    assert (result.subject, result.who) == ("user-1", "dev@example.com")
    assert result.tokens.refresh is not None
    claims = client.provider.verify_access_token(result.tokens.access.reveal())
    assert claims["sub"] == "user-1"
    assert "Logged in" in client.browser.page
    assert GATEWAY in client.browser.page
    assert client.browser.headers["cache-control"] == "no-store"


def test_each_request_to_the_provider_is_what_the_specifications_want(client: Client) -> None:
    client.configure(audience="api", resource="https://llm.example.com", prompt="login")
    client.login(prompt="select_account")

    query = client.provider.last("authorize").query
    form = client.provider.last("token").form
    assert query["response_type"] == "code"
    assert query["scope"] == "openid offline_access"
    assert query["prompt"] == "select_account"
    assert query["code_challenge_method"] == "S256"
    assert min(len(query[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert "code_verifier" not in query
    assert set(form) == {
        *("grant_type", "code", "redirect_uri", "client_id", "code_verifier", "resource", "audience")
    }
    for sent in (query, form):
        assert (sent["audience"], sent["resource"]) == ("api", "https://llm.example.com")
        assert sent["redirect_uri"].startswith("http://127.0.0.1:")


def test_nothing_empty_is_sent(client: Client) -> None:
    client.login()

    for endpoint in ("authorize", "token"):
        fields = client.provider.last(endpoint).fields
        assert all(fields.values())
        assert not {"audience", "resource", "prompt"} & set(fields)


def test_each_login_has_fresh_random_values(client: Client) -> None:
    client.login()
    client.login()

    first, second = (request.query for name, request in client.provider.requests if name == "authorize")
    assert all(first[name] != second[name] for name in ("state", "nonce", "code_challenge"))


def test_what_is_shown_holds_no_secret_beyond_state_and_challenge(client: Client) -> None:
    result = client.login()

    assert leaks("".join(client.said) + repr(result), client.provider) == []


def test_the_redirect_host_and_port_can_be_fixed(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client.configure(callback_port=port, redirect_host="localhost")
    client.login()

    assert client.provider.last("authorize").query["redirect_uri"] == f"http://localhost:{port}/callback"


def test_a_port_that_is_taken_is_said_before_any_browser_opens(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        client.configure(callback_port=other.getsockname()[1])
        with pytest.raises(ThvLlmError, match="--callback-port"):
            client.login(interaction=Interaction(client.said.append, no_browser))


def test_strays_before_the_authorization_response_change_nothing(client: Client) -> None:
    before = ("/", "/favicon.ico", "/callback?error=access_denied", "/callback?code=x&state=wrong")
    result = client.login(before=before)

    assert result.subject == "user-1"
    assert client.browser.strays == [404, 404, 400, 400]


def test_the_listener_is_gone_after_the_login(client: Client) -> None:
    client.login()

    port = urlsplit(client.provider.last("authorize").query["redirect_uri"]).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port or 0), 1)


def test_a_refresh_token_that_is_kept_back_is_asked_for_once_more_with_consent() -> None:
    with FakeProvider(needs_consent=True) as provider:
        client = Client(provider)
        client.configure(prompt="login")
        result = client.login()

    prompts = [request.query["prompt"] for name, request in provider.requests if name == "authorize"]
    assert prompts == ["login", "login consent"]
    assert result.tokens.refresh is not None
    assert len(client.browser.urls) == 1
    assert "Logged in" in client.browser.page


def test_a_provider_that_gives_no_refresh_token_is_asked_twice_and_then_taken_as_it_is(
    client: Client,
) -> None:
    def alter(response: ServerResponse) -> ServerResponse:
        response.body.pop("refresh_token")
        return response

    client.provider.alter["token"] = alter
    result = client.login()

    assert client.provider.count("authorize") == 2
    assert result.tokens.refresh is None
    assert sum("no refresh token: the session will end" in line for line in client.said) == 1


def test_who_was_asked_for_consent_already_is_not_asked_again(client: Client) -> None:
    client.configure(prompt="login consent")
    client.provider.alter["token"] = lambda response: ServerResponse(
        body={name: value for name, value in response.body.items() if name != "refresh_token"}
    )
    client.login()

    assert client.provider.count("authorize") == 1


def test_each_url_is_announced_to_the_waiting_caller() -> None:
    heard: list[str] = []
    with FakeProvider(needs_consent=True) as provider, FakeBrowser(CA_FILE) as browser:
        interaction = Interaction(lambda line: None, browser.open, announce=heard.append)
        Client(provider).login(interaction=interaction)

    assert [url.startswith(f"{provider.issuer}/authorize?") for url in heard] == [True, True]
    assert "prompt=consent" in heard[1]


def test_without_offline_access_there_is_no_second_round(client: Client) -> None:
    client.configure(scopes=("openid",))
    result = client.login()

    assert client.provider.count("authorize") == 1
    assert result.tokens.refresh is None


@pytest.mark.parametrize("scopes", [("openid", "offline_access"), ("all-apis", "offline_access")])
def test_without_an_id_token_the_name_is_unknown_and_the_session_works(
    client: Client, scopes: tuple[str, ...]
) -> None:
    client.configure(scopes=scopes)
    client.provider.alter["token"] = without_id_token
    result = client.login()

    assert (result.subject, result.who) == ("", "")
    assert client.provider.verify_access_token(result.tokens.access.reveal())
    assert ("nonce" in client.provider.last("authorize").query) == ("openid" in scopes)
    assert result.tokens.refresh is not None
    assert client.refresh(result.tokens.refresh.reveal(), subject="")


def test_a_login_by_code_needs_no_id_token_either(client: Client) -> None:
    client.provider.alter["device_token"] = without_id_token

    assert client.login_by_device().who == ""


def without_id_token(response: ServerResponse) -> ServerResponse:
    response.body.pop("id_token", None)
    return response


def test_the_gateway_may_want_the_id_token(client: Client) -> None:
    client.configure(gateway_token="id_token")
    result = client.login()

    assert result.tokens.access == result.tokens.id_token
    assert result.tokens.expires_at == id_token.expiry_of(result.tokens.access)
    assert result.who == "dev@example.com"


def test_without_an_id_token_the_gateway_cannot_get_one(client: Client) -> None:
    client.configure(gateway_token="id_token")
    client.provider.alter["token"] = without_id_token
    with pytest.raises(UnreachableError, match="issued no ID token"):
        client.login()

    assert "The login failed" in client.browser.page


def test_an_es256_token_is_taken_for_the_sake_of_tls(client: Client) -> None:
    client.provider.alter_id_token = lambda header, claims: header.update(alg="ES256")

    assert client.login().subject == "user-1"


def test_the_browser_is_told_when_the_code_is_refused(client: Client) -> None:
    client.provider.alter["token"] = lambda _: ServerResponse(400, {"error": "invalid_grant"})
    with pytest.raises(ThvLlmError):
        client.login()

    assert "The login failed" in client.browser.page
    assert "invalid_grant" in client.browser.page


def test_the_browser_is_told_when_the_session_cannot_be_kept(client: Client) -> None:
    def keep(result: LoginResult) -> None:
        raise ThvLlmError("cannot write the session", why="the disk is full")

    with pytest.raises(ThvLlmError, match="cannot write"):
        client.login(keep=keep)

    assert "The disk is full." in client.browser.page


def test_the_result_is_kept_before_the_browser_is_told(client: Client) -> None:
    pages: list[str] = []
    client.login(keep=lambda result: pages.append(client.browser.page))

    assert pages == [""]


def test_a_login_that_is_not_finished_ends() -> None:
    with FakeProvider() as provider:
        client = Client(provider)
        with pytest.raises(ThvLlmError, match="the browser did not come back in time"):
            client.login(
                interaction=Interaction(client.said.append, broken_browser), timeout_s=0.05, flow="manual"
            )

    assert provider.count("token") == 0


def test_without_a_browser_the_url_is_printed(client: Client) -> None:
    with FakeBrowser(client.provider.ca_file) as browser:

        def say(line: str) -> None:
            client.said.append(line)
            if "https://" in line:
                browser.open(line.strip())

        result = client.login(interaction=Interaction(say, broken_browser))

    assert result.subject == "user-1"
    assert client.said[0] == "Open this URL in a browser to log in:"


def test_the_manual_flow_opens_no_browser_and_takes_the_pasted_address(client: Client) -> None:
    user = Person(where_the_browser_ends)
    result = client.login(flow="manual", interaction=user.interaction())

    assert result.subject == "user-1"
    assert leaks("".join(user.said), client.provider) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda url: f"  {url}  ",
        lambda url: f"{url}#",
        lambda url: url.partition("?")[2],
        lambda url: f"http://[x]/?{url.partition('?')[2]}",
    ],
)
def test_what_is_pasted_may_be_untidy(client: Client, change: Callable[[str], str]) -> None:
    user = Person(lambda url: change(where_the_browser_ends(url)))

    assert client.login(flow="manual", interaction=user.interaction()).subject == "user-1"


def test_pasted_text_that_is_no_authorization_response_is_said_so(client: Client) -> None:
    lines = iter(["hello", "http://127.0.0.1/callback?code=x&state=wrong", ""])
    user = Person(where_the_browser_ends)
    patient = user.interaction()

    def read_line(timeout_s: float) -> str | None:
        return next(lines, None) or user.read_line(timeout_s)

    interaction = Interaction(patient.say, no_browser, read_line)
    result = client.login(flow="manual", interaction=interaction)

    assert result.subject == "user-1"
    assert sum("not the address of this login" in line for line in user.said) == 2


def test_a_pasted_refusal_ends_the_login(client: Client) -> None:
    def refuse(url: str) -> str:
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        issuer = client.provider.issuer
        return f"http://127.0.0.1/callback?error=access_denied&state={query['state']}&iss={issuer}"

    with pytest.raises(ThvLlmError, match="access_denied") as caught:
        client.login(flow="manual", interaction=Person(refuse).interaction())

    assert caught.value.next_step.startswith("ask your administrator for access")


def test_the_manual_flow_takes_the_redirect_too(client: Client) -> None:
    with FakeBrowser(client.provider.ca_file) as browser:
        user = Person(lambda url: "" if browser.open(url) else "no")
        result = client.login(flow="manual", interaction=user.interaction())

    assert result.subject == "user-1"
    assert "Logged in" in browser.page


def test_the_second_round_works_with_pasted_addresses() -> None:
    with FakeProvider(needs_consent=True) as provider:
        client = Client(provider)
        result = client.login(flow="manual", interaction=Person(where_the_browser_ends).interaction())

    assert result.tokens.refresh is not None


def test_the_device_flow_names_the_user_too(client: Client) -> None:
    kept: list[LoginResult] = []
    result = client.login_by_device(keep=kept.append)

    assert result.subject == "user-1"
    assert kept == [result]


def test_a_login_goes_through_a_proxy_that_asks_for_a_password(client: Client) -> None:
    with ConnectProxy("joe", "hunter2") as proxy:
        environ = {"SSL_CERT_FILE": CA_FILE, "HTTPS_PROXY": proxy.url}
        client.http = Provider("", environ)
        result = client.login()

    assert result.subject == "user-1"
    assert len(proxy.targets) == 3  # metadata, token, keys
    assert leaks("".join(proxy.heads), client.provider) == []


def test_parameters_of_the_settings_are_sent_and_never_replace_ours(client: Client) -> None:
    client.configure(extra_params=("access_type=offline", "acr_values=a b&c", "prompt=x", "audience=y"))
    client.login(prompt="consent")
    client.login_by_device()

    query = client.provider.last("authorize").query
    assert (query["access_type"], query["acr_values"], query["audience"]) == ("offline", "a b&c", "y")
    assert query["prompt"] == "consent"
    assert client.provider.last("device").form["access_type"] == "offline"
    assert "access_type" not in client.provider.last("token").form


def test_a_query_of_the_authorization_endpoint_is_kept(client: Client) -> None:
    metadata = client.discover()._replace(authorization_endpoint="https://idp.example/auth?policy=b2c")
    request = login_module.AuthorizationRequest(state=Secret("a b&c"))
    url = login_module.authorization_url(metadata, client.oidc, request, "http://127.0.0.1:1/callback")

    query = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert query["policy"] == ["b2c"]
    assert query["state"] == ["a b&c"]
    assert url.isascii()
    assert " " not in url


def test_an_id_token_that_was_not_requested_needs_no_nonce(client: Client) -> None:
    client.configure(scopes=("llm", "offline_access"))
    issue = client.provider._id_token
    client.provider.alter["token"] = lambda good: ServerResponse(
        body={**good.body, "id_token": issue(Grant("cli", "", "user-1"), int(time.time()))}
    )

    assert client.login().who == "dev@example.com"
