"""What the browser brings back: the query of the redirect.

Rule 1: without our `state` it is a stray, whatever else it says, and never ends a login.
Rule 2: with our `state` it is the answer, good or bad, and ends it.

Pure. Source: RFC 6749 section 4.1.2; RFC 9207 section 2.4.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from thv_llm.errors import ThvLlmError, shown
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.failures import LOGIN_FAILED, UntrustedAnswerError
from thv_llm.secret import Secret

MAX_FIELDS = 50


def is_ours(query: str, state: Secret) -> bool:
    """Tell whether this is the answer to the login with that `state`, compared in constant time."""
    found = _values(query).get("state", [])
    return len(found) == 1 and Secret(found[0]) == state


def code(query: str, metadata: Metadata) -> Secret:
    """Return the authorization code of an answer that is ours.

    Raises:
        ThvLlmError: the provider says that the login failed.
        UntrustedAnswerError: it is not the provider's answer, or not one answer.
    """
    values = _values(query)
    _check_iss(values.get("iss", []), metadata)
    if "error" in values:
        why = f"the provider says {shown(values['error'][0])}"
        if values.get("error_description", [""])[0]:
            why += f": {shown(values['error_description'][0], 200)}"
        raise ThvLlmError(LOGIN_FAILED, why=why, next_step="thv-llm login")
    codes = values.get("code", [])
    if len(codes) != 1 or not codes[0]:
        raise UntrustedAnswerError(
            LOGIN_FAILED,
            why="the redirect carries no code" if not any(codes) else "the redirect carries two codes",
            next_step="thv-llm login",
        )
    return Secret(codes[0])


def _check_iss(found: list[str], metadata: Metadata) -> None:
    if found == [metadata.issuer]:
        return
    if not found:
        if not metadata.iss_in_callback:
            return
        why = "the redirect does not say which issuer it comes from (iss), as this provider always does"
    elif len(found) > 1:
        why = "the redirect names two issuers (iss)"
    else:
        why = f"the redirect comes from the issuer {shown(found[0], 200)}, not from {metadata.issuer!r}"
    raise UntrustedAnswerError(LOGIN_FAILED, why=why, next_step="thv-llm login")


def _values(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:  # too many
        return {}
