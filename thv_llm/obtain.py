"""One access token for a process that does not stay.

The agent has it. If none listens, one process becomes an agent for a moment: a detached worker
(`service.detached`) claims the socket, refreshes, answers its caller and everybody who asks
meanwhile, and leaves when nobody has come for `LINGER_S`. So fifty helpers at once cost one
refresh with and without the service, and a helper may be killed at any time.

Light to import: the caller of a worker loads nothing heavy; the worker does, after the fork, and
somebody waits for it. What is on its way makes named tuples, because dataclasses would cost it
several milliseconds.
"""

from __future__ import annotations

import os
import time

from thv_llm import shortcut

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from thv_llm.paths import Paths
    from thv_llm.service.agent import Agent
    from thv_llm.tokens import AccessToken

LINGER_S = 2.0
LONGEST_S = 60.0
POLL_S = 0.02


def token(
    paths: Paths, environ: Mapping[str, str], min_valid_s: int, *, newer_than: float | None = None
) -> AccessToken:
    """Return a fresh access token, from the agent or from a worker.

    Args:
        newer_than: only a token that arrived after this moment (monotonic) will do.

    Raises:
        LoginRequiredError, NotConfiguredError, UnreachableError, ThvLlmError: as the agent reports.
    """
    from thv_llm.service import answers
    from thv_llm.tokens import AccessToken

    age_s = None if newer_than is None else time.monotonic() - newer_than
    found = answers.content(answer(paths, environ, request(min_valid_s, age_s)))
    return AccessToken(*answers.token(found))


def request(min_valid_s: int, age_s: float | None = None) -> str:
    """Return the line that asks for a token, perhaps for one of at most that age."""
    return f"token {min_valid_s}" + ("" if age_s is None else f" newer {age_s * 1000:.0f}")


def answer(paths: Paths, environ: Mapping[str, str], line: str) -> str:
    """Return the answer to a request, in the words of `service.answers`."""
    deadline = time.monotonic() + shortcut.TIMEOUT_S
    while True:
        try:
            found = shortcut.converse(paths.socket, line)
        except TimeoutError:
            found = shortcut.SILENT
        if found is not None:
            return found
        if environ.get("THV_LLM_SOCKET") and not _is_set_up(paths):
            return _not_forwarded(paths)
        try:
            claim = _claim(paths)
        except BlockingIOError:  # somebody is about to listen
            if time.monotonic() > deadline:
                return shortcut.SILENT
            time.sleep(POLL_S)
            continue
        return _from_worker(paths, environ, line, claim)


def _is_set_up(paths: Paths) -> bool:
    """Return whether this is where setup ran; without its settings even, which is another trouble."""
    return os.path.exists(paths.settings) or os.path.exists(paths.helper)


def _not_forwarded(paths: Paths) -> str:
    """Return the answer where the socket of another machine is all there is, and nobody listens at it."""
    from thv_llm.errors import UnreachableError
    from thv_llm.service import answers

    why = f"nobody listens at {paths.socket} (THV_LLM_SOCKET)"
    next_step = "where you are logged in: thv-llm proxy start --background; then forward its socket again"
    return answers.failure_line(UnreachableError("cannot get an access token", why=why, next_step=next_step))


def _claim(paths: Paths) -> int | None:
    """Claim the socket; None where there is nothing to serve or no place for a socket."""
    if not os.path.exists(paths.settings):
        return None
    from thv_llm.errors import ThvLlmError
    from thv_llm.service.claim import claim

    try:
        return claim(paths.socket)
    except BlockingIOError:
        raise
    except (OSError, ThvLlmError):
        return None


def _from_worker(paths: Paths, environ: Mapping[str, str], line: str, claim: int | None) -> str:
    from thv_llm.paths import own_command
    from thv_llm.service import answers, detached

    is_claimed = "claimed" if claim is not None else "unclaimed"
    found = detached.first_line(
        lambda: work(paths, environ, line, is_claimed=claim is not None),
        own_command("token", detached.WORKER_FLAG, f"{is_claimed} {line}"),
        keep=claim,
    )
    return found or answers.KILLED


def work(paths: Paths, environ: Mapping[str, str], line: str, *, is_claimed: bool) -> None:
    """Be the worker: answer the caller, then whoever comes, until nobody does."""
    from thv_llm.service import answers, detached, hardening

    try:
        agent, leave = _short_lived_agent(paths, environ)
        is_listening = is_claimed and _starts(agent)
        found = agent.reply(line)
    except Exception as error:  # reported like one of the agent's own
        detached.answer(answers.failure_line(error))
        return
    detached.answer(found)
    hardening.harden()  # now that nobody waits for it
    _start_service_again(paths, environ)
    if is_listening:
        end = time.monotonic() + LONGEST_S if found.startswith("ok ") else 0.0
        while agent.idle_s() < LINGER_S and time.monotonic() < end and not leave.wait(POLL_S):
            pass
        agent.stop()


def _short_lived_agent(paths: Paths, environ: Mapping[str, str]) -> tuple[Agent, threading.Event]:
    """Return an agent, and the event that tells it to leave."""
    import threading

    from thv_llm import settings, tls

    known = settings.load(paths.settings)
    known.require_configured()
    context = tls.begun(known.ca_file, environ=environ)  # while the rest is imported
    from thv_llm import tokens
    from thv_llm.errors import UsageError
    from thv_llm.service.agent import Agent

    source = tokens.open(known, paths, environ, context=context)
    leave = threading.Event()

    def control(verb: str, _rest: str) -> str:
        if verb == "forget":
            source.forget()
        if verb not in ("forget", "yield"):
            raise UsageError("the background service does not run, and this process only gives tokens")
        leave.set()
        return ""

    return Agent(paths.socket, source.get, control, claimed=True), leave


def _starts(agent: Agent) -> bool:
    from thv_llm.errors import ThvLlmError

    try:
        agent.start()
    except ThvLlmError:  # no place for a socket: those who wait will refresh one after the other
        return False
    return True


def _start_service_again(paths: Paths, environ: Mapping[str, str]) -> None:
    from thv_llm import state
    from thv_llm.service import spawn

    known = state.load_if_sound(paths.state)
    if known:
        spawn.ensure(paths, known, environ)
