"""Which proxy the environment names, for which host."""

from __future__ import annotations

import pytest

from thv_llm.errors import ThvLlmError
from thv_llm.net import dial
from thv_llm.net.dial import EnvProxy
from thv_llm.secret import Secret


def for_host(host: str = "idp.example", port: int = 443, **environ: str) -> EnvProxy | None:
    return dial.env_proxy(host, port, environ)


def test_without_a_variable_the_connection_is_direct() -> None:
    assert for_host() is None
    assert for_host(HTTPS_PROXY="", HTTP_PROXY="http://p:1") is None


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("http://proxy.corp:3128", "proxy.corp", 3128),
        ("proxy.corp:3128", "proxy.corp", 3128),
        ("http://proxy.corp", "proxy.corp", 80),
        ("http://[::1]:3128/", "::1", 3128),
    ],
)
def test_host_and_port_are_taken_from_the_url(value: str, host: str, port: int) -> None:
    assert for_host(HTTPS_PROXY=value) == EnvProxy(host, port)


def test_the_lower_case_name_wins() -> None:
    found = for_host(HTTPS_PROXY="http://upper:1", https_proxy="http://lower:2")

    assert found == EnvProxy("lower", 2)


def test_a_proxy_for_everything_counts_when_there_is_none_for_https() -> None:
    assert for_host(ALL_PROXY="http://all:1") == EnvProxy("all", 1)
    assert for_host(ALL_PROXY="http://all:1", all_proxy="http://lower:2") == EnvProxy("lower", 2)
    assert for_host(all_proxy="http://all:1", HTTPS_PROXY="http://https:2") == EnvProxy("https", 2)
    assert for_host(ALL_PROXY="http://all:1", NO_PROXY="example") is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [("socks5h://proxy:1080", "a SOCKS proxy"), ("https://proxy:443", "an https:// proxy")],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_another_kind_of_proxy_is_refused_in_words(name: str, value: str, kind: str) -> None:
    with pytest.raises(ThvLlmError) as caught:
        dial.env_proxy("idp.example", 443, {name: value})

    assert name in str(caught.value)
    assert kind in str(caught.value)


def test_user_and_password_become_a_secret_header() -> None:
    found = for_host(HTTPS_PROXY="http://joe:p%40ss@proxy:3128")

    assert found is not None
    assert found.authorization == Secret("Basic am9lOnBAc3M=")
    assert "am9l" not in repr(found)


def test_a_password_need_not_be_text() -> None:
    found = for_host(HTTPS_PROXY="http://joe:p\udcff@proxy:3128")

    assert found is not None
    assert found.authorization == Secret("Basic am9lOnD/")


@pytest.mark.parametrize(
    ("rule", "host", "port", "is_direct"),
    [
        ("*", "idp.example", 443, True),
        ("idp.example", "idp.example", 443, True),
        ("IDP.Example", "idp.EXAMPLE", 443, True),
        ("example", "idp.example", 443, True),
        (".example", "idp.example", 443, True),
        ("*.example", "idp.example", 443, True),
        ("ample", "idp.example", 443, False),
        ("idp.example.evil", "idp.example", 443, False),
        ("other, idp.example", "idp.example", 443, True),
        ("other idp.example", "idp.example", 443, True),
        (" other ,\tidp.example ", "idp.example", 443, True),
        ("idp.example.", "idp.example", 443, True),
        ("example", "idp.example.", 443, True),
        (".example.", "idp.example", 443, True),
        (".", "idp.example", 443, False),
        ("idp.example:8443", "idp.example", 443, False),
        ("idp.example:443", "idp.example", 443, True),
        ("127.0.0.1", "127.0.0.1", 8443, True),
        ("::1", "::1", 443, True),
        ("[::1]", "::1", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "idp.example", 443, False),
        ("10.0.0.0/99", "10.1.2.3", 443, False),
        ("", "idp.example", 443, False),
        (",,", "idp.example", 443, False),
    ],
)
def test_no_proxy_excepts_hosts(rule: str, host: str, port: int, is_direct: bool) -> None:
    found = for_host(host, port, HTTPS_PROXY="http://proxy:1", NO_PROXY=rule)

    assert (found is None) == is_direct


@pytest.mark.parametrize(
    "value", ["https://proxy:1", "socks5://proxy:1", "http://", "http://proxy:x", "http://a b"]
)
def test_a_value_that_cannot_be_used_is_an_error_that_names_the_variable(value: str) -> None:
    with pytest.raises(ThvLlmError) as caught:
        for_host(HTTPS_PROXY=value.replace("//", "//user:hunter2@"))

    assert "HTTPS_PROXY" in str(caught.value)
    assert "hunter2" not in str(caught.value)
