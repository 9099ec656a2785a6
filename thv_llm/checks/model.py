"""The words of a finding, and what the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from thv_llm import settings, state
from thv_llm.errors import ThvLlmError

if TYPE_CHECKING:
    from thv_llm.paths import Paths
    from thv_llm.service.background import Running
    from thv_llm.settings import Settings
    from thv_llm.state import State
    from thv_llm.tokens import AccessToken

MIN_VALID_S = 60
SLOW_HELPER_S = 2.0
"""Tools wait for the helper before a request; Codex gives it 5 s by default."""
AGENT_TIMEOUT_S = 35.0
"""More than the agent itself waits for the provider."""


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, one or two words.
        reason: what was found; for a fault, what is wrong.
        remedy: the command, or the action, that mends it; "" when there is nothing to mend.
    """

    level: Level
    name: str
    reason: str
    remedy: str = ""


def ok(name: str, reason: str) -> Check:
    """Return a finding that is as it should be."""
    return Check(Level.OK, name, reason)


def warn(name: str, reason: str, remedy: str) -> Check:
    """Return a finding that may become, or explain, a fault."""
    return Check(Level.WARN, name, reason, remedy)


def fail(name: str, reason: str, remedy: str) -> Check:
    """Return a fault."""
    return Check(Level.FAIL, name, reason, remedy)


def failed(name: str, error: ThvLlmError) -> Check:
    """Return the fault that an error tells of."""
    reason = f"{error.what}: {error.why}" if error.why else error.what
    return fail(name, reason, error.next_step or "thv-llm doctor --debug")


@dataclass(frozen=True)
class Ground:
    """What the checks look at; each part is read once, when it is first asked for.

    Attributes:
        progress: told what takes a moment.
        slow_helper_s: from when on an answer of the helper is slow.
    """

    environ: Mapping[str, str]
    where: Paths
    platform: str
    now: Callable[[], float]
    progress: Callable[[str], None] = lambda _text: None
    slow_helper_s: float = SLOW_HELPER_S

    @cached_property
    def settings(self) -> Settings:
        """The settings in effect; ThvLlmError when they cannot be used."""
        return settings.load(self.where.settings)

    @cached_property
    def state(self) -> State:
        """What setup recorded; ThvLlmError when it cannot be understood."""
        return state.load(self.where.state)

    @cached_property
    def running(self) -> Running | None:
        """Our service, if it runs."""
        from thv_llm.service import background

        return background.find(self.where)

    @cached_property
    def adopted_until(self) -> float:
        """Until when the service has the token of a login that brought no session; 0 when it has none."""
        from thv_llm.service import background

        facts = background.facts(self.where) if self.running and self.running.answers else {}
        until = facts.get("adopted_until")
        return until if isinstance(until, float) and until > self.now() else 0.0

    @cached_property
    def token(self) -> AccessToken:
        """A token that is good now, from the service if it runs; ThvLlmError when none can be had."""
        from thv_llm import tokens, trial
        from thv_llm.service import answers

        if self.running is None or not self.running.answers:
            return trial.token(self.settings, self.environ)
        found = answers.ask(self.where.socket, f"token {MIN_VALID_S}", timeout_s=AGENT_TIMEOUT_S)
        return tokens.AccessToken(*answers.token(found))
