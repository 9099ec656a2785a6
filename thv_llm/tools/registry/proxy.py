"""Tools that can only hold a base URL and a fixed key: they go through our proxy on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping

from thv_llm.edit.formats import Format
from thv_llm.tools.model import (
    NAME,
    TITLE,
    Binary,
    Directory,
    EachModel,
    Edit,
    Extension,
    Folder,
    IfAbsent,
    ModelMap,
    Overrides,
    PerModel,
    Template,
    Text,
    Tool,
    Value,
)

CONTEXT_TOKENS = 200_000
OUTPUT_TOKENS = 16_000
"""Limits for tools that want them beside each model: what current models take at least."""

BEARER = Text("Bearer ", Value.LOCAL_KEY)
KEY_VARIABLE = "THV_LLM_API_KEY"
"""Our own name, because a project's `.env` may well set the usual ones."""

OPENCODE = Folder("~/.config/opencode", env="XDG_CONFIG_HOME", below="opencode")
KILO = Folder("~/.config/kilo", env="XDG_CONFIG_HOME", below="kilo")
GEMINI = Folder("~/.gemini", env="GEMINI_CLI_HOME", below=".gemini")
COPILOT = Folder("~/.copilot", env="COPILOT_HOME")
QWEN = Folder("~/.qwen", env="QWEN_HOME")
LLM = Folder(
    "~/.config/io.datasette.llm",
    env="LLM_USER_PATH",
    mac="~/Library/Application Support/io.datasette.llm",
    windows="%APPDATA%/io.datasette.llm",
)
FACTORY = Folder("~/.factory", env="FACTORY_HOME_OVERRIDE", below=".factory")
KIMI = Folder("~/.kimi-code", env="KIMI_CODE_HOME")
VIBE = Folder("~/.vibe", env="VIBE_HOME")
CLINE = Folder("~/.cline/data", env="CLINE_DIR", below="data")
AIDER = Folder("~")

OPENCODE_PROVIDER: Template = {
    "npm": "@ai-sdk/openai-compatible",
    "name": TITLE,
    "options": {"baseURL": Value.PROXY_OPENAI, "apiKey": Value.LOCAL_KEY},
    "models": ModelMap({"name": Value.MODEL}),
}

OPENCODE_CLI = Tool(
    id="opencode",
    title="OpenCode",
    found_by=(Binary("opencode"), Directory(OPENCODE)),
    edits=(
        Edit(
            folder=OPENCODE,
            names=("opencode.jsonc", "opencode.json"),
            format=Format.JSONC_TRAILING,
            new_file={"/$schema": "https://opencode.ai/config.json"},  # else OpenCode rewrites the file
            set={"/provider/thv-llm": OPENCODE_PROVIDER},
        ),
    ),
    afterwards=("restart OpenCode and pick a model of “thv-llm gateway” (/models)",),
    checked="OpenCode 1.18.33, run headless against a recording gateway, 2026-11-23",
)

KILO_CODE = Tool(
    id="kilo",
    title="Kilo Code",
    found_by=(Binary("kilo"), Extension("kilocode.kilo-code"), Directory(KILO)),
    edits=(
        Edit(
            folder=KILO,
            names=("kilo.jsonc", "kilo.json"),
            format=Format.JSONC_TRAILING,
            set={"/provider/thv-llm": OPENCODE_PROVIDER},
        ),
    ),
    afterwards=("restart Kilo and pick a model of “thv-llm gateway”",),
    checked="Kilo CLI 7.7.7, run headless against a recording gateway, 2026-11-23; extension not run",
)

GEMINI_CLI = Tool(
    id="gemini-cli",
    title="Gemini CLI",
    found_by=(Binary("gemini"), Directory(GEMINI)),
    edits=(
        Edit(
            folder=GEMINI,
            names=(".env",),
            format=Format.DOTENV,
            set={"GEMINI_API_KEY": Value.LOCAL_KEY, "GOOGLE_GEMINI_BASE_URL": Value.PROXY_GEMINI},
        ),
        Edit(
            folder=GEMINI,
            names=("settings.json",),
            format=Format.JSONC,
            set={
                "/security/auth/selectedType": "gemini-api-key",  # a Google login ignores the base URL
                "/advanced/ignoreLocalEnv": True,  # else a project's .env hides ours
            },
        ),
    ),
    afterwards=(
        "trust the folders you work in when asked: ~/.gemini/.env is read only there (or --skip-trust)",
    ),
    overridden_by=(
        Overrides("GEMINI_API_KEY", "Gemini CLI sends it instead of our key"),
        Overrides("GOOGLE_GEMINI_BASE_URL", "Gemini CLI goes there instead"),
        Overrides("GOOGLE_GENAI_USE_VERTEXAI", "Gemini CLI goes to Google Vertex instead"),
    ),
    checked="Gemini CLI 0.61.0, run headless against a recording gateway, 2026-11-23",
)

COPILOT_CLI = Tool(
    id="copilot-cli",
    title="GitHub Copilot CLI",
    # AWS has a program of the same name.
    found_by=(Binary("copilot", says="GitHub Copilot CLI", package="/@github/copilot/"), Directory(COPILOT)),
    edits=(
        Edit(
            folder=COPILOT,
            names=("providers.json",),
            format=Format.JSON,
            set={
                "/providers/[name=thv-llm]": {
                    "name": NAME,
                    "type": "openai",
                    "baseUrl": Value.PROXY_OPENAI,
                    "apiKey": Value.LOCAL_KEY,
                },
                "/models/[name=thv-llm {model}]": PerModel(
                    {"id": Value.MODEL, "provider": NAME, "name": Text("thv-llm ", Value.MODEL)}
                ),
            },
        ),
        Edit(
            folder=COPILOT,
            names=("settings.json",),
            format=Format.JSON,
            set={"/model": Text("thv-llm/", Value.MODEL)},
        ),
    ),
    afterwards=("restart copilot",),
    overridden_by=(Overrides("COPILOT_MODEL", "Copilot uses that model"),),
    snippet=Text(
        "# direct, without the proxy, by environment variables:\nexport COPILOT_PROVIDER_TYPE=openai\n",
        "export COPILOT_PROVIDER_BASE_URL=",
        Value.GATEWAY_OPENAI,
        "\nexport COPILOT_PROVIDER_API_KEY_COMMAND=",
        Value.TOKEN_COMMAND_WORD,
        "\nexport COPILOT_MODEL=",
        Value.MODEL,
    ),
    checked="GitHub Copilot CLI 1.0.102, run headless against a recording gateway, 2026-11-23",
)

LLM_CLI = Tool(
    id="llm",
    title="llm",
    found_by=(Binary("llm"), Directory(LLM)),
    edits=(
        Edit(
            folder=LLM,
            names=("extra-openai-models.yaml",),
            format=Format.YAML,
            set={
                NAME: EachModel(
                    {
                        "model_id": Text("thv-", Value.MODEL),
                        "model_name": Value.MODEL,
                        "api_base": Value.PROXY_OPENAI,
                        "headers": {"Authorization": BEARER},
                    }
                ),
            },
        ),
    ),
    afterwards=("name the model with thv- before it: llm -m thv-MODEL",),
    checked="llm 0.36, run headless against a recording gateway, 2026-11-23",
)

AIDER_CLI = Tool(
    id="aider",
    title="aider",
    found_by=(Binary("aider"), Directory(Folder("~/.aider"))),
    edits=(
        Edit(
            folder=AIDER,
            names=(".aider.conf.yml",),
            format=Format.YAML,
            set={
                NAME: {
                    "openai-api-base": Value.PROXY_OPENAI,
                    "openai-api-key": Value.LOCAL_KEY,
                },
                "thv-llm-model": IfAbsent(
                    {"model": Text("openai/", Value.MODEL)},
                    otherwise="your model stays; to use the gateway, name one with openai/ before it",
                    member="model",
                ),
            },
        ),
    ),
    afterwards=("name models with openai/ before them: aider --model openai/MODEL",),
    overridden_by=(
        Overrides("OPENAI_BASE_URL", "aider goes there instead"),
        Overrides("AIDER_OPENAI_API_BASE", "aider goes there instead"),
        Overrides("AIDER_OPENAI_API_KEY", "aider sends it instead of our key"),
    ),
    checked="aider 0.86.2, run headless against a recording gateway, 2026-11-23",
)

QWEN_CODE = Tool(
    id="qwen-code",
    title="Qwen Code",
    found_by=(Binary("qwen"), Directory(QWEN)),
    edits=(
        Edit(
            folder=QWEN,
            names=("settings.json",),
            format=Format.JSONC,
            set={
                "/modelProviders/openai/[name=thv-llm {model}]": PerModel(
                    {
                        "id": Value.MODEL,
                        "name": Text("thv-llm ", Value.MODEL),
                        "baseUrl": Value.PROXY_OPENAI,
                        "envKey": KEY_VARIABLE,
                    }
                ),
                f"/env/{KEY_VARIABLE}": Value.LOCAL_KEY,
                "/security/auth/selectedType": "openai",
                "/model/name": Value.MODEL,
            },
        ),
    ),
    afterwards=("restart qwen",),
    overridden_by=(Overrides(KEY_VARIABLE, "Qwen Code sends it instead of our key"),),
    checked="Qwen Code 0.24.4, run headless against a recording gateway, 2026-11-23",
)

DROID = Tool(
    id="droid",
    title="Factory Droid",
    found_by=(Binary("droid"), Directory(FACTORY)),
    edits=(
        Edit(
            folder=FACTORY,
            names=("settings.json",),
            format=Format.JSONC,
            set={
                "/customModels/[displayName=thv-llm {model}]": PerModel(
                    {
                        "model": Value.MODEL,
                        "displayName": Text("thv-llm ", Value.MODEL),
                        "baseUrl": Value.PROXY_OPENAI,
                        "apiKey": Value.LOCAL_KEY,
                        "provider": "generic-chat-completion-api",
                    }
                ),
                "/sessionDefaultSettings/model": Text("custom:", Value.MODEL),
            },
        ),
    ),
    afterwards=("restart droid; another model: /model",),
    checked="Droid 0.225.2, run headless against a recording gateway, 2026-11-23",
)

KIMI_CODE = Tool(
    id="kimi-code",
    title="Kimi Code",
    found_by=(Binary("kimi"), Directory(KIMI)),
    edits=(
        Edit(
            folder=KIMI,
            names=("config.toml",),
            format=Format.TOML,
            set={
                "providers.thv-llm": {
                    "type": "openai",
                    "base_url": Value.PROXY_OPENAI,
                    "api_key": Value.LOCAL_KEY,
                },
                'models."thv-llm/{model}"': PerModel(
                    {"provider": NAME, "model": Value.MODEL, "max_context_size": CONTEXT_TOKENS}
                ),
                "default_model": Text("thv-llm/", Value.MODEL),
            },
        ),
    ),
    afterwards=("restart kimi",),
    checked="Kimi Code 2.1.0, run headless against a recording gateway, 2026-11-23",
)

VIBE_CLI = Tool(
    id="vibe",
    title="Mistral Vibe",
    found_by=(Binary("vibe"), Directory(VIBE)),
    edits=(
        Edit(
            folder=VIBE,
            names=("config.toml",),
            format=Format.TOML,
            set={
                "providers[name=thv-llm]": {
                    "name": NAME,
                    "api_base": Value.PROXY_OPENAI,
                    "api_style": "openai",
                    "backend": "generic",
                    "extra_headers": {"Authorization": BEARER},
                },
                'models[alias="thv-{model}"]': PerModel(
                    {"name": Value.MODEL, "provider": NAME, "alias": Text("thv-", Value.MODEL)}
                ),
                "active_model": Text("thv-", Value.MODEL),
            },
        ),
    ),
    afterwards=("restart vibe",),
    checked="Mistral Vibe 3.0.2, run headless against a recording gateway, 2026-11-23",
)

CLINE_CLI = Tool(
    id="cline",
    title="Cline",
    found_by=(Binary("cline"), Extension("saoudrizwan.claude-dev"), Directory(CLINE)),
    edits=(
        Edit(
            folder=Folder("~/.cline/data/settings", env="CLINE_DIR", below="data/settings"),
            names=("providers.json",),
            format=Format.JSON,  # a comment, or a member too few, and Cline drops every login in the file
            requires=("/version", "/providers"),
            new_file={"/version": 1, "/modes": {}},
            beside={"/providers/openai-compatible/updatedAt": "2026-01-01T00:00:00.000Z"},
            set={
                "/providers/openai-compatible": {
                    "settings": {
                        "provider": "openai-compatible",
                        "apiKey": Value.LOCAL_KEY,
                        "baseUrl": Value.PROXY_OPENAI,
                        "model": Value.MODEL,
                    },
                    "tokenSource": "manual",
                },
                "/lastUsedProvider": "openai-compatible",
            },
        ),
    ),
    afterwards=("in VS Code: Cline, Settings, API Provider “OpenAI Compatible”, then reload the window",),
    note="it takes the place of what you had under “OpenAI Compatible”; teardown puts that back",
    checked="Cline CLI 3.0.65, run headless against a recording gateway, 2026-11-23; extension not run",
)

PROXY: tuple[Tool, ...] = (
    OPENCODE_CLI,
    KILO_CODE,
    GEMINI_CLI,
    COPILOT_CLI,
    LLM_CLI,
    AIDER_CLI,
    QWEN_CODE,
    DROID,
    KIMI_CODE,
    VIBE_CLI,
    CLINE_CLI,
)

CLIENTS: Mapping[str, Mapping[str, Template]] = {
    "openai": {
        "OPENAI_BASE_URL": Value.PROXY_OPENAI,
        "OPENAI_API_BASE": Value.PROXY_OPENAI,
        "OPENAI_API_KEY": Value.LOCAL_KEY,
    },
    "anthropic": {
        "ANTHROPIC_BASE_URL": Value.PROXY_ANTHROPIC,
        "ANTHROPIC_API_BASE": Value.PROXY_ANTHROPIC,
        "ANTHROPIC_API_URL": Value.PROXY_ANTHROPIC,
        "ANTHROPIC_API_KEY": Value.LOCAL_KEY,
        "ANTHROPIC_AUTH_TOKEN": Value.LOCAL_KEY,
    },
    "gemini": {
        "GOOGLE_GEMINI_BASE_URL": Value.PROXY_GEMINI,
        "GEMINI_API_BASE": Text(Value.PROXY_GEMINI, "/v1beta"),
        "GEMINI_API_KEY": Value.LOCAL_KEY,
    },
}
"""Environment variables by kind of client: each spelling that common SDKs read, URL and key together.

Not GOOGLE_API_KEY: programs for other services of Google's send it to Google.
"""
