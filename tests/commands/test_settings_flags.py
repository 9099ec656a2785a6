"""The connection flags: one for each setting, and what is not given stays as it is."""

from __future__ import annotations

import pytest

from thv_llm import settings
from thv_llm.commands import parser as flags
from thv_llm.commands.parser import Parser
from thv_llm.errors import UsageError


def parsed(*words: str) -> dict[str, object]:
    parser = Parser()
    flags.add_settings(parser)
    return flags.given(flags.typed(parser.parse_args(words)), None)


def test_nothing_given_means_nothing_changes() -> None:
    assert parsed() == {}


def test_every_setting_has_its_flag() -> None:
    parser = Parser()
    flags.add_settings(parser)
    known = {flag for action in parser._actions for flag in action.option_strings}

    assert {row.flag for row in settings.ROWS} <= known


def test_values_come_in_the_type_of_their_setting() -> None:
    assert parsed("--proxy-port", "15000", "--models", "a,b c", "--no-require-key", "--audience", "") == {
        "proxy.listen_port": 15000,
        "models": ("a", "b", "c"),
        "proxy.require_key": False,
        "oidc.audience": "",
    }


def test_a_list_adds_up_within_one_command_line() -> None:
    assert parsed("--models", "a,b", "--models", "c")["models"] == ("a", "b", "c")
    assert parsed("--models", "")["models"] == ()


def test_a_parameter_of_the_login_is_not_split() -> None:
    words = ("--auth-param", "acr_values=urn:a urn:b,c", "--auth-param", "access_type=offline")

    assert parsed(*words) == {"oidc.extra_params": ("acr_values=urn:a urn:b,c", "access_type=offline")}
    assert parsed("--auth-param", "") == {"oidc.extra_params": ()}


def test_a_bad_value_names_its_setting() -> None:
    with pytest.raises(UsageError, match=r"oidc\.issuer"):
        parsed("--issuer", "ftp://x")
