"""Tools that get each token from the helper and talk to the gateway themselves."""

from __future__ import annotations

from thv_llm.edit import Format
from thv_llm.tools.model import (
    NAME,
    TITLE,
    App,
    Binary,
    Directory,
    EachModel,
    Edit,
    Folder,
    IfAbsent,
    Text,
    Tool,
    Value,
)

HELPER_INTERVAL_S = 300
"""How often a tool asks the helper again; half of what the helper's tokens are good for at least."""

HELPER_TIMEOUT_S = 30
"""How long a tool waits for the helper, so that a slow refresh is not cut off."""

CLAUDE_RETRIES = 2
"""Without it Claude Code says nothing for minutes while the gateway rejects it for good."""

CLAUDE = Folder("~/.claude", env="CLAUDE_CONFIG_DIR")
CODEX = Folder("~/.codex", env="CODEX_HOME")
PI = Folder("~/.pi/agent", env="PI_CODING_AGENT_DIR")
GOOSE = Folder(
    "~/.config/goose/custom_providers",
    env="XDG_CONFIG_HOME",
    below="goose/custom_providers",
    windows="%APPDATA%/Block/goose/config/custom_providers",
)
DESKTOP = Folder(
    "~/.config/Claude-3p/configLibrary",
    env="XDG_CONFIG_HOME",
    below="Claude-3p/configLibrary",
    mac="~/Library/Application Support/Claude-3p/configLibrary",
    windows="%LOCALAPPDATA%/Claude-3p/configLibrary",
)
DESKTOP_DOCUMENT = "7a1d3c52-8e1b-4c0e-9a5f-74687600116d"
"""The id of our document; fixed, so that teardown knows its path without trusting the record."""

CLAUDE_CODE = Tool(
    id="claude-code",
    title="Claude Code",
    found_by=(Binary("claude"), Directory(CLAUDE)),
    edits=(
        Edit(
            folder=CLAUDE,
            names=("settings.json",),
            format=Format.JSON,  # one comment, and Claude drops the whole file
            set={
                "/apiKeyHelper": Value.TOKEN_COMMAND,
                "/env/ANTHROPIC_BASE_URL": Value.GATEWAY_ANTHROPIC,
                "/env/CLAUDE_CODE_API_KEY_HELPER_TTL_MS": str(HELPER_INTERVAL_S * 1000),
                "/env/NODE_EXTRA_CA_CERTS": IfAbsent(
                    Value.CA_FILE,
                    otherwise="NODE_EXTRA_CA_CERTS stays as you have it: it must cover the gateway, too",
                ),
                "/env/NODE_TLS_REJECT_UNAUTHORIZED": Value.TLS_REJECT_UNAUTHORIZED,
                "/env/ANTHROPIC_CUSTOM_HEADERS": IfAbsent(
                    Value.HEADER_LINES,
                    otherwise="ANTHROPIC_CUSTOM_HEADERS stays as you have it: add those of gateway.headers",
                ),
                "/env/CLAUDE_CODE_MAX_RETRIES": IfAbsent(str(CLAUDE_RETRIES)),
                "/env/CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": IfAbsent("1"),
                "/env/CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": Value.BEDROCK_ONLY_STABLE,
                "/env/ANTHROPIC_DEFAULT_HAIKU_MODEL": Value.BEDROCK_HAIKU,
                "/env/ANTHROPIC_DEFAULT_OPUS_MODEL": Value.BEDROCK_OPUS,
                "/env/ANTHROPIC_DEFAULT_SONNET_MODEL": Value.BEDROCK_SONNET,
            },
        ),
    ),
    afterwards=("running sessions pick it up at the next turn",),
    overridden_by={
        "ANTHROPIC_API_KEY": "Claude Code sends it instead of our token",
        "ANTHROPIC_AUTH_TOKEN": "Claude Code sends it instead of our token",
        "CLAUDE_CODE_USE_BEDROCK": "Claude Code goes to Amazon Bedrock instead",
        "CLAUDE_CODE_USE_VERTEX": "Claude Code goes to Google Vertex instead",
    },
    managed_by=(
        "/etc/claude-code/managed-settings.json",
        "%PROGRAMFILES%/ClaudeCode/managed-settings.json",
        "/Library/Application Support/ClaudeCode/managed-settings.json",
    ),
    note="its VS Code extension uses the same file; set claudeCode.disableLoginPrompt there. It repeats a "
    "request twice instead of ten times (CLAUDE_CODE_MAX_RETRIES): errors show within seconds, and an "
    "overloaded gateway is given up earlier. /model lists what the gateway has of Claude",
    checked="Claude Code 2.1.332, run headless against a recording gateway, 2026-11-29",
)

CODEX_CLI = Tool(
    id="codex",
    title="Codex",
    found_by=(Binary("codex"), App("/Applications/Codex.app"), Directory(CODEX)),
    edits=(
        Edit(
            folder=CODEX,
            names=("config.toml",),
            format=Format.TOML,
            set={
                "model_providers.thv-llm": {
                    "name": TITLE,
                    "base_url": Value.GATEWAY_OPENAI,
                    "wire_api": "responses",
                    "http_headers": Value.HEADERS,
                    "auth": {
                        "command": Value.HELPER_PATH,
                        "args": Value.HELPER_ARGS_IF_ANY,
                        "timeout_ms": HELPER_TIMEOUT_S * 1000,
                        "refresh_interval_ms": HELPER_INTERVAL_S * 1000,
                    },
                },
                "model_provider": NAME,
                "model": IfAbsent(
                    Value.MODEL_IF_ANY,  # else it asks for its own, whatever the gateway has
                    otherwise="your model stays; the gateway must have it",
                ),
            },
        ),
    ),
    afterwards=("start a new thread, or restart Codex",),
    ca_env="CODEX_CA_CERTIFICATE",
    note="its IDE extension and app use the same file; “failed to decode models response” is harmless: "
    "the gateway lists its models as OpenAI does",
    checked="Codex 0.171.0, run headless against a recording gateway, 2026-11-29; app not run",
)

CLAUDE_DESKTOP = Tool(
    id="claude-desktop",
    title="Claude Desktop",
    found_by=(
        App("/Applications/Claude.app"),
        App("~/Applications/Claude.app"),
        App("/usr/bin/claude-desktop"),
        Directory(
            Folder("~/.config/Claude", mac="~/Library/Application Support/Claude", windows="%APPDATA%/Claude")
        ),
    ),
    edits=(
        Edit(
            folder=DESKTOP,
            names=(f"{DESKTOP_DOCUMENT}.json",),
            format=Format.JSON,
            ours_alone=True,
            set={
                "/inferenceProvider": "gateway",
                "/inferenceGatewayBaseUrl": Value.GATEWAY_ANTHROPIC,
                "/inferenceGatewayAuthScheme": "bearer",
                "/inferenceCredentialKind": "helper-script",
                "/inferenceCredentialHelper": Value.HELPER_FILE,
                "/inferenceCredentialHelperTtlSec": HELPER_INTERVAL_S,
                "/inferenceCredentialHelperTimeoutSec": HELPER_TIMEOUT_S,
                "/inferenceCustomHeaders": Value.HEADERS,
                "/inferenceModels": Value.MODELS_IF_ANY,
            },
        ),
        Edit(
            folder=DESKTOP,
            names=("_meta.json",),
            format=Format.JSON,
            set={
                f"/entries/[id={DESKTOP_DOCUMENT}]": {"id": DESKTOP_DOCUMENT, "name": TITLE},
                "/appliedId": DESKTOP_DOCUMENT,
            },
        ),
    ),
    afterwards=("quit Claude Desktop and open it again; had it been open, quit it and run setup once more",),
    managed_by=("/Library/Managed Preferences/com.anthropic.claudefordesktop.plist",),
    reason_on_windows="it starts one program without arguments, and a Python script needs an interpreter",
    checked="from documentation and source, 2026-11-23; the program was not run",
)

PI_AGENT = Tool(
    id="pi",
    title="pi",
    found_by=(Binary("pi"), Directory(Folder("~/.pi", env="PI_CODING_AGENT_DIR"))),
    edits=(
        Edit(
            folder=PI,
            names=("models.json",),
            format=Format.JSONC,
            set={
                "/providers/thv-llm": {
                    "baseUrl": Value.GATEWAY_OPENAI,
                    "api": "openai-completions",
                    "apiKey": Text("!", Value.TOKEN_COMMAND),
                    "headers": Value.HEADERS,
                    "models": EachModel({"id": Value.MODEL}),
                },
            },
        ),
        Edit(
            folder=PI,
            names=("settings.json",),
            format=Format.JSON,
            set={"/defaultProvider": NAME, "/defaultModel": Value.MODEL},
        ),
    ),
    afterwards=("restart pi; another model: /model",),
    ca_env="NODE_EXTRA_CA_CERTS",
    note="the npm package @earendil-works/pi-coding-agent, or its old name @mariozechner/pi-coding-agent",
    checked="pi 1.6.0, run headless against a recording gateway, 2026-11-29",
)

GOOSE_CLI = Tool(
    id="goose",
    title="goose",
    found_by=(
        App("/Applications/Goose.app"),
        Directory(
            Folder(
                "~/.config/goose",
                env="XDG_CONFIG_HOME",
                below="goose",
                windows="%APPDATA%/Block/goose/config",
            )
        ),
    ),
    edits=(
        Edit(
            folder=GOOSE,
            names=("thv-llm.json",),
            format=Format.JSON,
            ours_alone=True,
            set={
                "/name": NAME,
                "/engine": "openai",
                "/display_name": TITLE,
                "/description": "LLM gateway behind OpenID Connect",
                "/base_url": Text(Value.GATEWAY_OPENAI, "/chat/completions"),
                "/api_key_env": "",
                "/headers": Value.HEADERS,
                "/auth": {
                    "command": Value.HELPER_PATH,
                    "args": Value.HELPER_ARGS,
                    "refresh_interval": HELPER_INTERVAL_S,
                    "timeout_seconds": HELPER_TIMEOUT_S,
                },
                "/models": EachModel({"name": Value.MODEL, "context_limit": 128_000}),
                "/supports_streaming": True,
            },
        ),
    ),
    afterwards=("choose it: goose configure, Configure Providers, thv-llm gateway",),
    overridden_by={"GOOSE_PROVIDER": "goose uses that provider"},
    ca_env="SSL_CERT_FILE",
    note="needs a goose whose custom providers take auth.command; a program called goose is no proof, "
    "because a database tool has that name, too",
    checked="from source, 2026-11-23; the program was not run",
)

DIRECT: tuple[Tool, ...] = (CLAUDE_CODE, CODEX_CLI, CLAUDE_DESKTOP, PI_AGENT, GOOSE_CLI)
