"""What a finding is, and what the checks look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from thv_llm import settings, state, system, tokens
from thv_llm.errors import LoginRequiredError, ThvLlmError
from thv_llm.paths import Paths
from thv_llm.service import agent_protocol, background, cold_token, network
from thv_llm.service.background import Running
from thv_llm.settings import Settings
from thv_llm.state import State
from thv_llm.tokens import AccessToken
from thv_llm.tools import engine
from thv_llm.tools.desired import Drift

SLOW_HELPER_S = 2.0
"""Tools wait for the helper before a request; Codex gives it 5 s by default."""
AGENT_TIMEOUT_S = 35.0
"""More than the agent itself waits for the provider."""


Remedy = tuple[str, ...] | str
"""The argument list of a command that fixes a finding; or, in words, what only a user can do."""
SETUP = ("thv-llm", "setup")
LOGIN = ("thv-llm", "login")
RESTART = ("thv-llm", "proxy", "restart")


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
        remedy: what fixes it, in every layer (settings, service, tools' files, session); "" when nothing
            must be fixed.
        fix: what `doctor --fix` runs: it needs no user, and changes neither settings, session, trust, nor
            what a user changed; () when there is no such command.
    """

    level: Level
    name: str
    reason: str
    remedy: Remedy = ""
    fix: tuple[str, ...] = ()

    @property
    def next_step(self) -> str:
        """The remedy as a line that can be shown, and typed if it is a command."""
        return self.remedy if isinstance(self.remedy, str) else system.command_line(self.remedy)


def ok(name: str, reason: str) -> Check:
    """Return a finding that is as it should be."""
    return Check(Level.OK, name, reason)


def warn(name: str, reason: str, remedy: Remedy, fix: tuple[str, ...] = ()) -> Check:
    """Return a finding that can become, or explain, a fault."""
    return Check(Level.WARN, name, reason, remedy, fix)


def fail(name: str, reason: str, remedy: Remedy, fix: tuple[str, ...] = ()) -> Check:
    """Return a fault."""
    return Check(Level.FAIL, name, reason, remedy, fix)


def configure(*tools: str) -> tuple[str, ...]:
    """Return the command that configures these tools anew, without a user."""
    return (*SETUP, "--yes", "--lazy", *(word for tool in tools for word in ("--client", tool)))


def failed(name: str, error: ThvLlmError) -> Check:
    """Return the fault that an error tells of."""
    if isinstance(error, LoginRequiredError) and error.next_step in ("", system.command_line(LOGIN)):
        return fail(name, error.short, LOGIN)
    return fail(name, error.short, error.next_step or "thv-llm doctor --debug")


@dataclass(frozen=True)
class Installation:
    """What the checks look at; each part is read once, when it is first asked for.

    Attributes:
        progress: told what takes a moment.
        slow_helper_s: from when on a response of the helper is slow.
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
    def network(self) -> Mapping[str, str]:
        """The environment in which the service asks provider and gateway."""
        complete = network.environment(self.settings, self.environ)
        if network.needs_password(complete):
            with contextlib.suppress(ThvLlmError):  # its store has a finding of its own
                network.add_password(self.settings, self.where, complete)
        return complete

    @cached_property
    def drift(self) -> tuple[Drift, ...]:
        """The files of configured tools that are not as setup would leave them."""
        try:
            wanted = self.settings
            values = engine.values_of(wanted, self.state, self.where.helper) if wanted.gateway_url else None
        except ThvLlmError:
            values = None  # unusable settings have a finding of their own
        place = engine.Place(self.environ, self.where.home, self.platform)
        return engine.drift(self.state, place, values)

    @cached_property
    def sound_tools(self) -> tuple[str, ...]:
        """The configured tools that no user has changed since: files of theirs can be missing or outdated."""
        changed = {one.tool for one in self.drift if one.condition.value in ("changed", "foreign")}
        return tuple(tool.tool for tool in self.state.wired if tool.tool not in changed)

    @property
    def setup_of_sound_tools(self) -> tuple[str, ...]:
        """The command that configures `sound_tools` anew; () without any."""
        return configure(*self.sound_tools) if self.sound_tools else ()

    @cached_property
    def running(self) -> Running | None:
        """Our service, if it runs."""
        return background.find(self.where)

    @cached_property
    def adopted_until(self) -> float:
        """Until when the service has the token of a login that brought no session; 0 when it has none."""
        facts = background.facts(self.where) if self.running and self.running.responds else {}
        until = facts.get("adopted_until")
        return until if isinstance(until, float) and until > self.now() else 0.0

    @cached_property
    def token(self) -> AccessToken:
        """A token that is valid now, from the service if it runs; ThvLlmError when none can be had."""
        return self._asked_for() if self.is_served else self._tried()

    @property
    def is_served(self) -> bool:
        """Whether a service responds that has tokens in memory, perhaps since an hour."""
        return self.running is not None and self.running.responds

    def newer_token(self) -> AccessToken:
        """Return a token that the provider issues now; ThvLlmError when there is none."""
        return self._asked_for(" newer 0") if self.is_served else self._tried()

    def _asked_for(self, age: str = "") -> AccessToken:
        line = f"token {cold_token.SOON_S}{age}"
        found = agent_protocol.call(self.where.socket, line, timeout_s=AGENT_TIMEOUT_S)
        return tokens.AccessToken(*agent_protocol.token(found))

    def _tried(self) -> AccessToken:
        return cold_token.try_session(self.settings, self.environ, as_service=True)
