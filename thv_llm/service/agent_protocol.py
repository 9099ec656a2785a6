"""What the lines between agent and client mean.

    token SECONDS [newer MS] [for TOOL]  ok EXPIRES_AT ACCESS_TOKEN
    adopt EXPIRES_AT TOKEN               ok
    challenge NONCE                      ok PROOF
    VERB [REST]                          ok [TEXT]
    anything                             err EXIT_CODE TEXT         TEXT has BREAK for line breaks

SECONDS is how long the token must be good for. With `newer` only a token will do that arrived in the
last MS milliseconds, which is since the asking command began, or one that arrives from now on. TOOL is
whose call it is, from the command line that setup wrote into the tool's settings.
`adopt` hands over the token of a login that brought no session, which only the service can keep.
The helper and a detached worker use the same words.

Rule 1: `adopt` goes to a process of our own user only. For all else nothing secret goes to a listener:
        whether it is our own service it proves by HMAC-SHA256(local key, NONCE), and with a fresh random
        nonce an old response is worth nothing.
Rule 2: what a listener says is not trusted beyond that response.
"""

from __future__ import annotations

import os

from thv_llm import errors
from thv_llm.agent_client import BREAK, NONSENSE, converse
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

KILLED = (
    f"err 1 cannot get an access token{BREAK}  why:  thv-llm was killed in the background{BREAK}"
    "  next: try again"
)
"""Stands for the response of a worker that gave none."""

TIMEOUT_S = 2.0
"""For what a living service returns at once."""
KINDS = (errors.LoginRequiredError, errors.NotConfiguredError, errors.UnreachableError, errors.UsageError)


class ForeignAgentError(ThvLlmError):
    """What listens on the agent's socket is not ours to trust."""


def call(
    socket_path: str,
    line: str,
    *,
    timeout_s: float = TIMEOUT_S,
    trust: Callable[[socket], None] = lambda _: None,
) -> str:
    """Return what the agent says after `ok`.

    Args:
        trust: as of `agent_client.converse`.

    Raises:
        OSError: no listener, or no response.
        ThvLlmError: what the agent reports, as the class that belongs to its exit code.
    """
    response = converse(socket_path, line, timeout_s, trust=trust)
    if response is None:
        raise ConnectionRefusedError(f"connection refused by {socket_path}")
    return content(response)


def hand_over(socket_path: str, token: Secret, expires_at: float, *, timeout_s: float) -> None:
    """Have the agent keep a token, if it is a process of our own user.

    `THV_LLM_SOCKET` can name any socket, and its listener would have the token.

    Raises:
        ForeignAgentError: another user's process listens; it was sent nothing.
        OSError, ThvLlmError: as `call`.
    """
    from thv_llm.system import peers

    def trust(sock: socket) -> None:
        if not peers.is_own_user(sock):
            raise ForeignAgentError(
                "the token was not handed to the background service",
                why=f"a process of another user has the socket {socket_path}",
                next_step="unset THV_LLM_SOCKET, then thv-llm login",
            )

    call(socket_path, f"adopt {expires_at:.0f} {token.reveal()}", timeout_s=timeout_s, trust=trust)


def is_ours(socket_path: str, key: Secret) -> bool:
    """Tell whether our own service listens: it knows the local key."""
    question = os.urandom(16).hex()
    try:
        response = call(socket_path, f"challenge {question}")
    except (OSError, ThvLlmError):
        return False
    return Secret(response.strip()) == Secret(key.proof(question))


def content(response: str) -> str:
    """Return what a response says after `ok`, or raise what it reports."""
    word, _, rest = response.partition(" ")
    if word == "ok":
        return rest
    raise _failure(rest if word == "err" else f"1 {NONSENSE}")


def token(text: str) -> tuple[Secret, float]:
    """Return the token that the content of a response holds, and when it expires."""
    expires_at, _, value = text.partition(" ")
    return Secret(value), float(expires_at)


def _failure(text: str) -> ThvLlmError:
    """Return the error that `EXIT_CODE TEXT` stands for."""
    code, _, lines = text.partition(" ")
    what, *more = lines.split(BREAK)
    parts = {line[:8].strip(): line[8:] for line in more}
    kind = next((kind for kind in KINDS if str(int(kind.exit_code)) == code), ThvLlmError)
    return kind(what, why=parts.get("why:", ""), next_step=parts.get("next:", ""))


def failure_line(error: BaseException) -> str:
    """Return the response that reports this error; of a bug only its type and place."""
    if isinstance(error, ThvLlmError):
        code, text = error.exit_code, str(error)
    elif isinstance(error, OSError) and error.strerror:  # no process or descriptor left, a broken disk
        code, text = ExitCode.FAILED, f"the system returned an error\n  why:  {error.strerror}"
    else:
        from thv_llm import log

        code = ExitCode.BUG
        text = f"this is a bug in thv-llm\n  why:  {log.place(error)}\n  next: please report these lines"
    return f"err {int(code)} {text}".replace("\n", BREAK).replace("\r", " ")
