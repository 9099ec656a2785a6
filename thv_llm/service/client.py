"""Ask the agent: one line out, one line back.

The protocol, also spoken by the helper and by a detached worker to its caller:

    token SECONDS [force]   ok EXPIRES_AT ACCESS_TOKEN
    VERB [REST]             ok [TEXT]
    anything                err EXIT_CODE TEXT         TEXT has \\x1f for line breaks

Light to import: everything that takes time is imported where it is needed.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from thv_llm.errors import ThvLlmError

TOKEN_TIMEOUT_S = 35.0
"""A little more than a refresh may take with everything that can go wrong."""

BREAK = "\x1f"
RECEIVE_BYTES = 65536
LONGEST_ANSWER_BYTES = 1 << 20
FULL_PAUSE_S = 0.01


def converse(socket_path: str, line: str, timeout_s: float = TOKEN_TIMEOUT_S) -> str | None:
    """Return the agent's answer without its line end, or None when nobody answers.

    Raises:
        TimeoutError: somebody listens and says nothing.
    """
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        _connect(sock, socket_path, timeout_s)
        sock.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            more = sock.recv(RECEIVE_BYTES)
            if not more or len(answer) > LONGEST_ANSWER_BYTES:
                return None  # it went away in mid-sentence
            answer += more
    except TimeoutError:
        raise
    except OSError:
        return None
    finally:
        sock.close()
    return answer.decode("utf-8", "replace")[:-1]


def _connect(sock: object, path: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            sock.connect(path)  # type: ignore[attr-defined]  # _socket has no stubs for its class
            return
        except BlockingIOError:  # its queue is full for a moment
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(FULL_PAUSE_S)


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
    raise failure(rest if word == "err" else "1 the agent gave an answer that makes no sense")


def failure(text: str) -> ThvLlmError:
    """Return the error that `EXIT_CODE TEXT` stands for."""
    from thv_llm import errors

    code, _, lines = text.partition(" ")
    what, *more = lines.split(BREAK)
    parts = {line[:8].strip(): line[8:] for line in more}
    kinds = (errors.LoginRequiredError, errors.NotConfiguredError, errors.UnreachableError, errors.UsageError)
    kind = next((kind for kind in kinds if str(int(kind.exit_code)) == code), errors.ThvLlmError)
    return kind(what, why=parts.get("why:", ""), next_step=parts.get("next:", ""))


def failure_line(error: BaseException) -> str:
    """Return the answer that reports this error; of a bug only its type and place."""
    from thv_llm.errors import ExitCode, ThvLlmError

    if isinstance(error, ThvLlmError):
        code, text = error.exit_code, str(error)
    else:
        from thv_llm import log

        code = ExitCode.BUG
        text = f"this is a bug in thv-llm\n  why:  {log.place(error)}\n  next: please report these lines"
    return f"err {int(code)} {text}".replace("\n", BREAK).replace("\r", " ")
