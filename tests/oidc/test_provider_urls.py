"""Which URLs of a provider can be used."""

from __future__ import annotations

import pytest

from thv_llm.errors import InvalidResponseError
from thv_llm.oidc.http import checked_url

HTTPS = "https://idp.example"
LOOPBACK = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example/oauth2/v1/authorize",
        "https://idp.example:8443/a/b_c-d.e~f",
        "https://login.example/common/token?p=b2c_1&x=%20y",
        "https://127.0.0.1/token",
        "https://[::1]:8443/token",
        "https://idp.example",
        "https://idp.example?tenant=1",
        "https://idp.example/a;b=c,d/@me/+1",
    ],
)
def test_plain_https_urls_may_be_used(url: str) -> None:
    assert checked_url("token_endpoint", url, issuer=HTTPS) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/",
        "http://127.0.0.1/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "-new-window https://x",
        " https://idp.example/",
        "https:idp.example",
        "https:///token",
        "https://",
        "https://user@idp.example/",
        "https://user:pw@idp.example/",
        "https://idp.example/#fragment",
        "https://idp.example\\@evil.example/",
        "https://idp.example/\r\nHost: evil.example",
        "https://idp.example/\x00",
        "https://idp.example/a b",
        "https://idp.example/ü",
        "https://idр.example/",
        "https://idp.example/%zz",
        "https://idp.example/%s",
        "https://idp.example/%action",
        "https://idp.example/%0d%0aX",
        "https://idp.example/$(touch x)",
        "https://idp.example/`id`",
        "https://idp.example/'",
        'https://idp.example/"',
        "https://idp.example/<script>",
        "https://idp.example/{a}",
        "https://idp.example:99999/",
        "https://idp.example:0/",
        "https://idp.example:/",
        "https://[::1/",
        "https://[evil]/",
        "https://idp.example/" + "a" * 3000,
        7,
        None,
        ["https://idp.example/"],
    ],
)
def test_anything_else_is_refused_by_name(url: object) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        checked_url("token_endpoint", url, issuer=HTTPS)

    assert "token_endpoint" in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()


def test_plain_http_on_loopback_is_for_issuers_that_are_so_themselves() -> None:
    assert checked_url("token_endpoint", f"{LOOPBACK}/token", issuer=LOOPBACK)
    assert checked_url("token_endpoint", "http://localhost:1/token", issuer="http://[::1]:8080")
    with pytest.raises(InvalidResponseError):
        checked_url("token_endpoint", "http://idp.example/token", issuer=LOOPBACK)
    with pytest.raises(InvalidResponseError):
        checked_url("token_endpoint", "http://127.0.0.1.evil.example/", issuer=LOOPBACK)
