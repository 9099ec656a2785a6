"""One access token for a process that does not stay.

The agent has it. If none listens, one process becomes an agent for a moment: a detached worker
(`system.detach`) claims the socket, refreshes, serves its caller and all who connect
meanwhile, and ends when no client has come for `LINGER_S`. So fifty helpers at once cost one
refresh with and without the service, and a helper can be killed at any time.

`login`, `setup` and `doctor` refresh to see whether a session works (`try_session`), and a user can
interrupt them at any moment; a refresh that is cut off loses the session. So it is made by a worker,
too. That one uses the settings that it is given, saved or not, serves its caller alone, and starts
no service. It is the program started anew, never a fork: its caller has loaded much, and can have
threads. Settings and passphrase come through a pipe, not on the command line or in the environment.

Light to import: the caller of a worker loads nothing heavy; the worker does, after the fork, and
a caller waits for it. What is on its way makes named tuples, because dataclasses would cost it
several milliseconds.
"""

from __future__ import annotations

import gc
import os
import time

from thv_llm import agent_client, paths
from thv_llm.service import agent_protocol
from thv_llm.system import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from typing import NoReturn

    from thv_llm.paths import Paths
    from thv_llm.secret import Secret
    from thv_llm.service.agent import Agent
    from thv_llm.settings import Settings
    from thv_llm.tokens import AccessToken, TokenSource

SESSION_WORKER = "session"
"""What the worker of `try_session` is called on the command line."""

SOON_S = 60
"""How long a token for one request at once must be good for."""
LINGER_S = 2.0
LONGEST_S = 60.0
POLL_S = 0.02


def main() -> NoReturn:
    """Be `thv-llm token` without options, when no agent responds: no parser, nothing to wait for."""
    gc.disable()  # what it would look through is code, just loaded
    try:
        found = response(paths.find(os.environ), os.environ, agent_client.REQUEST)
    except KeyboardInterrupt:
        found = agent_client.INTERRUPTED
    except Exception as error:  # told as a worker tells it, without a traceback
        found = agent_protocol.failure_line(error)
    agent_client.finish(found)


def token(
    where: Paths, environ: Mapping[str, str], min_valid_s: int = SOON_S, *, newer_than: float | None = None
) -> AccessToken:
    """Return a fresh access token, from the agent or from a worker.

    Args:
        newer_than: only a token that arrived after this moment (monotonic) will do.

    Raises:
        LoginRequiredError, NotConfiguredError, UnreachableError, ThvLlmError: as the agent reports.
    """
    from thv_llm.tokens import AccessToken

    age_s = None if newer_than is None else time.monotonic() - newer_than
    found = agent_protocol.content(response(where, environ, request(min_valid_s, age_s)))
    return AccessToken(*agent_protocol.token(found))


def request(min_valid_s: int, age_s: float | None = None) -> str:
    """Return the line that asks for a token, perhaps for one of at most that age."""
    return f"token {min_valid_s}" + ("" if age_s is None else f" newer {age_s * 1000:.0f}")


def response(where: Paths, environ: Mapping[str, str], line: str) -> str:
    """Return the response to a request, in the words of `service.agent_protocol`.

    Raises:
        ThvLlmError: this process is root in the home directory of another user.
    """
    deadline = time.monotonic() + agent_client.TIMEOUT_S
    while True:
        try:
            found = agent_client.converse(where.socket, line)
        except TimeoutError:
            found = agent_client.SILENT
        if found is not None:
            return found
        if environ.get("THV_LLM_SOCKET") and not _is_set_up(where):
            return _not_forwarded(where)
        paths.require_own_home(where)
        try:
            claim = _claim(where)
        except BlockingIOError:  # another process is about to listen
            if time.monotonic() > deadline:
                return agent_client.SILENT
            time.sleep(POLL_S)
            continue
        return _from_worker(where, environ, line, claim)


def _is_set_up(where: Paths) -> bool:
    """Return whether this is where setup ran; without its settings even, which is another trouble."""
    return os.path.exists(where.settings) or os.path.exists(where.helper)


def _not_forwarded(where: Paths) -> str:
    """Return the response where the socket of another machine is all there is, and has no listener."""
    from thv_llm.errors import NO_TOKEN, UnreachableError

    why = f"connection refused by {where.socket} (THV_LLM_SOCKET)"
    next_step = "where you are logged in: thv-llm proxy start --background; then forward its socket again"
    return agent_protocol.failure_line(UnreachableError(NO_TOKEN, why=why, next_step=next_step))


def _claim(where: Paths) -> int | None:
    """Claim the socket; None where there is nothing to serve or no place for a socket."""
    if not os.path.exists(where.settings):
        return None
    from thv_llm.system.file_system import claim

    try:
        return claim(where.socket)
    except BlockingIOError:
        raise
    except OSError:
        return None


def _from_worker(where: Paths, environ: Mapping[str, str], line: str, claim: int | None) -> str:
    is_claimed = "claimed" if claim is not None else "unclaimed"
    found = detach.first_line(
        lambda: work(where, environ, line, is_claimed=claim is not None),
        paths.own_command("token", detach.WORKER_FLAG, f"{is_claimed} {line}"),
        keep=claim,
    )
    return found or agent_protocol.KILLED


def work(where: Paths, environ: Mapping[str, str], line: str, *, is_claimed: bool) -> None:
    """Be the worker: serve the caller, then every client, until none comes."""
    from thv_llm.system import memory

    try:
        agent, leave = _short_lived_agent(where, environ)
        is_listening = is_claimed and _starts(agent)
        found = agent.response_to(line)
    except Exception as error:  # reported like one of the agent's own
        detach.report(agent_protocol.failure_line(error))
        return
    detach.report(found)
    gc.enable()
    memory.harden()  # now that no caller waits for it
    _start_service_again(where, environ)
    if is_listening:
        may_linger = detach.HANDS_LOCKS_ON or _claims_anew(where)
        end = time.monotonic() + LONGEST_S if found.startswith("ok ") else 0.0
        while may_linger and agent.idle_s() < LINGER_S and time.monotonic() < end and not leave.wait(POLL_S):
            pass
        agent.stop()


def _claims_anew(where: Paths) -> bool:
    """Claim the socket, to this process's end, when the caller has let go; False: another was faster."""
    from thv_llm.system.file_system import claim

    deadline = time.monotonic() + LINGER_S
    while time.monotonic() < deadline:
        try:
            claim(where.socket)
            return True
        except OSError:
            time.sleep(POLL_S)
    return False


def _short_lived_agent(where: Paths, environ: Mapping[str, str]) -> tuple[Agent, threading.Event]:
    """Return an agent, and the event that tells it to leave."""
    import threading

    from thv_llm import settings
    from thv_llm.net import tls

    known = settings.load(where.settings)
    known.require_configured()
    if known.network:
        environ = _network(known, where, environ)
    context = tls.begun(known.ca_file, environ=environ)  # while the rest is imported
    from thv_llm import tokens
    from thv_llm.errors import UsageError
    from thv_llm.service.agent import Agent

    source = tokens.open(known, where, environ, context=context)
    leave = threading.Event()

    def control(verb: str, _rest: str) -> str:
        if verb == "forget":
            source.forget()
        if verb not in ("forget", "yield"):
            raise UsageError("the background service does not run, and this process only gives tokens")
        leave.set()
        return ""

    return Agent(where.socket, source.get, control, claimed=True), leave


def _network(known: Settings, where: Paths, environ: Mapping[str, str]) -> Mapping[str, str]:
    import contextlib

    from thv_llm.errors import ThvLlmError
    from thv_llm.service import network

    complete = network.environment(known, environ)
    if network.needs_password(complete):
        with contextlib.suppress(ThvLlmError):  # the refresh will say what is wrong with the store
            network.add_password(known, where, complete)
    return complete


def _starts(agent: Agent) -> bool:
    from thv_llm.errors import ThvLlmError

    try:
        agent.start()
    except ThvLlmError:  # no place for a socket: the waiting callers will refresh one after the other
        return False
    return True


def _start_service_again(where: Paths, environ: Mapping[str, str]) -> None:
    from thv_llm import state
    from thv_llm.service import background

    known = state.load_if_sound(where.state)
    if known:
        background.ensure(where, known, environ)


def try_session(
    wanted: Settings,
    environ: Mapping[str, str],
    *,
    passphrase: Secret | None = None,
    as_service: bool = False,
) -> AccessToken:
    """Return a token that the session of these settings gave just now.

    Args:
        as_service: over the network that was saved for the service, else over that of `environ`.
        passphrase: of the encrypted session file, if a user has typed it.

    Raises:
        LoginRequiredError, UnreachableError, ThvLlmError: as `TokenSource.get`.
    """
    import json

    from thv_llm.settings import ROWS
    from thv_llm.tokens import AccessToken

    # What a session depends on is short enough for any pipe.
    others = ("ca_file", "token_store", *(("service.network",) if as_service else ()))
    needed = [row for row in ROWS if row.in_oidc or row.key in others]
    values = {row.key: wanted.get(row) for row in needed if wanted.get(row) != row.default}
    typed = passphrase.reveal() if passphrase else None
    command = paths.own_command("token", detach.WORKER_FLAG, SESSION_WORKER)
    brief = json.dumps([values, typed]).encode()
    line = detach.first_line_of(command, environ, brief)
    return AccessToken(*agent_protocol.token(agent_protocol.content(line or agent_protocol.KILLED)))


def work_on_session(where: Paths, environ: Mapping[str, str]) -> None:
    """Be the worker of `try_session`."""
    from thv_llm.service.agent import Agent
    from thv_llm.system import memory

    memory.harden()
    try:
        source = _source(detach.handed_over(), where, environ)
        line = Agent(where.socket, source.get, _nothing_else).response_to(agent_client.REQUEST)
    except Exception as error:  # reported like one of the agent's own
        line = agent_protocol.failure_line(error)
    detach.report(line)


def _source(brief: bytes, where: Paths, environ: Mapping[str, str]) -> TokenSource:
    import json

    from thv_llm import settings, tokens
    from thv_llm.secret import Secret

    values, typed = json.loads(brief)
    wanted = settings.overlaid(settings.Settings(), values)
    environ = _network(wanted, where, environ)
    if typed is None:
        return tokens.open(wanted, where, environ, is_patient=False)
    return tokens.open(
        wanted, where, environ, interactive=True, ask_passphrase=lambda: Secret(typed), is_patient=False
    )


def _nothing_else(_verb: str, _rest: str) -> str:
    from thv_llm.errors import UsageError

    raise UsageError("this process only tries a session")
