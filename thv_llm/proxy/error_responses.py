"""Our own responses: health, and errors in the shape that the asking client understands.

A client shows the message of an error to its user when the JSON is shaped as its vendor's API does
it, so the shape follows the request's path, and the message names the command that helps. No
message says anything of tokens, or of what the gateway is made of.

Failures to get a token are 401: clients give up on it at once and show it, while they repeat a 5xx
again and again. Of the few that hide what a 401 says, the registry of tools knows a better status.

Pure: values in, bytes out.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs

from thv_llm import __version__
from thv_llm.errors import ThvLlmError
from thv_llm.proxy import headers
from thv_llm.proxy.access import METHODS
from thv_llm.proxy.http1 import Field, Rejected, Target
from thv_llm.secret import Secret

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}
GEMINI_STATES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
OPENAI_CODES = {401: "invalid_api_key"}
MAX_NONCE = 128
CLOSE: Field = (b"Connection", b"close")
EXTRA: dict[int, list[Field]] = {
    401: [
        (b"x-should-retry", b"false")
    ],  # the vendors' libraries look for it; Claude Code tries ten times else
    405: [(b"Allow", b", ".join(sorted(METHODS)))],
    426: [(b"Upgrade", b"websocket")],
}


def error(refused: Rejected, path: bytes = b"", *, with_body: bool = True) -> bytes:
    """Return a whole response that ends its connection.

    Args:
        path: of the request, as far as it is known.
        with_body: False for a response to HEAD, which says the length only.
    """
    status = refused.status
    body = json.dumps(_shaped(status, f"thv-llm: {refused.reason}", path)).encode()
    return _response(status, body, [*EXTRA.get(status, []), CLOSE], with_body)


class NoToken(Rejected):
    """There is no access token: a 401, or what the client shows to its user instead of that."""


def token_failure(failure: Exception) -> NoToken:
    """Return the 401 for a failure to get a token.

    Args:
        failure: what get_token raised; only the text of a ThvLlmError is meant to be shown.
    """
    if not isinstance(failure, ThvLlmError):
        return NoToken(401, "cannot get an access token. Next: thv-llm doctor")
    return NoToken(401, f"{failure.short}. Next: {failure.next_step or 'thv-llm doctor'}")


def _shaped(status: int, message: str, path: bytes) -> dict[str, object]:
    if path.startswith((b"/anthropic/", b"/v1/messages")):
        kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    if path.startswith((b"/v1beta/", b"/v1alpha/")) or b"enerateContent" in path:
        state = GEMINI_STATES.get(status, "INTERNAL" if status >= 500 else "FAILED_PRECONDITION")
        return {"error": {"code": status, "message": message, "status": state}}
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = OPENAI_CODES.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def health(
    upstream: str, target: Target, key: Secret | None, *, stays: bool, with_body: bool = True
) -> bytes:
    """Return the response to /healthz.

    With `?challenge=NONCE` it holds a proof that the responder knows the local key, so that
    nothing secret is ever sent to a foreign process that listens on our port.

    Args:
        stays: the connection goes on after it.

    Raises:
        Rejected: 400 for a challenge that is not 16 to 128 letters, digits, `-` or `_`.
    """
    said = {"status": "ok", "upstream": upstream, "version": __version__}
    nonces = parse_qs((target.query or b"").decode("ascii")).get("challenge", [])
    if nonces and key is not None:
        nonce = nonces[0]
        plain = nonce.replace("-", "").replace("_", "")
        if not 16 <= len(nonce) <= MAX_NONCE or not plain.isascii() or not plain.isalnum():
            raise Rejected(400, "a challenge is 16 to 128 letters, digits, - or _")
        said["proof"] = key.proof(nonce)
    return _response(200, json.dumps(said).encode(), [] if stays else [CLOSE], with_body)


def _response(status: int, body: bytes, extra: list[Field], with_body: bool) -> bytes:
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
    ]
    head = headers.response(status, REASONS[status].encode(), fields + extra)
    return head + body if with_body else head
