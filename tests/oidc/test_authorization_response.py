"""The query of the redirect. What a provider can do wrong in it is in `test_misbehaviors`."""

from __future__ import annotations

import pytest

from thv_llm.errors import ThvLlmError
from thv_llm.oidc import login as login_module
from thv_llm.oidc.discovery import Metadata
from thv_llm.secret import Secret

ISSUER = "https://idp.example"
METADATA = Metadata(ISSUER, f"{ISSUER}/token")
STATE = Secret("right")


@pytest.mark.parametrize(
    ("query", "is_ours"),
    [
        ("code=c&state=right", True),
        ("state=right", True),
        ("error=access_denied&state=right", True),
        ("state=%72ight&code=c", True),
        ("", False),
        ("code=c", False),
        ("state", False),
        ("state=", False),
        ("state=wrong", False),
        ("state=Right", False),
        ("state=right%20", False),
        ("state=right&state=right", False),
        ("state=right&state=wrong", False),
        ("state=right;code=c", False),
        ("state=%ff%fe", False),
        ("&".join(["a=b"] * 60) + "&state=right", False),
    ],
)
def test_only_our_state_once_makes_it_ours(query: str, is_ours: bool) -> None:
    assert login_module.is_response(query, STATE) == is_ours


def test_the_code_is_returned_decoded() -> None:
    code = login_module.code_of("code=4%2F0Ab_c-d%3D&state=right", METADATA)

    assert code == Secret("4/0Ab_c-d=")


def test_other_parameters_are_ignored() -> None:
    assert login_module.code_of("session_state=x&scope=a+b&code=c&state=right", METADATA) == Secret("c")


def test_what_the_provider_says_is_shown_without_control_bytes() -> None:
    with pytest.raises(ThvLlmError) as caught:
        login_module.code_of("error=a%1b%5b2J&error_description=line%0aline&state=right", METADATA)

    assert "'a\\x1b[2J': 'line\\nline'" in str(caught.value)
