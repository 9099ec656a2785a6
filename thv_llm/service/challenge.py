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
from typing import TYPE_CHECKING

from thv_llm.errors import ThvLlmError

if TYPE_CHECKING:
    from thv_llm.secret import Secret

TIMEOUT_S = 2.0


def nonce() -> str:
    """Return a question that was never asked before."""
    return os.urandom(16).hex()


def proof(key: Secret, question: str) -> str:
    """Return the answer that only a holder of the key can give."""
    return hmac.new(key.reveal().encode(), question.encode(), hashlib.sha256).hexdigest()


def agent_is_ours(path: str, key: Secret) -> bool:
    """Tell whether our own service listens on the agent's socket."""
    from thv_llm.service import agent_protocol

    question = nonce()
    try:
        answer = agent_protocol.ask(path, f"challenge {question}", timeout_s=TIMEOUT_S)
    except (OSError, ThvLlmError):
        return False
    return hmac.compare_digest(answer.strip().encode(), proof(key, question).encode())


def somebody_listens(port: int) -> bool:
    """Tell whether a connection to a port of 127.0.0.1 is accepted, or kept waiting; nothing is sent."""
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True
