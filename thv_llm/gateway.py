"""What the gateway says of itself: where it serves each protocol, and its models.

For `setup`, `login` and `doctor`; the traffic of the tools is `proxy`'s.

A route is proven with a token in hand, by what comes back for a request that does nothing:
    present: any other JSON than below, also an error such as 400, 422 or 501
    absent:  404, 405, a redirect, a web page
    unknown: 401 and 403 (the gateway can authenticate before it routes), 408, 429, 5xx, no JSON
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import NamedTuple
from urllib.parse import urlsplit

from thv_llm import paths
from thv_llm.errors import ThvLlmError, UnreachableError, shown
from thv_llm.net.failures import ASK_IN_FRONT, IN_FRONT, redirect
from thv_llm.net.http_client import HttpClient, Response
from thv_llm.secret import Secret
from thv_llm.settings import Settings
from thv_llm.tools.model import Tool, Value
from thv_llm.tools.values import used
from thv_llm.validation import gateway_root

MODELS_PATH = "/v1/models"
MAX_MODELS = 500
"""A settings file with more entries than this is of no use."""
MAX_ID_CHARACTERS = 200
SIGN_IN_TEXT = (b"sign in", b"sign-in", b"log in", b"login", b"password")
NO_MODELS = "the gateway named no models"


class Protocol(NamedTuple):
    """An API that tools speak.

    Attributes:
        field: of `Settings`: the prefix under which the gateway serves it; also its key.
        method, path: a request below that prefix that does nothing.
        prefixes: where gateways serve it, the better one first.
        values: what the files of tools that speak it hold.
    """

    title: str
    field: str
    method: str
    path: str
    prefixes: tuple[str, ...]
    values: frozenset[Value]

    @property
    def flag(self) -> str:
        """The option that names the prefix."""
        return f"--{self.field.replace('_', '-')}"

    def prefix_in(self, wanted: Settings) -> str:
        """Return the prefix in effect: the gateway's root when the settings name none."""
        return getattr(wanted, self.field) or ""


ANTHROPIC = Protocol(
    "Anthropic",
    "anthropic_path_prefix",
    "POST",
    "/v1/messages",
    ("/anthropic", ""),
    frozenset({Value.GATEWAY_ANTHROPIC, Value.PROXY_ANTHROPIC}),
)
OPENAI = Protocol(
    "OpenAI",
    "openai_path_prefix",
    "POST",
    "/v1/chat/completions",
    ("", "/openai"),
    frozenset({Value.GATEWAY_OPENAI, Value.GATEWAY_ROOT, Value.GATEWAY_PATH, Value.PROXY_OPENAI}),
)
GEMINI = Protocol(
    "Gemini",
    "gemini_path_prefix",
    "GET",
    "/v1beta/models",
    ("", "/gemini", "/genai"),
    frozenset({Value.PROXY_GEMINI}),
)
PROTOCOLS = (ANTHROPIC, OPENAI, GEMINI)


class KnownGateway(NamedTuple):
    """Where a gateway serves what, if that is not at its root; `help gateways` says what else to know.

    Attributes:
        host: pattern of the hosts that only it has; "" when it runs under any name.
        prefixes: as in `PROTOCOLS`; "" for a protocol that it does not serve anywhere else.
    """

    title: str
    host: str
    prefixes: tuple[str, str, str]


GATEWAYS = (
    KnownGateway("Envoy AI Gateway", "", ("/anthropic", "", "")),
    KnownGateway("Azure API Management", r".*\.azure-api\.net", ("/anthropic", "/openai", "")),
    KnownGateway("Cloudflare AI Gateway", r"gateway\.ai\.cloudflare\.com", ("/anthropic", "/compat", "")),
    KnownGateway("Bifrost", "", ("/anthropic", "/openai", "/genai")),
    KnownGateway(
        "Databricks",
        r".*\.(databricks\.com|azuredatabricks\.net)",
        ("/ai-gateway/anthropic", "/ai-gateway/openai", "/ai-gateway/gemini"),
    ),
    KnownGateway(
        "Snowflake Cortex", r".*\.snowflakecomputing\.com", ("/api/v2/cortex", "/api/v2/cortex", "")
    ),
    KnownGateway("Coder AI Bridge", "", ("/api/v2/aibridge/anthropic", "/api/v2/aibridge/openai", "")),
)


class Presence(Enum):
    """What a response says of a route."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


def presence(response: Response) -> Presence:
    """Return what the response to a request that does nothing says of its route."""
    status = response.status
    if status in (401, 403, 408, 429) or (status >= 500 and status != 501):
        return Presence.UNKNOWN
    if status in (404, 405) or 300 <= status < 400 or "html" in response.headers.get("content-type", ""):
        return Presence.ABSENT
    return Presence.UNKNOWN if response.json is None else Presence.PRESENT


def send(
    wanted: Settings,
    environ: Mapping[str, str],
    path: str,
    *,
    token: Secret | None,
    method: str = "GET",
    body: bytes | None = None,
) -> Response:
    """Send one request to the gateway; any status is a response.

    Args:
        path: as a tool would send it.
        token: sent as `Authorization: Bearer`; None sends none.

    Raises:
        NoResponseError: the gateway cannot be reached.
        ThvLlmError: the headers that it wants cannot be read.
    """
    client = HttpClient(wanted.ca_file, environ=environ, verify=not wanted.tls_skip_verify)
    headers = {**wanted.headers, **_secret_headers(wanted, environ)}
    if token:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    what = f"cannot reach the gateway at {wanted.gateway_url}"
    return client.send(method, gateway_root(wanted.gateway_url) + path, what=what, headers=headers, body=body)


def _secret_headers(wanted: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    if not wanted.gateway_header_file:
        return {}
    from thv_llm.tokens.session import Stores

    stores = Stores(wanted, paths.find(environ), environ)
    return {name: value.reveal() for name, value in stores.secret_headers().items()}


def probe(
    wanted: Settings, environ: Mapping[str, str], protocol: Protocol, prefix: str, token: Secret
) -> Response:
    """Ask for a protocol under a prefix.

    Raises:
        NoResponseError: the gateway cannot be reached.
    """
    body = b"{}" if protocol.method == "POST" else None
    return send(wanted, environ, prefix + protocol.path, token=token, method=protocol.method, body=body)


class Routes(NamedTuple):
    """Where a gateway serves what, as far as it tells.

    Attributes:
        prefixes: those that differ from the settings, by field.
        absent: the protocols that it serves nowhere: HTTP 404 or 405 at every path that was tried.
    """

    prefixes: dict[str, str]
    absent: tuple[Protocol, ...] = ()

    def lacks(self, tool: Tool) -> str:
        """Return why a tool cannot work with this gateway; "" when it can, as far as is known."""
        spoken = [protocol for protocol in PROTOCOLS if used(tool) & protocol.values]
        if not spoken or any(protocol not in self.absent for protocol in spoken):
            return ""
        titles = " or ".join(protocol.title for protocol in spoken)
        return f"the gateway does not serve {titles}'s API (HTTP 404 at every path that is usual for it)"

    def remedy(self, tool: Tool) -> str:
        """Return what to do where a tool `lacks` its API."""
        flags = [protocol.flag for protocol in self.absent if used(tool) & protocol.values]
        return f"ask the administrator of the gateway for its path; then: thv-llm setup {flags[0]} PATH"


def find_routes(
    wanted: Settings, environ: Mapping[str, str], token: Secret, *, given: Collection[str] = ()
) -> Routes:
    """Ask the gateway where it serves each protocol.

    Args:
        given: fields that are not asked for, because the user named them just now.
    """
    prefixes, absent = {}, []
    for protocol in PROTOCOLS:
        if protocol.field not in given:
            saved: str | None = getattr(wanted, protocol.field)
            prefix, is_absent = _find_prefix(wanted, environ, protocol, token, saved)
            if prefix is not None and prefix != saved:
                prefixes[protocol.field] = prefix
            absent += [protocol] if is_absent else []
    return Routes(prefixes, tuple(absent))


def _find_prefix(
    wanted: Settings, environ: Mapping[str, str], protocol: Protocol, token: Secret, saved: str | None
) -> tuple[str | None, bool]:
    """Return the prefix of a protocol, and whether the gateway serves it nowhere."""
    is_absent = True
    try:
        for prefix in dict.fromkeys((saved, *candidates(gateway_root(wanted.gateway_url), protocol))):
            if prefix is None:
                continue
            response = probe(wanted, environ, protocol, prefix, token)
            found = presence(response)
            if found is Presence.PRESENT or (prefix == saved and found is Presence.UNKNOWN):
                return prefix, False
            is_absent = is_absent and response.status in (404, 405)
    except UnreachableError:
        is_absent = False
    return saved, is_absent


def candidates(root: str, protocol: Protocol) -> list[str]:
    """Return the prefixes under which a gateway can serve a protocol, the likeliest first.

    Those that its URL ends with already, or that belong to a gateway with hosts of its own, are left out.
    """
    host, at = urlsplit(root).hostname or "", PROTOCOLS.index(protocol)
    first = [one.prefixes[at] for one in GATEWAYS if one.host and re.fullmatch(one.host, host)]
    last = [one.prefixes[at] for one in GATEWAYS if not one.host]
    found = dict.fromkeys((*filter(None, first), *protocol.prefixes, *filter(None, last)))
    return [prefix for prefix in found if not prefix or not root.endswith(prefix)]


def remarks(wanted: Settings, environ: Mapping[str, str], token: Secret) -> Iterator[tuple[str, str]]:
    """Yield what is odd about the gateway's URL, each with a next step."""
    root = gateway_root(wanted.gateway_url)
    try:
        if host := sign_in_host(probe(wanted, environ, OPENAI, OPENAI.prefix_in(wanted), token)):
            yield f"{IN_FRONT}: {root} leads to the login page of {shown(host)}", ASK_IN_FRONT
            return
        for above in {root.removesuffix(one) for protocol in PROTOCOLS for one in protocol.prefixes} - {root}:
            there = wanted._replace(gateway_url=above)
            missed = [one for one in PROTOCOLS if not _is_there(wanted, environ, one, token)]
            if found := [one.title for one in missed if _is_there(there, environ, one, token)]:
                what = f"the gateway serves {' and '.join(found)}'s API at {above}, not below {root}"
                yield what, f"thv-llm setup --gateway-url {above}"
    except UnreachableError:
        pass


def _is_there(wanted: Settings, environ: Mapping[str, str], protocol: Protocol, token: Secret) -> bool:
    """Return whether the gateway serves a protocol where the settings say, else at its root."""
    found = probe(wanted, environ, protocol, protocol.prefix_in(wanted), token)
    return presence(found) is Presence.PRESENT


def sign_in_host(response: Response) -> str:
    """Return the host of the login page that a response leads to; "" for another response.

    An API does not ask for a login by a page: something in front of the gateway does.
    """
    if 300 <= response.status < 400 and (location := response.headers.get("location")):
        host, is_login = redirect(response.host, location)
        return host if is_login or host != response.host else ""
    page = response.body.lower() if "html" in response.headers.get("content-type", "") else b""
    return response.host if b"<form" in page and any(text in page for text in SIGN_IN_TEXT) else ""


def models_path(wanted: Settings) -> str:
    """Return where the gateway lists its models."""
    return wanted.models_path or OPENAI.prefix_in(wanted) + MODELS_PATH


def models(wanted: Settings, environ: Mapping[str, str], token: Secret) -> tuple[str, ...]:
    """Return the ids that the gateway lists, in its order, at most `MAX_MODELS`.

    OpenAI's and Anthropic's lists have the same shape as far as it matters here.

    Raises:
        NoResponseError: the gateway cannot be reached.
        ThvLlmError: its response is not a list of models.
    """
    path = models_path(wanted)
    found = send(wanted, environ, path, token=token)
    if host := sign_in_host(found):
        why = f"{IN_FRONT}: {path} leads to the login page of {shown(host)}"
        raise ThvLlmError(NO_MODELS, why=why, next_step=ASK_IN_FRONT)
    if found.status != 200:
        raise _unusable(f"it returns HTTP {found.status} for GET {path}")
    listed = (found.json or {}).get("data")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _unusable(f"its response to GET {path} is not a list of models")
    ids = (entry.get("id") for entry in listed)
    named = tuple(dict.fromkeys(name for name in ids if _is_id(name)))[:MAX_MODELS]
    if not named:
        raise _unusable("its list of models is empty")
    return named


def _is_id(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_ID_CHARACTERS and name.isprintable()


def _unusable(why: str) -> ThvLlmError:
    return ThvLlmError(NO_MODELS, why=why, next_step="name them: thv-llm setup --models A,B")
