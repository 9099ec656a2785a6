"""What the lines between agent and client mean.

    token SECONDS [newer MS]  ok EXPIRES_AT ACCESS_TOKEN
    adopt EXPIRES_AT TOKEN    ok
    VERB [REST]               ok [TEXT]
    anything                  err EXIT_CODE TEXT         TEXT has BREAK for line breaks

SECONDS is how long the token must be good for. With `newer` only a token will do that arrived in the
last MS milliseconds, which is since the asking command began, or one that arrives from now on.
`adopt` hands over the token of a login that brought no session, which only the service can keep.
The helper and a detached worker use the same words.
"""

from __future__ import annotations

from thv_llm import errors
from thv_llm.errors import ExitCode, ThvLlmError
from thv_llm.secret import Secret
from thv_llm.shortcut import BREAK, NONSENSE, converse

KILLED = (
    f"err 1 cannot get an access token{BREAK}  why:  thv-llm was killed in the background{BREAK}"
    "  next: try again"
)
"""Stands for the answer of a worker that gave none."""

KINDS = (errors.LoginRequiredError, errors.NotConfiguredError, errors.UnreachableError, errors.UsageError)


def ask(socket_path: str, line: str, *, timeout_s: float) -> str:
    """Return what the agent says after `ok`.

    Raises:
        OSError: nobody listens, or nobody answers.
        ThvLlmError: what the agent reports, as the class that belongs to its exit code.
    """
    answer = converse(socket_path, line, timeout_s)
    if answer is None:
        raise ConnectionRefusedError(f"nobody listens at {socket_path}")
    return content(answer)


def content(answer: str) -> str:
    """Return what an answer says after `ok`, or raise what it reports."""
    word, _, rest = answer.partition(" ")
    if word == "ok":
        return rest
    raise _failure(rest if word == "err" else f"1 {NONSENSE}")


def token(text: str) -> tuple[Secret, float]:
    """Return the token that the content of an answer holds, and when it expires."""
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
    """Return the answer that reports this error; of a bug only its type and place."""
    if isinstance(error, ThvLlmError):
        code, text = error.exit_code, str(error)
    elif isinstance(error, OSError) and error.strerror:  # no process or descriptor left, a broken disk
        code, text = ExitCode.FAILED, f"the system refused\n  why:  {error.strerror}"
    else:
        from thv_llm import log

        code = ExitCode.BUG
        text = f"this is a bug in thv-llm\n  why:  {log.place(error)}\n  next: please report these lines"
    return f"err {int(code)} {text}".replace("\n", BREAK).replace("\r", " ")
