"""How each real tool is asked one thing without a screen, and what shows that it starts at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QUESTION = "say pong"


@dataclass(frozen=True)
class Prompt:
    """One tool of the registry, and its command lines.

    Attributes:
        tool: its id in the registry.
        ask: the command line that sends one prompt through our wiring.
        starts: a command line that reads the tool's settings and needs no gateway.
        route: the paths at the gateway that it may use.
    """

    tool: str
    ask: tuple[str, ...]
    starts: tuple[str, ...]
    route: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def program(self) -> str:
        """The program's name."""
        return self.ask[0]


CHAT = "/v1/chat/completions"

PROMPTS: tuple[Prompt, ...] = (
    Prompt(
        "claude-code",
        ("claude", "-p", QUESTION),
        ("claude", "--version"),
        "/anthropic/v1/messages",
        {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    ),
    Prompt(
        "codex",
        ("codex", "exec", "--skip-git-repo-check", QUESTION),
        ("codex", "login", "status"),
        "/v1/responses",
    ),
    Prompt("pi", ("pi", "-p", QUESTION), ("pi", "--list-models"), CHAT),
    Prompt("copilot-cli", ("copilot", "-p", QUESTION, "--allow-all-tools"), ("copilot", "--version"), CHAT),
    Prompt("opencode", ("opencode", "run", "-m", "thv-llm/m-1", QUESTION), ("opencode", "models"), CHAT),
    Prompt("kilo", ("kilo", "run", "-m", "thv-llm/m-1", QUESTION), ("kilo", "models"), CHAT),
    Prompt(
        "gemini-cli",
        ("gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p", QUESTION),
        ("gemini", "--version"),
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    ),
    Prompt("qwen-code", ("qwen", "-p", QUESTION), ("qwen", "--version"), CHAT),
    Prompt("droid", ("droid", "exec", QUESTION), ("droid", "--version"), CHAT),
    Prompt("kimi-code", ("kimi", "-p", QUESTION), ("kimi", "doctor"), CHAT),
    Prompt("cline", ("cline", QUESTION), ("cline", "--version"), CHAT),
    Prompt("vibe", ("vibe", "-p", QUESTION), ("vibe", "--version"), CHAT),
    Prompt("llm", ("llm", "-m", "thv-m-1", QUESTION), ("llm", "models"), CHAT),
    Prompt(
        "aider",
        (
            "aider",
            "--no-git",
            "--yes-always",
            "--no-check-update",
            "--no-show-model-warnings",
            "--message",
            QUESTION,
        ),
        ("aider", "--version"),
        CHAT,
    ),
)


def prompt(tool: str) -> Prompt:
    """Return a tool's command lines."""
    return next(one for one in PROMPTS if one.tool == tool)
