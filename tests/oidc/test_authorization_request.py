"""Verifier, challenge, state and nonce."""

from __future__ import annotations

import re

from thv_llm.oidc.login import AuthorizationRequest
from thv_llm.secret import Secret

UNRESERVED = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def test_the_challenge_is_the_one_of_the_specification() -> None:
    """RFC 7636 appendix B."""
    request = AuthorizationRequest(code_verifier=Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))

    assert request.code_challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_ten_thousand_requests_have_nothing_in_common() -> None:
    requests = [AuthorizationRequest() for _ in range(10_000)]

    texts = [value.reveal() for each in requests for value in (each.code_verifier, each.state, each.nonce)]
    assert len(set(texts)) == 30_000
    assert all(UNRESERVED.fullmatch(text) for text in texts)


def test_an_request_shows_nothing_of_itself() -> None:
    request = AuthorizationRequest()

    assert request.code_verifier.reveal() not in repr(request)
