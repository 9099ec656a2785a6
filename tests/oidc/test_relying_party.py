"""The relying-party tests of the OpenID Foundation that apply to a public client of ours.

Each name of the conformance suite (plans Basic, Config, Refresh; some of FAPI) with the
misbehavior that imitates it here, and what the suite wants to see.
"""

from __future__ import annotations

import pytest

from tests.oidc.test_misbehaviors import ALL

ACCEPT, REJECT, EITHER = "accept", "reject", "accept or reject"

CONFORMANCE = (
    ("oidcc-client-test", "idt-ok", ACCEPT),
    ("oidcc-client-test-invalid-iss", "idt-iss", REJECT),
    ("oidcc-client-test-missing-sub", "idt-no-sub", REJECT),
    ("oidcc-client-test-invalid-aud", "idt-aud", REJECT),
    ("oidcc-client-test-missing-aud", "idt-no-aud", REJECT),
    ("oidcc-client-test-missing-iat", "idt-no-iat", REJECT),
    ("oidcc-client-test-kid-absent-single-jwks", "idt-kid-none", ACCEPT),
    ("oidcc-client-test-kid-absent-multiple-jwks", "idt-kid-multi", EITHER),
    ("oidcc-client-test-idtoken-sig-rs256", "idt-ok", ACCEPT),
    ("oidcc-client-test-idtoken-sig-none", "idt-alg-none", EITHER),
    ("oidcc-client-test-invalid-sig-rs256", "idt-sig", REJECT),
    ("oidcc-client-test-nonce-invalid", "idt-nonce", REJECT),
    ("oidcc-client-test-discovery-openid-config", "disc-ok", ACCEPT),
    ("oidcc-client-test-discovery-jwks-uri-keys", "idt-ok", ACCEPT),
    ("oidcc-client-test-discovery-issuer-mismatch", "disc-issuer-mismatch", REJECT),
    ("oidcc-client-test-signing-key-rotation", "idt-kid-unknown", REJECT),
    ("oidcc-client-test-signing-key-rotation-just-before-signing", "idt-kid-late", ACCEPT),
    ("oidcc-client-test-refresh-token", "ref-ok", ACCEPT),
    ("oidcc-client-test-refresh-token-invalid-issuer", "ref-idt-iss", REJECT),
    ("oidcc-client-test-refresh-token-invalid-sub", "ref-idt-sub", REJECT),
    ("fapi-client-test-invalid-expired-exp", "idt-exp", REJECT),
    ("fapi-client-test-invalid-missing-exp", "idt-no-exp", REJECT),
    ("fapi-client-test-invalid-missing-nonce", "idt-no-nonce", REJECT),
    ("fapi-client-test-invalid-secondary-aud", "idt-aud-extra", REJECT),
    ("fapi-client-test-valid-aud-as-array", "idt-aud-array", ACCEPT),
    ("fapi-client-test-invalid-alternate-alg", "idt-alg-hs256", REJECT),
    ("fapi-client-test-iat-is-week-in-past", "idt-iat-old", ACCEPT),
    ("fapi-client-test-invalid-authorization-response-iss", "cb-iss-wrong", REJECT),
    ("fapi-client-test-remove-authorization-response-iss", "cb-iss-missing", REJECT),
    ("fapi-client-test-token-type-case-insensitivity", "tok-type-upper", ACCEPT),
    ("fapi-client-test-no-expires-in", "tok-expires-missing", ACCEPT),
    ("fapi-client-test-invalid-state", "cb-state-wrong", REJECT),
    ("fapi-client-test-missing-state", "cb-state-missing", REJECT),
)


@pytest.mark.parametrize(("name", "mode_name", "wanted"), CONFORMANCE, ids=[row[0] for row in CONFORMANCE])
def test_the_suite_would_be_content(name: str, mode_name: str, wanted: str) -> None:
    """The modes themselves run in `test_misbehaviors`; here they are held against the suite's list."""
    mode = next(mode for mode in ALL if mode.name == mode_name)

    assert wanted == EITHER or (wanted == REJECT) == bool(mode.says), name
