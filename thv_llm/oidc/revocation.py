"""Tell the provider that a session is over.

Best effort: whatever happens here, the caller deletes its copy.

Source: RFC 7009.
"""

from __future__ import annotations

from thv_llm.errors import ThvLlmError
from thv_llm.oidc import discovery
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import Provider
from thv_llm.secret import Secret


def revoke(metadata: Metadata, client_id: str, token: Secret, http: Provider) -> bool:
    """Revoke a refresh token, and with it the session; tell whether the provider agreed.

    False also stands for a provider that cannot be reached, has no revocation, or refuses it
    to public clients (some do, with 401).
    """
    try:
        endpoint = metadata.revocation_endpoint or _other_endpoint(metadata.issuer, http)
        if not endpoint:
            return False
        fields: dict[str, str | Secret] = {
            "token": token,
            "token_type_hint": "refresh_token",
            "client_id": client_id,
        }
        return http.post_form(endpoint, fields).status == 200
    except ThvLlmError:
        return False


def _other_endpoint(issuer: str, http: Provider) -> str:
    """Return the endpoint that only the OAuth metadata names; "" when that has none, either."""
    document = http.get_json(discovery.oauth_metadata_url(issuer))
    return discovery.parse(document, issuer).revocation_endpoint
