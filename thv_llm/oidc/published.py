"""What a gateway publishes of how to log in: fetched and checked. A proposal, for the user to confirm.

Rule 1: anonymous GETs with TLS verified, no redirects, 64 KiB of JSON, nested a little.
Rule 2: a document is about this gateway, or it is not used: its `resource` is the URL that was asked, or
        one above it on the same origin; as an authorization server, its `issuer` is the gateway.
Rule 3: it says who logs users in, and what to ask for. Other members are not read, so it never says whom
        to trust, which file to use or what to run.
Rule 4: what would get a token for another API is refused: a user must type that. So is an issuer
        on an IP address or on this very machine, unless the gateway is there, too.
Rule 5: its text is printable ASCII, at most 1,024 characters, and shown as `repr`.

Source: RFC 9728 (protected resource metadata), RFC 8414 (authorization server metadata), RFC 7591
(registration).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from thv_llm import policy, settings
from thv_llm.errors import InvalidResponseError, UsageError, shown
from thv_llm.net.http_client import TIMEOUT_S, HttpClient, JsonObject, Response
from thv_llm.oidc import device, discovery
from thv_llm.oidc.discovery import Metadata
from thv_llm.oidc.http import checked_url, describe
from thv_llm.settings import ROWS, OidcSettings
from thv_llm.validation import LOOPBACK_HOSTS, SettingValue, gateway_root

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PROBE_PATH = "/v1/models"
"""Of a gateway that authenticates, an anonymous request for it says where the document is."""
MAX_DOCUMENT_BYTES = 64 * 1024
MAX_MEMBERS, MAX_DEPTH = 200, 5
MAX_CHARACTERS, MAX_ITEMS = 1024, 100

PROFILE = "com.stacklok.thv-llm."
OTHER_PROFILE = "com.stacklok.mecatl."
MEMBERS: Mapping[str, tuple[str, ...]] = {
    "oidc.client_id": (f"{PROFILE}client_id", f"{OTHER_PROFILE}client_id"),
    "oidc.scopes": (f"{PROFILE}scopes", "scopes_supported"),
    "oidc.audience": (f"{PROFILE}audience", f"{OTHER_PROFILE}audience"),
    "oidc.resource": (f"{PROFILE}resource",),
    "gateway.token": (f"{PROFILE}token",),
    "oidc.callback_port": (f"{PROFILE}callback_port",),
    "oidc.redirect_host": (f"{PROFILE}redirect_host",),
    "models": (f"{PROFILE}models",),
    "gateway.headers": (f"{PROFILE}headers",),
}
"""By key of a setting, the members that can say it; the first one that is there counts."""
PATHS = {
    "openai": "openai_path_prefix",
    "anthropic": "anthropic_path_prefix",
    "gemini": "gemini_path_prefix",
    "models": "models_path",
}
"""By member of our `paths`, the key of the setting: paths below the gateway's URL."""
HEADERS = frozenset(
    {
        "x-portkey-provider",
        "x-portkey-config",
        "x-litellm-tags",
        "x-databricks-use-coding-agent-mode",
        "x-snowflake-authorization-token-type",
        "x-tenant-id",
        "x-team",
        "x-project",
    }
)
"""Names in our `headers`: they choose a route, and none of them carries a credential."""
UNUSABLE = {
    "dpop_bound_access_tokens_required": "tokens that are bound to a key (DPoP)",
    "tls_client_certificate_bound_access_tokens": "tokens that are bound to a client's certificate",
}
DEVICE_CLIENT_ID = "claude-code"
"""Of a Claude apps gateway, which has a login by code only, and knows one client."""

_METADATA_URL = re.compile(r'\bresource_metadata\s*=\s*(?:"([^"]*)"|([^\s",]+))', re.IGNORECASE)
_HOST_NAME = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\.?")
_NUMERIC_HOST = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE)
_MANAGEMENT = re.compile(
    r"[0-9a-f]{8}-0000-0000-c000-000000000000|797f4846-ba00-4fd7-ba43-dac1f8f63013"  # Microsoft's own APIs
    r"|^(okta|aws\.cognito)\.|:project:id:zitadel:aud"
    r"|^[A-Z]\w*(\.\w+)*\.(Read|ReadWrite|Send|Create|Manage|FullControl|AccessAsUser)\b"  # Microsoft Graph
    r"|(^|[^a-z])(admin|manage|management|sudo)($|[^a-z])"
)


class Published(NamedTuple):
    """What was found.

    Attributes:
        url: where it was found.
        issuers: who logs users in, the choice is the user's.
        values: settings by key, checked; none that the caller has named itself.
        ca_sha256: fingerprint of the certificate authority that the administrator names; shown where TLS with
            the issuer fails, and never trusted for that.
    """

    url: str
    issuers: tuple[str, ...]
    values: Mapping[str, SettingValue]
    ca_sha256: str = ""


def find(
    gateway_url: str,
    ca_file: str,
    environ: Mapping[str, str],
    *,
    named: Collection[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> tuple[Published | None, list[str]]:
    """Ask the gateway at its well-known places; the first document that is about it counts.

    Args:
        gateway_url: a checked one.
        named: keys of settings that are decided already; the document's are passed over, unchecked.
        timeout_s: for each request.

    Returns:
        What was found, None for nothing; and a line for each place that had nothing to use, with the reason.

    Raises:
        NoResponseError: the gateway cannot be reached.
        InvalidResponseError: a document that is about this gateway cannot be used; the message says why.
    """
    base = gateway_root(gateway_url)
    look = _Look(base, HttpClient(ca_file, environ=environ, timeout_s=timeout_s))
    for url, document in look.resources():
        return read(document, url, base, named=named), look.tried
    for url, document in look.servers():
        return _as_server(document, url, base, named), look.tried
    return None, look.tried


class _Look:
    """The requests of one search, and what came of them."""

    def __init__(self, base: str, client: HttpClient) -> None:
        self._client = client
        self._what = f"cannot reach the gateway at {base}"
        self._base = base
        self._parts = urlsplit(base)
        self._origin = f"{self._parts.scheme}://{self._parts.netloc}"
        self.tried: list[str] = []

    def resources(self) -> Iterator[tuple[str, JsonObject]]:
        """Give the documents of a protected resource that are about this gateway.

        Source: RFC 9728 sections 3.1 and 3.3; of a URL without a path, both spellings are met.
        """
        path = self._parts.path
        own = (self._base,) if path else (self._base, f"{self._base}/")
        url = f"{self._origin}{WELL_KNOWN}"
        if document := self._about(url + path, lambda said: said in own):
            yield url + path, document
        if path and (document := self._about(url, self._is_above(self._base))):
            yield url, document
        called = self._base + PROBE_PATH
        url = self._named_by_challenge(called)
        if url and (document := self._about(url, self._is_above(called))):
            yield url, document

    def _is_above(self, asked: str) -> Callable[[str], bool]:
        return lambda said: policy.is_below(asked, said)

    def servers(self) -> Iterator[tuple[str, JsonObject]]:
        """Give the documents by which the gateway is its own authorization server."""
        for issuer in dict.fromkeys((self._base, self._origin)):
            for url in discovery.oauth_metadata_urls(issuer):
                document = self._get_json(url)
                if document is None:
                    continue
                if (said := document.get("issuer")) in (issuer, f"{issuer}/"):
                    yield url, document
                else:
                    self._note(url, f"it is of the issuer {shown(said, 200)}")

    def _named_by_challenge(self, called: str) -> str:
        """Return the URL in the response to an anonymous request. Source: RFC 9728 section 5.1."""
        response = self._get(called)
        found = _METADATA_URL.search(response.headers.get("www-authenticate", ""))
        if response.status != 401 or not found:
            self._note(called, f"HTTP {response.status}, and no resource_metadata")
            return ""
        url = found[1] or found[2] or ""
        if not policy.is_same_origin(url, self._origin):
            self._note(called, f"its resource_metadata is elsewhere: {shown(url, 200)}")
            return ""
        return url

    def _about(self, url: str, is_about: Callable[[str], bool]) -> JsonObject | None:
        document = self._get_json(url)
        if document is None:
            return None
        said = document.get("resource")
        if isinstance(said, str) and is_about(said):
            return document
        self._note(url, f"it is about {shown(said, 200)}" if said else "it names no resource")
        return None

    def _get_json(self, url: str) -> JsonObject | None:
        response = self._get(url)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status != 200:
            is_redirect = 300 <= response.status < 400
            self._note(url, describe(response)[0] if is_redirect else f"HTTP {response.status}")
        elif kind != "application/json":
            self._note(url, f"HTTP 200, but {shown(kind)} instead of application/json")
        elif len(response.body) > MAX_DOCUMENT_BYTES:
            self._note(url, f"it is larger than {MAX_DOCUMENT_BYTES >> 10} KiB")
        elif response.json is None:
            self._note(url, f"it {response.problem}")
        elif not _is_small(response.json):
            self._note(url, "it has too many members, or is nested too deeply")
        else:
            return response.json
        return None

    def _get(self, url: str) -> Response:
        return self._client.send("GET", checked_url("URL", url, issuer=url), what=self._what)

    def _note(self, url: str, why: str) -> None:
        self.tried.append(f"{url}: {why}")


def read(document: JsonObject, url: str, gateway_url: str, *, named: Collection[str] = ()) -> Published:
    """Check a document that is about this gateway.

    Raises:
        InvalidResponseError: names the member that cannot be used.
    """
    for member, what in UNUSABLE.items():
        if document.get(member):
            raise _unusable(gateway_url, f"the gateway wants {what}, which thv-llm does not have")
    methods = document.get("bearer_methods_supported")
    if isinstance(methods, list) and methods and "header" not in methods:
        raise _unusable(gateway_url, "the gateway takes no token in the header Authorization")
    servers = _words(gateway_url, "authorization_servers", document.get("authorization_servers"))
    if not servers:
        raise _unusable(gateway_url, "it names no authorization_servers")
    if "oidc.issuer" not in named:
        for issuer in servers:
            _check_issuer(issuer, gateway_url)
    ca_sha256 = str(document.get(f"{PROFILE}ca_sha256", "")).replace(":", "").lower()
    hint = ca_sha256 if re.fullmatch("[0-9a-f]{64}", ca_sha256) else ""
    return Published(url, servers, _values(document, gateway_url, named), hint)


def _as_server(document: JsonObject, url: str, gateway_url: str, named: Collection[str]) -> Published:
    """Read the metadata of a gateway that is its own authorization server."""
    issuer = str(document["issuer"])
    metadata = discovery.parse(document, issuer)
    endpoints = (
        metadata.token_endpoint,
        metadata.authorization_endpoint,
        metadata.device_authorization_endpoint,
        metadata.registration_endpoint,
    )
    for endpoint in endpoints:
        if endpoint and urlsplit(endpoint)[:2] != urlsplit(gateway_url)[:2]:
            raise _unusable(gateway_url, f"it has an endpoint on another host: {shown(endpoint, 200)}")
    # What such a server supports is not what this client must ask for.
    profile = {name: value for name, value in document.items() if name != "scopes_supported"}
    values = _values(profile, gateway_url, named)
    if metadata.is_device_only and not metadata.registration_endpoint:
        values = {"oidc.client_id": DEVICE_CLIENT_ID, **values}
    return Published(url, (issuer,), values)


def proposed(
    found: Published, issuer: str, metadata: Metadata, *, named: Collection[str] = ()
) -> dict[str, SettingValue]:
    """Return the settings, by key, that come from what was found; never those that are named otherwise."""
    values = {**found.values, "oidc.issuer": issuer, "oidc.scopes": _scopes(found, metadata)}
    return {key: value for key, value in values.items() if key not in named}


def _scopes(found: Published, metadata: Metadata) -> tuple[str, ...]:
    """Return what to ask for: what the gateway names, and ID and refresh tokens where there are any."""
    defaults = OidcSettings().scopes
    named = found.values.get("oidc.scopes")
    if not metadata.scopes and not isinstance(named, tuple):
        return defaults if metadata.jwks_uri else tuple(scope for scope in defaults if scope != "openid")
    offered = tuple(scope for scope in defaults if scope in metadata.scopes)
    if isinstance(named, tuple):
        return tuple(dict.fromkeys((*named, *offered)))
    return offered or defaults


def register(metadata: Metadata, wanted: OidcSettings, ca_file: str, environ: Mapping[str, str]) -> str:
    """Register a public client, and return its id.

    Raises:
        NoResponseError: the provider cannot be reached.
        InvalidResponseError: it did not register a public client.

    Source: RFC 7591 sections 2 and 3.
    """
    port = f":{wanted.callback_port}" if wanted.callback_port else ""
    code = device.GRANT_TYPE if metadata.is_device_only else "authorization_code"
    client = {
        "client_name": "thv-llm",
        "redirect_uris": [f"http://{wanted.redirect_host}{port}/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": [code, "refresh_token"],
        "response_types": ["code"],
        "scope": " ".join(wanted.scopes),
        "application_type": "native",
    }
    host = urlsplit(metadata.registration_endpoint).hostname
    response = HttpClient(ca_file, environ=environ).send(
        "POST",
        metadata.registration_endpoint,
        what=f"cannot reach the provider at {host}",
        headers={"Content-Type": "application/json"},
        body=json.dumps(client).encode(),
    )
    found = response.json or {}
    client_id = found.get("client_id")
    if response.status not in (200, 201):
        why = describe(response)[0]
        if isinstance(found.get("error"), str):
            why += f": {shown(found['error'])}"
    elif not isinstance(client_id, str) or not 0 < len(client_id) <= MAX_CHARACTERS:
        why = "its response names no client_id"
    elif found.get("client_secret") and found.get("token_endpoint_auth_method") != "none":
        why = "it gave the client a secret, and thv-llm is a public client"
    else:
        return client_id
    next_step = "ask your administrator for a client id; then: thv-llm setup --client-id ID"
    raise InvalidResponseError(f"{host} did not register thv-llm", why=why, next_step=next_step)


def is_elsewhere(name: str, gateway_url: str) -> bool:
    """Tell whether a scope, an audience or a resource names another host, or a provider's own API."""
    if _MANAGEMENT.search(name):
        return True
    try:
        host = urlsplit(name).hostname if "://" in name else None
    except ValueError:
        return True
    return bool(host and _HOST_NAME.fullmatch(host) and host != _host(gateway_url))


def is_foreign(issuer: str, gateway_url: str) -> bool:
    """Tell whether two hosts belong to two organizations, as far as their names tell."""
    return _domain(_host(issuer)) != _domain(_host(gateway_url))


def _domain(host: str) -> str:
    labels = host.rstrip(".").split(".")
    is_numeric = bool(_NUMERIC_HOST.fullmatch(host))
    has_second_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3  # co.uk
    return host if is_numeric else ".".join(labels[-3 if has_second_level else -2 :])


def _values(document: JsonObject, gateway_url: str, named: Collection[str]) -> dict[str, SettingValue]:
    said: dict[str, tuple[str, object]] = {}
    for key, members in MEMBERS.items():
        for member in members:
            if document.get(member) is not None:
                said.setdefault(key, (member, document[member]))
    paths = document.get(f"{PROFILE}paths")
    if isinstance(paths, dict):
        for name, key in PATHS.items():
            if paths.get(name) is not None:
                said[key] = (f"{PROFILE}paths.{name}", paths[name])
    return {
        key: _value(gateway_url, key, member, value)
        for key, (member, value) in said.items()
        if key not in named
    }


def _value(gateway_url: str, key: str, member: str, value: object) -> SettingValue:
    row = next(row for row in ROWS if row.key == key)
    if isinstance(value, dict):
        value = [f"{name}: {text}" for name, text in value.items()]
    found = _words(gateway_url, member, value) if row.type is tuple else value
    for line in found if key == "gateway.headers" and isinstance(found, tuple) else ():
        if line.partition(":")[0].lower() not in HEADERS:
            why = f"{member} names a header that only a user can set: {shown(line.partition(':')[0], 200)}"
            next_step = (
                f'if that is right, type it: thv-llm setup {gateway_url} --gateway-header "Name: value"'
            )
            raise _unusable(gateway_url, why, next_step)
    if isinstance(found, str):
        _check_text(gateway_url, member, found)
    try:
        checked = settings.checked(row, list(found) if isinstance(found, tuple) else found)
    except UsageError as error:
        raise _unusable(gateway_url, f"{member} cannot be used: {error.why or error.what}") from None
    if key in ("oidc.scopes", "oidc.audience", "oidc.resource"):
        for name in checked if isinstance(checked, tuple) else (str(checked),):
            is_host = key != "oidc.scopes" and bool(_HOST_NAME.fullmatch(name)) and name != _host(gateway_url)
            if is_host or is_elsewhere(name, gateway_url):
                raise _unusable(
                    gateway_url,
                    f"{member} requests a token that is valid elsewhere: {shown(name, 200)}",
                    f"if that is right, type it: thv-llm setup {gateway_url} {row.flag} {row.metavar}",
                )
    return checked


def _check_issuer(issuer: str, gateway_url: str) -> None:
    row = next(row for row in ROWS if row.key == "oidc.issuer")
    try:
        settings.checked(row, issuer)
        checked_url("issuer", issuer, issuer=issuer)
    except (UsageError, InvalidResponseError) as error:
        raise _unusable(gateway_url, f"the issuer {shown(issuer, 200)} cannot be used: {error.why}") from None
    host, there = _host(issuer), _host(gateway_url)
    is_local = host in LOOPBACK_HOSTS or host.endswith(".localhost")
    if host == there or (is_local and there in LOOPBACK_HOSTS):
        return
    if is_local or ":" in host or _NUMERIC_HOST.fullmatch(host):
        where = "this very machine" if is_local else "an IP address"
        raise _unusable(
            gateway_url,
            f"the issuer {shown(issuer, 200)} is on {where}",
            f"if that is right, type it: thv-llm setup {gateway_url} --issuer URL",
        )


def _words(gateway_url: str, member: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _unusable(gateway_url, f"{member} is not a list of strings")
    if len(value) > MAX_ITEMS:
        raise _unusable(gateway_url, f"{member} has more than {MAX_ITEMS} items")
    for item in value:
        _check_text(gateway_url, member, item)
    return tuple(value)


def _check_text(gateway_url: str, member: str, text: str) -> None:
    if len(text) > MAX_CHARACTERS or not (text.isascii() and text.isprintable()):
        raise _unusable(gateway_url, f"{member} is no short text of printable ASCII: {shown(text)}")


def _is_small(document: JsonObject) -> bool:
    """Tell whether a document is as small as an honest one."""
    left, level = MAX_MEMBERS, [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            items = list(value.values()) if isinstance(value, dict) else value
            left -= len(items)
            below += [item for item in items if isinstance(item, (dict, list))]
        if left < 0 or not below:
            return left >= 0
        level = below
    return False


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _unusable(gateway_url: str, why: str, next_step: str = "") -> InvalidResponseError:
    return InvalidResponseError(
        "cannot use what the gateway publishes",
        why=why,
        next_step=next_step
        or f"ask its administrator for the values: thv-llm setup {gateway_url} --issuer URL --client-id ID",
    )
