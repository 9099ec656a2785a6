"""Which values a setting takes, and what it says about the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from thv_llm import validation


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://llm.example.com", "https://llm.example.com"),
        ("https://llm.example.com/base/", "https://llm.example.com/base"),
        ("https://[::1]:8443/v1", "https://[::1]:8443/v1"),
    ],
)
def test_a_gateway_is_an_https_url_and_keeps_its_path(given: str, taken: str) -> None:
    assert validation.gateway_url(given) == taken


@pytest.mark.parametrize(
    "bad",
    [
        "http://llm.example.com",
        "https://",
        "https:///v1",
        "https://user@llm.example.com",
        "https://u:p@llm.example.com",
        "https://llm.example.com?x=1",
        "https://llm.example.com/?",
        "https://llm.example.com#f",
        "https://llm.example.com\\@evil",
        "https://llm.example.com/a b",
        "https://llm.example.com/\n",
        "https://llm.exämple.com",
        "https://llm.example.com:port",
        "https://[::1",
        "llm.example.com",
        "-new-window",
        "https://llm.example.com:99999",
        "https://llm.example.com/a/../b",
        "https://llm.example.com/.",
        "https://llm.example.com/%2e%2e/b",
        "https://llm.example.com/%252e%252e/b",
        "https://llm.example.com/..;a/b",
        "https://llm.example.com/%zz",
        "https://llm.example.com//other",
        "https://llm.example.com/v1/messages",
        "https://llm.example.com/v1/chat/completions/",
    ],
)
def test_a_gateway_that_could_lead_elsewhere_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"https URL|base URL"):
        validation.gateway_url(bad)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("", ""),
        ("/", ""),
        ("/v1", ""),
        ("/v1/", ""),
        ("/team", "/team"),
        ("/team/", "/team"),
        ("/team/v1", "/team"),
        ("/api/v10", "/api/v10"),
        ("/v1beta", "/v1beta"),
        ("/a.b/..c", "/a.b/..c"),
    ],
)
def test_v1_at_the_end_of_a_gateways_url_belongs_to_the_api(path: str, base: str) -> None:
    url = f"https://llm.example.com{path}"

    assert validation.gateway_root(str(validation.gateway_url(url))) == f"https://llm.example.com{base}"


@pytest.mark.parametrize("good", ["https://id.example.com/", "http://127.0.0.1:9", "http://localhost:9/r"])
def test_an_issuer_stays_character_for_character(good: str) -> None:
    assert validation.issuer(good) == good


@pytest.mark.parametrize(
    "bad", ["http://id.example.com", "ftp://id", "https://u@x", "https://x?y", "https://"]
)
def test_an_issuer_without_tls_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="https URL"):
        validation.issuer(bad)


@pytest.mark.parametrize("bad", [0, 80, 1023, 65536, -1])
def test_a_port_that_needs_privileges_or_does_not_exist_is_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="1024 to 65535"):
        validation.port(bad)


def test_a_callback_port_may_be_any() -> None:
    assert validation.port_or_any(0) == 0
    with pytest.raises(ValueError, match="or 0"):
        validation.port_or_any(80)


@pytest.mark.parametrize("bad", [0, 9, 86_401, "60"])
def test_a_time_limit_is_neither_a_moment_nor_for_ever(bad: int | str) -> None:
    assert validation.seconds(600) == 600
    with pytest.raises(ValueError, match="from 10 to 86400"):
        validation.seconds(bad)


@pytest.mark.parametrize("bad", ["two words", "tab\t", "new\nline", "esc\x1b", "ü"])
def test_a_word_holds_no_spaces_and_no_control_characters(bad: str) -> None:
    with pytest.raises(ValueError, match="one word"):
        validation.word(bad)


@pytest.mark.parametrize("bad", ["anthropic", "//evil", "/a/../b", "/a?b", "/a#b", "/a b"])
def test_a_path_prefix_cannot_leave_the_gateway(bad: str) -> None:
    with pytest.raises(ValueError, match="path"):
        validation.path_prefix(bad)


def test_a_path_prefix_may_be_empty_and_loses_its_last_slash() -> None:
    assert validation.path_prefix("") == ""
    assert validation.path_prefix("/anthropic/") == "/anthropic"
    assert validation.path_prefix("/anthropic/v1") == "/anthropic"
    assert validation.path("/api/v1/models") == "/api/v1/models"


def test_a_resource_is_an_absolute_uri() -> None:
    assert validation.resource("urn:gateway") == "urn:gateway"
    for bad in ("gateway", "https://x#f", "https://[x", "https://[x]/"):
        with pytest.raises(ValueError, match="8707"):
            validation.resource(bad)


def test_a_ca_file_must_be_there_and_hold_a_certificate(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    with pytest.raises(ValueError, match="No such file"):
        validation.ca_file(str(pem))
    pem.write_text("hello")
    with pytest.raises(ValueError, match="no certificate"):
        validation.ca_file(str(pem))
    pem.write_text("-----BEGIN CERTIFICATE-----")
    assert validation.ca_file(str(pem)) == str(pem)


def test_a_choice_takes_its_values_only() -> None:
    check = validation.OneOf("keyring", "file")
    assert check("file") == "file"
    with pytest.raises(ValueError, match="keyring, file"):
        check("cloud")


def test_parameters_of_the_login_are_taken_as_they_are() -> None:
    given = ("access_type=offline", "acr_values=urn:a urn:b", "kc_idp_hint=a,b=c", "access_type=online", "x=")

    assert validation.auth_params(given) == (
        "access_type=online",
        "acr_values=urn:a urn:b",
        "kc_idp_hint=a,b=c",
        "x=",
    )


@pytest.mark.parametrize(
    "piece",
    [
        "no-value",
        "=x",
        "a b=x",
        "a&b=x",
        "x=\n",
        "x=\u00fc",
        "client_id=x",
        "client_secret=x",
        "redirect_uri=https://evil.example",
        "state=x",
        "scope=x",
        "nonce=x",
        "code_challenge=x",
        "code_challenge_method=plain",
        "response_type=token",
        "response_mode=query",
        "request=x",
        "request_uri=x",
        "claims={}",
        "State=x",
    ],
)
def test_what_decides_over_the_safety_of_a_login_cannot_be_set(piece: str) -> None:
    with pytest.raises(ValueError, match=r"NAME=VALUE|does not set itself"):
        validation.auth_params((piece,))
