"""What the gateway says of itself: its models, and where it serves Anthropic's API.

Asked by `setup` and `doctor`; the traffic of the tools is `proxy`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from thv_llm.errors import ThvLlmError, UnreachableError
from thv_llm.proxy.ask import ask
from thv_llm.proxy.upstream import Gateway
from thv_llm.secret import Secret
from thv_llm.settings import Settings

TIMEOUT_S = 10.0
ANTHROPIC_PATH = "/anthropic"
MAX_MODELS = 500
"""A settings file with more entries than this helps nobody."""
MAX_ID_CHARACTERS = 200


def at(wanted: Settings, environ: Mapping[str, str]) -> Gateway:
    """Return the door to the configured gateway."""
    return Gateway(
        wanted.gateway_url, ca_file=wanted.ca_file, environ=environ, verify=not wanted.tls_skip_verify
    )


def anthropic_path(wanted: Settings, environ: Mapping[str, str]) -> str:
    """Return `/anthropic` if the gateway has Anthropic's API there, else "" (at its root, or unknown).

    Without a token, a path that exists answers 401.
    """
    try:
        status, _, _ = ask(at(wanted, environ), "HEAD", f"{ANTHROPIC_PATH}/v1/messages", None, TIMEOUT_S)
    except UnreachableError:
        return ""
    return ANTHROPIC_PATH if status == 401 else ""


def models(wanted: Settings, environ: Mapping[str, str], token: Secret) -> tuple[str, ...]:
    """Return the ids that `/v1/models` names, in the gateway's order, at most `MAX_MODELS`.

    OpenAI's and Anthropic's lists have the same shape as far as it matters here.

    Raises:
        UnreachableError: the gateway cannot be reached.
        ThvLlmError: it answers with something that is no list of models.
    """
    status, _, body = ask(at(wanted, environ), "GET", "/v1/models", token, TIMEOUT_S)
    if status != 200:
        raise _unusable(f"it answers {status} to GET /v1/models")
    try:
        listed = json.loads(body)["data"]
        ids = [entry["id"] for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unusable("its answer to GET /v1/models is no list of models") from None
    found = tuple(dict.fromkeys(name for name in ids if _is_id(name)))[:MAX_MODELS]
    if not found:
        raise _unusable("its list of models is empty")
    return found


def _is_id(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_ID_CHARACTERS and name.isprintable()


def _unusable(why: str) -> ThvLlmError:
    return ThvLlmError(
        "the gateway named no models", why=why, next_step="name them: thv-llm setup --models A,B"
    )
