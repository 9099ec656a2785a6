"""What the gateway says of itself: where it serves each protocol, and its models.

For `setup`, `login` and `doctor`; the traffic of the tools is `proxy`'s.

A route is proven with a token in hand, by what comes back for a request that does nothing:
    present: any other JSON than below, also an error such as 400, 422 or 501
    absent:  404, 405, a redirect, a web page
    unknown: 401 and 403 (the gateway may authenticate before it routes), 408, 429, 5xx, no JSON
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import NamedTuple

from thv_llm import paths
from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.net.http_client import HttpClient, Response
from thv_llm.secret import Secret
from thv_llm.settings import Settings
from thv_llm.tools.model import Value
from thv_llm.validation import gateway_root

MODELS_PATH = "/v1/models"
MAX_MODELS = 500
"""A settings file with more entries than this helps nobody."""
MAX_ID_CHARACTERS = 200


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

    def prefix_in(self, wanted: Settings) -> str:
        """Return the prefix in effect: the gateway's root when the settings name none."""
        return getattr(wanted, self.field) or ""


ANTHROPIC = Protocol(
    "Anthropic",
    "anthropic_path_prefix",
    "POST",
    "/v1/messages",
    ("/anthropic", ""),
    frozenset({Value.GATEWAY_ANTHROPIC}),
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

    stores = Stores(wanted, paths.find(environ), environ, interactive=False, ask_passphrase=None)
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


def find_prefixes(
    wanted: Settings, environ: Mapping[str, str], token: Secret, *, given: Collection[str] = ()
) -> dict[str, str]:
    """Return the prefixes that differ from the settings, by field, as far as the gateway tells.

    Args:
        given: fields that are not asked for, because the user named them just now.
    """
    found = {}
    for protocol in PROTOCOLS:
        saved: str | None = getattr(wanted, protocol.field)
        if protocol.field not in given:
            prefix = _find_prefix(wanted, environ, protocol, token, saved)
            if prefix is not None and prefix != saved:
                found[protocol.field] = prefix
    return found


def _find_prefix(
    wanted: Settings, environ: Mapping[str, str], protocol: Protocol, token: Secret, saved: str | None
) -> str | None:
    root = gateway_root(wanted.gateway_url)
    try:
        if saved is not None and presence(probe(wanted, environ, protocol, saved, token)) != Presence.ABSENT:
            return saved
        for prefix in protocol.prefixes:
            if prefix and root.endswith(prefix):  # the gateway's URL ends with it already
                continue
            if presence(probe(wanted, environ, protocol, prefix, token)) is Presence.PRESENT:
                return prefix
    except UnreachableError:
        pass
    return saved


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
    return ThvLlmError(
        "the gateway named no models", why=why, next_step="name them: thv-llm setup --models A,B"
    )
