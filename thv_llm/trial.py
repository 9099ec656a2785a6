"""Does a session still give tokens? Tried by a worker that outlives whoever asks.

`login`, `setup` and `doctor` refresh to see whether it works, and a person may interrupt them at
any moment; a refresh that is cut off loses the session. So it is made by a detached worker
(`service.detached`). Unlike the one of `obtain` it uses the settings that it is given, saved or
not, answers its caller alone, and starts no service.

The worker is the program started anew, never a fork: its caller has loaded much, and may have
threads. Settings and passphrase come through a pipe, not on the command line or in the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from thv_llm import settings, shortcut, tokens
from thv_llm.errors import UsageError
from thv_llm.paths import Paths, own_command
from thv_llm.secret import Secret
from thv_llm.service import answers, detached, hardening
from thv_llm.service.agent import Agent
from thv_llm.settings import ROWS, Settings
from thv_llm.tokens import AccessToken, TokenSource

WORKER = "trial"
"""What this worker is called on the command line."""

NEEDED = tuple(row for row in ROWS if row.in_oidc or row.key in ("ca_file", "token_store"))
"""What a session depends on; short enough for any pipe."""


def token(wanted: Settings, environ: Mapping[str, str], *, passphrase: Secret | None = None) -> AccessToken:
    """Return a token that the session of these settings gave just now.

    Args:
        passphrase: of the encrypted session file, if a person has typed it.

    Raises:
        LoginRequiredError, UnreachableError, ThvLlmError: as `TokenSource.get`.
    """
    values = {row.key: wanted.get(row) for row in NEEDED if wanted.get(row) != row.default}
    typed = passphrase.reveal() if passphrase else None
    command = own_command("token", detached.WORKER_FLAG, WORKER)
    line = detached.first_line_of(command, environ, keep=_pipe_with(json.dumps([values, typed]).encode()))
    return AccessToken(*answers.token(answers.content(line or answers.KILLED)))


def work(where: Paths, environ: Mapping[str, str]) -> None:
    """Be the worker."""
    hardening.harden()
    try:
        source = _source(_all_of(detached.KEPT), where, environ)
        line = Agent(where.socket, source.get, _nothing_else).reply(shortcut.REQUEST)
    except Exception as error:  # reported like one of the agent's own
        line = answers.failure_line(error)
    detached.answer(line)


def _source(brief: bytes, where: Paths, environ: Mapping[str, str]) -> TokenSource:
    values, typed = json.loads(brief)
    wanted = settings.overlaid(Settings(), values)
    if typed is None:
        return tokens.open(wanted, where, environ)
    return tokens.open(wanted, where, environ, interactive=True, ask_passphrase=lambda: Secret(typed))


def _nothing_else(_verb: str, _rest: str) -> str:
    raise UsageError("this process only tries a session")


def _pipe_with(data: bytes) -> int:
    """Return the reading end of a pipe that holds this and then ends."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
    finally:
        os.close(writing)
    return reading


def _all_of(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, detached.READ_BYTES), b""))
