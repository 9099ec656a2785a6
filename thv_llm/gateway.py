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
MODELS_PATH = "/v1/models"
MAX_MODELS = 500
"""A settings file with more entries than this helps nobody."""
MAX_ID_CHARACTERS = 200


def anthropic_path(wanted: Settings, environ: Mapping[str, str]) -> str:
    """Return `/anthropic` if the gateway has Anthropic's API there, else "" (at its root, or unknown).

    Without a token, a path that exists answers 401.
    """
    there = Gateway.configured(wanted, environ)
    try:
        found, _, _ = ask(there, "HEAD", f"{ANTHROPIC_PATH}/v1/messages", None, TIMEOUT_S)
    except UnreachableError:
        return ""
    return ANTHROPIC_PATH if found == 401 else ""


def status_with(wanted: Settings, environ: Mapping[str, str], token: Secret | None) -> int:
    """Return the status of the answer to a request for the models.

    Raises:
        UnreachableError: the gateway cannot be reached.
    """
    return ask(Gateway.configured(wanted, environ), "GET", MODELS_PATH, token, TIMEOUT_S)[0]


def models(wanted: Settings, environ: Mapping[str, str], token: Secret) -> tuple[str, ...]:
    """Return the ids that `/v1/models` names, in the gateway's order, at most `MAX_MODELS`.

    OpenAI's and Anthropic's lists have the same shape as far as it matters here.

    Raises:
        UnreachableError: the gateway cannot be reached.
        ThvLlmError: it answers with something that is no list of models.
    """
    found, _, body = ask(Gateway.configured(wanted, environ), "GET", MODELS_PATH, token, TIMEOUT_S)
    if found != 200:
        raise _unusable(f"it answers {found} to GET {MODELS_PATH}")
    try:
        listed = json.loads(body)["data"]
        ids = [entry["id"] for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unusable(f"its answer to GET {MODELS_PATH} is no list of models") from None
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
