"""How each real tool is asked one thing without a screen, and what shows that it starts at all."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.machine import Machine

QUESTION = "say pong"
ANSWER = "Pong: seventeen green parrots."
"""What the gateway says; a tool that prints it has asked the gateway."""


LOGGED_OUT = "Next: thv-llm login"
"""The end of our own text, which most tools show as it is."""
SILENT = "nothing"
"""In place of a text: the tool tries again for minutes and says nothing."""


@dataclass(frozen=True)
class Prompt:
    """One tool of the registry, and its command lines.

    Attributes:
        tool: its id in the registry.
        ask: the command line that sends one prompt through our wiring.
        starts: a command line that reads the tool's settings and needs no gateway.
        route: the path at the gateway that it uses.
        ca_variable: where it looks for a private authority, when its settings have no place for one.
        named: the program, where the first word of `ask` is the shell, or another package has one
            of the same name.
        logged_out: of what it prints without a login, what leads to the right command.
        stopped: the same when the service is stopped; "" = it works, since the helper gets the token.
        works: words of `ask` besides with which it runs commands without a question, for the loops of
            tool calls; None where there is no such test.
    """

    tool: str
    ask: tuple[str, ...]
    starts: tuple[str, ...]
    route: str
    env: Mapping[str, str] = field(default_factory=dict)
    ca_variable: str = ""
    named: str = ""
    logged_out: str = LOGGED_OUT
    stopped: str = ""
    works: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.tool} ({self.named})" if "/" in self.named else self.tool

    @property
    def program(self) -> str:
        """The program's name."""
        return self.named or self.ask[0]


CHAT = "/v1/chat/completions"
PLAIN = ("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings")
"""Of aider and what grew from it: no question, no look at the network."""
STAGED = "git init -q . && git config user.email a@b && git config user.name n && date >new && git add new &&"
"""A repository with something to commit."""

PROMPTS: tuple[Prompt, ...] = (
    Prompt(
        "claude-code",
        ("claude", "-p", QUESTION),
        ("claude", "--version"),
        "/anthropic/v1/messages",
        {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        logged_out="next: thv-llm login",
        works=("--allowedTools", "Bash"),
    ),
    Prompt(
        "codex",
        ("codex", "exec", "--skip-git-repo-check", QUESTION),
        ("codex", "features", "list"),
        "/v1/responses",
        ca_variable="CODEX_CA_CERTIFICATE",
        logged_out="next: thv-llm login",
        works=("--dangerously-bypass-approvals-and-sandbox",),
    ),
    Prompt(
        "pi",
        ("pi", "-p", QUESTION),
        ("pi", "--list-models"),
        CHAT,
        ca_variable="NODE_EXTRA_CA_CERTS",
        logged_out="API key auth failed for provider thv-llm",
        works=(),
    ),
    Prompt(
        "copilot-cli",
        ("copilot", "-p", QUESTION, "--allow-all-tools"),
        ("copilot", "--version"),
        CHAT,
        stopped="Could not connect to local model provider",
        works=(),
    ),
    Prompt(
        "opencode",
        ("opencode", "run", "-m", "thv-llm/m-1", QUESTION),
        ("opencode", "debug", "config"),
        CHAT,
        stopped=SILENT,
        works=(),
    ),
    Prompt(
        "kilo",
        ("kilo", "run", "-m", "thv-llm/m-1", QUESTION),
        ("kilo", "debug", "config"),
        CHAT,
        stopped=SILENT,
    ),
    Prompt(
        "gemini-cli",
        ("gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p", QUESTION),
        ("gemini", "--version"),
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        stopped="Retrying with backoff... Error: exception TypeError: fetch failed",
        works=("--yolo",),
    ),
    Prompt(
        "qwen-code",
        ("qwen", "-p", QUESTION),
        ("qwen", "--version"),
        CHAT,
        stopped=SILENT,
    ),
    Prompt(
        "droid",
        ("droid", "exec", QUESTION),
        ("droid", "--version"),
        CHAT,
        logged_out="Exec failed",
        stopped="Exec failed",
    ),
    Prompt(
        "kimi-code",
        ("kimi", "-p", QUESTION),
        ("kimi", "doctor"),
        CHAT,
        stopped=SILENT,
    ),
    Prompt(
        "cline",
        ("cline", QUESTION),
        ("cline", "--version"),
        CHAT,
        stopped="Cannot connect to API: Unable to connect.",
    ),
    Prompt(
        "vibe",
        ("vibe", "-p", QUESTION),
        ("vibe", "--version"),
        CHAT,
        stopped=SILENT,
    ),
    Prompt(
        "llm",
        ("llm", "-m", "thv-m-1", QUESTION),
        ("llm", "models"),
        CHAT,
        stopped="Error: Connection error.",
    ),
    Prompt(
        "aider",
        ("aider", *PLAIN, "--message", QUESTION),
        ("aider", "--version"),
        CHAT,
        stopped="OpenAIException - Connection error.",
    ),
    Prompt(
        "nanocoder",
        (
            "nanocoder",
            "--provider",
            "thv-llm",
            "--model",
            "m-1",
            "--trust-directory",
            "--plain",
            "run",
            QUESTION,
        ),
        ("nanocoder", "--version"),
        CHAT,
        stopped="Connection failed: Unable to reach the model server",
    ),
    Prompt(
        "grok-cli",
        ("grok", "--model", "m-1", "-p", QUESTION),
        ("grok", "--version"),
        CHAT,
        stopped="Grok API error: Connection error.",
    ),
    Prompt(
        "shell-gpt",
        ("sgpt", "--no-cache", QUESTION),
        ("sh", "-c", "OPENAI_API_KEY=none sgpt --version"),  # without a key anywhere it asks for one
        CHAT,
        stopped="APIConnectionError: Connection error.",
    ),
    Prompt(
        "opencommit",
        ("sh", "-c", f"{STAGED} oco --yes && oco --yes"),  # the first run brings its file up to date
        ("oco", "--version"),
        CHAT,
        {"OCO_GITPUSH": "false", "OCO_TEST_SKIP_VERSION_CHECK": "true"},
        named="oco",
        stopped="Connection error.",
    ),
    Prompt(
        "aicommits",
        ("sh", "-c", f"{STAGED} aicommits -y"),
        ("aicommits", "--version"),
        CHAT,
        named="aicommits",
        stopped="Cannot connect to API: connect ECONNREFUSED",
    ),
)

SLOW: tuple[Prompt, ...] = (
    Prompt(
        "pi",
        ("pi", "-p", QUESTION),
        ("pi", "--list-models"),
        CHAT,
        ca_variable="NODE_EXTRA_CA_CERTS",
        named="mariozechner/pi",
        logged_out="Failed to resolve API key for provider",
    ),
    Prompt(
        "openclaw",
        ("openclaw", "infer", "model", "run", "--local", "--model", "thv-llm/m-1", "--prompt", QUESTION),
        ("openclaw", "--version"),
        CHAT,
        logged_out="cannot get an access token",
        stopped="Connection error..",
    ),
    Prompt(
        "gptme",
        ("gptme", "-n", QUESTION),
        ("gptme", "--version"),
        CHAT,
        stopped="OpenAI API transient error",
    ),
    Prompt(
        "cecli",
        ("cecli", *PLAIN, "--message", QUESTION),
        ("cecli", "--version"),
        CHAT,
        stopped="All connection attempts failed",
    ),
    Prompt(
        "mini-swe-agent",
        # it shows commands alone, and what else was said is in its file
        ("sh", "-c", f"mini-swe-agent -y --exit-immediately -o said.json -t '{QUESTION}'; cat said.json"),
        ("mini-swe-agent", "--help"),
        CHAT,
        named="mini-swe-agent",
        stopped="OpenAIException - Connection error..",
    ),
    Prompt(
        "hermes-agent",
        ("hermes", "chat", "-Q", "-q", QUESTION),
        ("hermes", "--version"),
        CHAT,
        stopped="API call failed after 3 retries: Connection error.",
    ),
)
"""Those that take too long to install for each run: `make release-check` has them."""


def prompt(tool: str) -> Prompt:
    """Return a tool's command lines."""
    return next(one for one in PROMPTS if one.tool == tool)


def ask(machine: Machine, one: Prompt) -> None:
    """Send one prompt by a real tool; the response must be the gateway's, to a token it checked."""
    before = len(machine.gateway.requests)
    own_ca = {one.ca_variable: machine.provider.ca_file} if one.ca_variable else {}
    done = machine.run(*one.ask, env={**one.env, **own_ca})
    sent = machine.gateway.requests[before:]

    assert ANSWER.rstrip(".") in " ".join(done.out.split()), done.said
    assert any(request.admitted and request.path.split("?")[0] == one.route for request in sent), [
        (request.method, request.path, request.admitted) for request in sent
    ]
    assert not leaks(machine, machine.local_key())


def leaks(machine: Machine, secret: str) -> list[str]:
    """Return where at the gateway a secret was seen that must not get there."""
    return [
        f"{request.method} {request.path}"
        for request in machine.gateway.requests
        if secret in request.path
        or secret.encode() in request.body
        or any(secret in value for _, value in request.headers)
    ]


def chat(machine: Machine, *, stream: bool = False) -> tuple[int, str]:
    """Ask through the proxy as a tool does, without one; return status and body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{machine.port}/v1/chat/completions",
        json.dumps({"model": "m-1", "messages": [], "stream": stream}).encode(),
        {"Authorization": f"Bearer {machine.local_key()}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=20
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
