"""Provider metadata: fetched, checked, and kept for a day.

Rule 1: the `issuer` in the document is the configured one, character for character.
Rule 2: every URL in it is checked (`oidc.http`) before it is used.
Rule 3: PKCE is not negotiable: a provider that lists methods without S256 is refused.

The cache spares a cold `token` one request. It holds what was read, never a decision: the
same checks run on it again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from thv_llm import files
from thv_llm.errors import InvalidResponseError, ThvLlmError, shown
from thv_llm.net.http_client import JsonObject, json_object
from thv_llm.oidc.http import Provider, checked_url, expect_json

CACHE_S = 24 * 3600.0
WELL_KNOWN = "/.well-known/openid-configuration"
OAUTH_WELL_KNOWN = "/.well-known/oauth-authorization-server"


class Metadata(NamedTuple):
    """The parts of a provider's metadata that we use; "" where it names no such endpoint.

    Attributes:
        iss_in_callback: the redirect must carry `iss` (RFC 9207).
        is_basic: a client secret goes into `Authorization`, else into the form (RFC 6749 section 2.3.1).
        scopes: those that it lists; () when it does not say.
    """

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    jwks_uri: str = ""
    device_authorization_endpoint: str = ""
    revocation_endpoint: str = ""
    end_session_endpoint: str = ""
    registration_endpoint: str = ""
    iss_in_callback: bool = False
    is_basic: bool = True
    scopes: tuple[str, ...] = ()

    @property
    def is_device_only(self) -> bool:
        """Whether a login by code is the only one: at a plain OAuth server, never at an OpenID provider.

        That must have an authorization_endpoint (Discovery section 3); one without it is broken, which is
        no reason to do with less (RFC 8628 section 5.4).
        """
        has_code = bool(self.device_authorization_endpoint)
        return has_code and not self.authorization_endpoint and not self.jwks_uri


ENDPOINTS = (
    "token_endpoint",
    "authorization_endpoint",
    "jwks_uri",
)
OPTIONAL_ENDPOINTS = (
    "device_authorization_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
    "registration_endpoint",
)
"""One that cannot be used stops only what needs it, never a login by browser."""
ASK_ISSUER = "ask your administrator for the issuer's URL; then: thv-llm setup --issuer URL"
METHODS = "code_challenge_methods_supported"
AUTH_METHODS = "token_endpoint_auth_methods_supported"
SCOPES = "scopes_supported"
ISS_IN_CALLBACK = "authorization_response_iss_parameter_supported"


def discover(issuer: str, http: Provider, *, cache_path: str, now: float, fresh: bool = False) -> Metadata:
    """Return the provider's metadata, from the cache if it is less than a day old.

    Args:
        cache_path: file to keep the document in; "" keeps nothing.
        fresh: do not look into the cache.

    Raises:
        NoResponseError: the provider cannot be reached.
        InvalidResponseError: what it says cannot be used; the message names the member.

    Source: OpenID Connect Discovery 1.0 section 4.
    """
    cached = None if fresh else _cached(issuer, cache_path, now)
    if cached is not None:
        return cached
    document = _fetch(issuer, http)
    metadata = parse(document, issuer)
    if cache_path:
        _keep(cache_path, issuer, document, now)
    return metadata


def forget(cache_path: str) -> None:
    """Drop the kept document: something at the provider can have moved."""
    with contextlib.suppress(OSError):
        os.unlink(cache_path)


def oauth_metadata_url(issuer: str) -> str:
    """Return where the other metadata document is. Source: RFC 8414 section 3.1."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{OAUTH_WELL_KNOWN}{parts.path.rstrip('/')}"


def oauth_metadata_urls(issuer: str) -> list[str]:
    """Return that place, and the one of servers that append the well-known part, as OpenID Connect does."""
    return list(dict.fromkeys((oauth_metadata_url(issuer), issuer.rstrip("/") + OAUTH_WELL_KNOWN)))


def parse(document: JsonObject, issuer: str) -> Metadata:
    """Check a metadata document and return what we use of it.

    Raises:
        InvalidResponseError: names the member that is missing, wrong or of another issuer.

    Source: Discovery section 4.3; RFC 8414 section 3.3; RFC 9700 section 2.1.1 (PKCE).
    """
    _check_issuer(document.get("issuer"), issuer)
    if not document.get("token_endpoint"):
        raise _unusable("it names no token_endpoint")
    found = {
        name: checked_url(name, document[name], issuer=issuer)
        for name in ENDPOINTS
        if document.get(name) not in (None, "")
    }
    found |= {name: _optional(name, document.get(name), issuer) for name in OPTIONAL_ENDPOINTS}
    iss_in_callback = document.get(ISS_IN_CALLBACK, False)
    if not isinstance(iss_in_callback, bool):
        raise _unusable(f"{ISS_IN_CALLBACK} is not true or false")
    _check_pkce(document.get(METHODS))
    methods = document.get(AUTH_METHODS)
    is_basic = not isinstance(methods, list) or "client_secret_basic" in methods
    listed = document.get(SCOPES)
    scopes = tuple(map(str, listed)) if isinstance(listed, list) else ()
    return Metadata(issuer, **found, iss_in_callback=iss_in_callback, is_basic=is_basic, scopes=scopes)


def _optional(name: str, url: object, issuer: str) -> str:
    try:
        return checked_url(name, url, issuer=issuer) if url not in (None, "") else ""
    except InvalidResponseError as error:
        from thv_llm import log  # which a cold `token` need not load

        log.debug(f"ignored: {error.why}")
        return ""


def _check_issuer(said: object, issuer: str) -> None:
    if said == issuer:
        return
    if said is None:
        raise _unusable(f"it names no issuer; wanted: {issuer}")
    raise InvalidResponseError(
        "the provider is not the one that was configured",
        why=f"its metadata names the issuer {shown(said, 200)}, configured is {issuer!r}",
        next_step="if the former is right: thv-llm setup --issuer URL, character for character",
    )


def _check_pkce(methods: object) -> None:
    if methods is None:  # many providers have PKCE and do not say so
        return
    if not isinstance(methods, list) or not all(isinstance(item, str) for item in methods):
        raise _unusable(f"{METHODS} is not a list of strings")
    if "S256" not in methods:
        raise _unusable(f"{METHODS} lacks S256, and without PKCE a login can be stolen")


def _unusable(why: str) -> InvalidResponseError:
    return InvalidResponseError("cannot use the provider's metadata", why=why, next_step=ASK_ISSUER)


def _fetch(issuer: str, http: Provider) -> JsonObject:
    url = issuer.rstrip("/") + WELL_KNOWN
    response = http.get(url)
    if response.status == 404:  # plain OAuth servers have the other document only
        for other_url in oauth_metadata_urls(issuer):
            other = http.get(other_url)
            if other.status == 200:
                response = other
                break
    what = f"cannot read {url}"
    if response.status == 404:
        why = f"{response.host} returned HTTP 404: this is no issuer"
        raise InvalidResponseError(what, why=why, next_step=ASK_ISSUER)
    return expect_json(response, what=what)


def _cached(issuer: str, path: str, now: float) -> Metadata | None:
    try:
        kept: dict[str, Any] = json_object(files.read(path) or b"") if path else {}
        age_s = now - float(kept["fetched_at"])
        if kept["issuer"] == issuer and 0 <= age_s < CACHE_S:
            return parse(kept["document"], issuer)
    except (ThvLlmError, ValueError, KeyError, TypeError, AttributeError):
        pass  # a broken cache is no cache
    return None


def _keep(path: str, issuer: str, document: JsonObject, now: float) -> None:
    names = ("issuer", *ENDPOINTS, *OPTIONAL_ENDPOINTS, METHODS, AUTH_METHODS, ISS_IN_CALLBACK, SCOPES)
    wanted = {name: document[name] for name in names if name in document}
    text = json.dumps({"issuer": issuer, "fetched_at": now, "document": wanted})
    with contextlib.suppress(ThvLlmError):  # a full disk must not stop a login
        files.private_directory(os.path.dirname(path))
        files.replace(path, text.encode())
