"""Tools that get each token from the helper and talk to the gateway themselves."""

from __future__ import annotations

from thv_llm.edit.formats import Format
from thv_llm.tools.model import (
    Binary,
    Directory,
    Edit,
    Folder,
    IfAbsent,
    Managed,
    Overrides,
    Tool,
    Value,
)

HELPER_INTERVAL_S = 300
"""How often a tool asks the helper again; half of what the helper's tokens are good for at least."""

CLAUDE = Folder("~/.claude", env="CLAUDE_CONFIG_DIR")

DIRECT: tuple[Tool, ...] = (
    Tool(
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
                    "/env/CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": Value.BEDROCK_ONLY_STABLE,
                    "/env/ANTHROPIC_DEFAULT_HAIKU_MODEL": Value.BEDROCK_HAIKU,
                    "/env/ANTHROPIC_DEFAULT_OPUS_MODEL": Value.BEDROCK_OPUS,
                    "/env/ANTHROPIC_DEFAULT_SONNET_MODEL": Value.BEDROCK_SONNET,
                },
            ),
        ),
        afterwards=("running sessions pick it up at the next turn",),
        overridden_by=(
            Overrides("ANTHROPIC_API_KEY", "Claude Code sends it instead of our token"),
            Overrides("ANTHROPIC_AUTH_TOKEN", "Claude Code sends it instead of our token"),
            Overrides("CLAUDE_CODE_USE_BEDROCK", "Claude Code goes to Amazon Bedrock instead"),
            Overrides("CLAUDE_CODE_USE_VERTEX", "Claude Code goes to Google Vertex instead"),
        ),
        managed_by=(
            Managed("/etc/claude-code/managed-settings.json"),
            Managed("/Library/Application Support/ClaudeCode/managed-settings.json"),
        ),
        note="its VS Code extension uses the same file; set claudeCode.disableLoginPrompt there",
        checked="Claude Code 2.1.330, run headless against a recording gateway, 2026-11-23",
    ),
)
