"""Is the other end our own service? It proves that it knows the local key, without showing it.

Rule 1: nothing secret goes to a listener, proven or not. The question is a fresh random
        nonce, the answer HMAC-SHA256(local key, nonce): a listener that only pretends learns
        nothing, and an old answer is worth nothing.
Rule 2: what a listener says is never shown or trusted beyond that answer.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import time
from typing import TYPE_CHECKING

from thv_llm.errors import ThvLlmError

if TYPE_CHECKING:
    from thv_llm.secret import Secret

TIMEOUT_S = 2.0
MAX_REPLY_BYTES = 8_192
"""A /healthz answer has about 300 bytes."""


def nonce() -> str:
    """Return a question that was never asked before."""
    return os.urandom(16).hex()


def proof(key: Secret, question: str) -> str:
    """Return the answer that only a holder of the key can give."""
    return hmac.new(key.reveal().encode(), question.encode(), hashlib.sha256).hexdigest()


def agent_is_ours(path: str, key: Secret) -> bool:
    """Tell whether our own service listens on the agent's socket."""
    from thv_llm.service import answers

    question = nonce()
    try:
        answer = answers.ask(path, f"challenge {question}", timeout_s=TIMEOUT_S)
    except (OSError, ThvLlmError):
        return False
    return hmac.compare_digest(answer.strip().encode(), proof(key, question).encode())


def port_is_ours(port: int, key: Secret) -> bool:
    """Tell whether our own proxy listens on a port of 127.0.0.1."""
    question = nonce()
    request = (
        f"GET /healthz?challenge={question} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    )
    try:
        body = _exchange(port, request.encode("ascii")).partition(b"\r\n\r\n")[2]
    except OSError:
        return False
    return proof(key, question).encode() in body


def somebody_listens(port: int) -> bool:
    """Tell whether a connection to a port of 127.0.0.1 is accepted; nothing is sent."""
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _exchange(port: int, request: bytes) -> bytes:
    """Send a request and return what comes back until the end, the limit or the deadline."""
    deadline = time.monotonic() + TIMEOUT_S
    reply = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request)
        while len(reply) < MAX_REPLY_BYTES and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            piece = connection.recv(MAX_REPLY_BYTES)
            if not piece:
                break
            reply += piece
    return reply
