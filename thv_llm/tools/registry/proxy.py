"""Tools that can only hold a base URL and a fixed key: they go through our proxy on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping

from thv_llm.edit import Format
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
"""Our own name, because a project's `.env` often sets the usual ones."""

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
HOME = Folder("~")
OPENCLAW = Folder("~/.openclaw", env="OPENCLAW_STATE_DIR")
GPTME = Folder("~/.config/gptme")
NANOCODER = Folder(
    "~/.config/nanocoder",
    env="NANOCODER_CONFIG_DIR",
    xdg="nanocoder",
    mac="~/Library/Preferences/nanocoder",
    windows="%APPDATA%/nanocoder",
)
GROK = Folder("~/.grok")
SHELL_GPT = Folder("~/.config/shell_gpt")
MINI_SWE = Folder(
    "~/.config/mini-swe-agent",
    env="MSWEA_GLOBAL_CONFIG_DIR",
    xdg="mini-swe-agent",
    mac="~/Library/Application Support/mini-swe-agent",
    windows="%LOCALAPPDATA%/mini-swe-agent/mini-swe-agent",
)
HERMES = Folder("~/.hermes", env="HERMES_HOME", windows="%LOCALAPPDATA%/hermes")
AICHAT = Folder(
    "~/.config/aichat",
    env="AICHAT_CONFIG_DIR",
    xdg="aichat",
    mac="~/Library/Application Support/aichat",
    windows="%APPDATA%/aichat",
)


def _instead(title: str, *, key: str = "", url: str = "", model: str = "") -> dict[str, str]:
    """Return what variables do to a tool; names of one kind are separated by spaces."""
    effects = {key: "sends it instead of our key", url: "goes there instead", model: "uses that model"}
    return {name: f"{title} {effect}" for names, effect in effects.items() for name in names.split()}


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
    checked="OpenCode 1.18.34, run headless against a recording gateway, 2026-11-29",
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
    checked="Kilo CLI 7.7.9, run headless against a recording gateway, 2026-11-29; extension not run",
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
    overridden_by=_instead("Gemini CLI", key="GEMINI_API_KEY", url="GOOGLE_GEMINI_BASE_URL")
    | {"GOOGLE_GENAI_USE_VERTEXAI": "Gemini CLI goes to Google Vertex instead"},
    checked="Gemini CLI 0.61.0, run headless against a recording gateway, 2026-11-29",
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
    overridden_by=_instead("Copilot", model="COPILOT_MODEL"),
    no_token_status=400,  # a 401 becomes “Authentication failed”, without our text
    snippet=Text(
        "# direct, without the proxy, by environment variables:\nexport COPILOT_PROVIDER_TYPE=openai\n",
        "export COPILOT_PROVIDER_BASE_URL=",
        Value.GATEWAY_OPENAI,
        "\nexport COPILOT_PROVIDER_API_KEY_COMMAND=",
        Value.TOKEN_COMMAND_WORD,
        "\nexport COPILOT_MODEL=",
        Value.MODEL,
    ),
    checked="GitHub Copilot CLI 1.0.102, run headless against a recording gateway, 2026-11-29",
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
    checked="llm 0.36, run headless against a recording gateway, 2026-11-29",
)

AIDER_BLOCKS: Mapping[str, Template] = {
    NAME: {"openai-api-base": Value.PROXY_OPENAI, "openai-api-key": Value.LOCAL_KEY},
    "thv-llm-model": IfAbsent(
        {"model": Text("openai/", Value.MODEL)},
        otherwise="your model stays; to use the gateway, name one with openai/ before it",
        member="model",
    ),
}

AIDER_CLI = Tool(
    id="aider",
    title="aider",
    found_by=(Binary("aider"), Directory(Folder("~/.aider"))),
    edits=(
        Edit(
            folder=HOME,
            names=(".aider.conf.yml",),
            format=Format.YAML,
            set=AIDER_BLOCKS,
        ),
    ),
    afterwards=("name models with openai/ before them: aider --model openai/MODEL",),
    overridden_by=_instead("aider", key="AIDER_OPENAI_API_KEY", url="OPENAI_BASE_URL AIDER_OPENAI_API_BASE"),
    checked="aider 0.86.2, run headless against a recording gateway, 2026-11-29",
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
    overridden_by=_instead("Qwen Code", key=KEY_VARIABLE),
    checked="Qwen Code 0.24.4, run headless against a recording gateway, 2026-11-29",
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
    checked="Droid 0.225.2, run headless against a recording gateway, 2026-11-29",
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
    checked="Kimi Code 2.1.0, run headless against a recording gateway, 2026-11-29",
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
    no_token_status=400,  # a 401 becomes “Invalid API key.”, without our text
    checked="Mistral Vibe 3.0.2, run headless against a recording gateway, 2026-11-29",
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
    checked="Cline CLI 3.0.65, run headless against a recording gateway, 2026-11-29; extension not run",
)

OPENCLAW_CLI = Tool(
    id="openclaw",
    title="OpenClaw",
    found_by=(Binary("openclaw"), Directory(OPENCLAW)),
    edits=(
        Edit(
            folder=OPENCLAW,
            names=("openclaw.json",),
            format=Format.JSONC_TRAILING,
            set={
                "/models/providers/thv-llm": {
                    "baseUrl": Value.PROXY_OPENAI,
                    "apiKey": Value.LOCAL_KEY,
                    "api": "openai-completions",
                    "models": EachModel({"id": Value.MODEL, "name": Value.MODEL}),
                },
                "/agents/defaults/model/primary": Text("thv-llm/", Value.MODEL),
            },
        ),
    ),
    afterwards=("restart its gateway: openclaw gateway restart",),
    checked="OpenClaw 2026.9.6, run headless against a recording gateway, 2026-11-29",
)

GPTME_CLI = Tool(
    id="gptme",
    title="gptme",
    found_by=(Binary("gptme"), Directory(GPTME)),
    edits=(
        Edit(
            folder=GPTME,
            names=("config.toml",),
            format=Format.TOML,
            set={
                "providers[name=thv-llm]": {
                    "name": NAME,
                    "base_url": Value.PROXY_OPENAI,
                    "api_key": Value.LOCAL_KEY,
                    "default_model": Value.MODEL,
                },
                "env.MODEL": Text("thv-llm/", Value.MODEL),
            },
        ),
    ),
    afterwards=("another model: gptme --model thv-llm/MODEL",),
    overridden_by=_instead("gptme", model="MODEL GPTME_MODEL"),
    checked="gptme 0.35.1, run headless against a recording gateway, 2026-11-29",
)

NANOCODER_CLI = Tool(
    id="nanocoder",
    title="Nanocoder",
    found_by=(Binary("nanocoder"), Directory(NANOCODER)),
    edits=(
        Edit(
            folder=NANOCODER,
            names=("agents.config.json",),
            format=Format.JSON,
            set={
                "/nanocoder/providers/[name=thv-llm]": {
                    "name": NAME,
                    "baseUrl": Value.PROXY_OPENAI,
                    "apiKey": Value.LOCAL_KEY,
                    "models": EachModel(Value.MODEL),
                },
            },
        ),
    ),
    afterwards=("choose it once: nanocoder --provider thv-llm, or /provider",),
    no_token_status=400,  # a 401 becomes “Invalid API key or credentials”
    note="an agents.config.json in the project's directory comes first",
    checked="Nanocoder 1.30.0, run headless against a recording gateway, 2026-11-29",
)

GROK_CLI = Tool(
    id="grok-cli",
    title="Grok CLI",
    found_by=(Binary("grok"), Directory(GROK)),
    edits=(
        Edit(
            folder=GROK,
            names=("user-settings.json",),
            format=Format.JSON,
            new_file={"/settingsVersion": 2},  # else it puts its own models before ours
            set={
                "/apiKey": Value.LOCAL_KEY,
                "/baseURL": Value.PROXY_OPENAI,
                "/defaultModel": Value.MODEL,
                "/models": EachModel(Value.MODEL),
            },
        ),
    ),
    afterwards=("name a model, because it makes a .grok/settings.json in each project: grok --model MODEL",),
    overridden_by=_instead("Grok CLI", key="GROK_API_KEY", url="GROK_BASE_URL"),
    note="the one of the npm package @vibe-kit/grok-cli; others of this name do not read its file",
    checked="Grok CLI 0.0.34, run headless against a recording gateway, 2026-11-29",
)

CECLI = Tool(
    id="cecli",
    title="cecli",
    found_by=(Binary("cecli"), Directory(Folder("~/.cecli"))),
    edits=(
        Edit(
            folder=HOME,
            names=(".cecli.conf.yml",),
            format=Format.YAML,
            set=AIDER_BLOCKS,
        ),
    ),
    afterwards=("name models with openai/ before them: cecli --model openai/MODEL",),
    overridden_by=_instead("cecli", key="CECLI_OPENAI_API_KEY", url="CECLI_OPENAI_API_BASE"),
    checked="cecli 1.10.0, run headless against a recording gateway, 2026-11-29",
)

SHELL_GPT_CLI = Tool(
    id="shell-gpt",
    title="ShellGPT",
    found_by=(Binary("sgpt"), Directory(SHELL_GPT)),
    edits=(
        Edit(
            folder=SHELL_GPT,
            names=(".sgptrc",),
            format=Format.DOTENV,
            set={
                "API_BASE_URL": Value.PROXY_OPENAI,
                "OPENAI_API_KEY": Value.LOCAL_KEY,
                "DEFAULT_MODEL": Value.MODEL,
            },
        ),
    ),
    afterwards=("another model: sgpt --model MODEL",),
    overridden_by=_instead("ShellGPT", key="OPENAI_API_KEY", url="API_BASE_URL", model="DEFAULT_MODEL"),
    checked="ShellGPT 1.5.1, run headless against a recording gateway, 2026-11-29",
)

OPENCOMMIT = Tool(
    id="opencommit",
    title="OpenCommit",
    found_by=(Binary("oco"), Binary("opencommit")),
    edits=(
        Edit(
            folder=HOME,
            names=(".opencommit",),
            format=Format.DOTENV,
            set={
                "OCO_AI_PROVIDER": "openai",
                "OCO_API_URL": Value.PROXY_OPENAI,
                "OCO_API_KEY": Value.LOCAL_KEY,
                "OCO_MODEL": Value.MODEL,
            },
        ),
    ),
    afterwards=("its first run can bring the file up to date, and ask to be run again",),
    no_token_status=400,  # a 401 becomes “Your openai API key is invalid or expired.”
    overridden_by=_instead("OpenCommit", key="OCO_API_KEY", url="OCO_API_URL", model="OCO_MODEL")
    | {"OCO_AI_PROVIDER": "OpenCommit uses that provider"},
    note="a project's .env with OCO_ variables comes first",
    checked="OpenCommit 3.3.10, run headless against a recording gateway, 2026-11-29",
)

AICOMMITS = Tool(
    id="aicommits",
    title="aicommits",
    found_by=(Binary("aicommits"), Binary("aic")),
    edits=(
        Edit(
            folder=HOME,
            names=(".aicommits",),
            format=Format.DOTENV,
            set={
                "provider": "custom",
                "OPENAI_API_KEY": Value.LOCAL_KEY,
                "OPENAI_BASE_URL": Value.PROXY_OPENAI,
                "OPENAI_MODEL": Value.MODEL,
            },
        ),
    ),
    afterwards=("another model: aicommits model",),
    checked="aicommits 3.4.0, run headless against a recording gateway, 2026-11-29",
)

MINI_SWE_AGENT = Tool(
    id="mini-swe-agent",
    title="mini-SWE-agent",
    found_by=(Binary("mini-swe-agent"), Directory(MINI_SWE)),
    edits=(
        Edit(
            folder=MINI_SWE,
            names=(".env",),
            format=Format.DOTENV,
            set={
                "MSWEA_CONFIGURED": "true",  # else it asks its questions first
                "MSWEA_MODEL_NAME": Text("openai/", Value.MODEL),
                "OPENAI_API_BASE": Value.PROXY_OPENAI,
                "OPENAI_API_KEY": Value.LOCAL_KEY,
                "MSWEA_COST_TRACKING": "ignore_errors",  # it knows no price of the gateway's models
            },
        ),
    ),
    afterwards=("another model: mini --model openai/MODEL",),
    overridden_by=_instead(
        "mini-SWE-agent",
        key="OPENAI_API_KEY",
        url="OPENAI_API_BASE OPENAI_BASE_URL",
        model="MSWEA_MODEL_NAME",
    ),
    checked="mini-SWE-agent 2.4.6, run headless against a recording gateway, 2026-11-29",
)

HERMES_AGENT = Tool(
    id="hermes-agent",
    title="Hermes Agent",
    # A JavaScript engine has a program of the same name.
    found_by=(Binary("hermes-agent"), Binary("hermes", says="Hermes Agent"), Directory(HERMES)),
    edits=(
        Edit(
            folder=HERMES,
            names=("config.yaml",),
            format=Format.YAML,
            new_only=True,
            set={
                NAME: {
                    "model": {"default": Value.MODEL, "provider": "custom:thv-llm"},
                    "providers": {
                        NAME: {
                            "name": TITLE,
                            "base_url": Value.PROXY_OPENAI,
                            "api_key": Value.LOCAL_KEY,
                            "default_model": Value.MODEL,
                        }
                    },
                },
            },
        ),
    ),
    snippet=Text(
        "# in a config.yaml that has settings of yours\nmodel:\n  default: ",
        Value.MODEL,
        "\n  provider: custom:thv-llm\nproviders:\n  thv-llm:\n    name: thv-llm gateway\n    base_url: ",
        Value.PROXY_OPENAI,
        "\n    api_key: ",
        Value.LOCAL_KEY,
        "\n    default_model: ",
        Value.MODEL,
    ),
    afterwards=("restart hermes; another model: hermes model",),
    checked="Hermes Agent 0.19.0, run headless against a recording gateway, 2026-11-29",
)

AICHAT_CLI = Tool(
    id="aichat",
    title="AIChat",
    found_by=(Binary("aichat"), Directory(AICHAT)),
    edits=(
        Edit(
            folder=AICHAT,
            names=("config.yaml",),
            format=Format.YAML,
            new_only=True,
            set={
                NAME: {
                    "model": Text("thv-llm:", Value.MODEL),
                    "clients": [
                        {
                            "type": "openai-compatible",
                            "name": NAME,
                            "api_base": Value.PROXY_OPENAI,
                            "api_key": Value.LOCAL_KEY,
                            "models": EachModel({"name": Value.MODEL}),
                        }
                    ],
                },
            },
        ),
    ),
    snippet=Text(
        "# in a config.yaml that has settings of yours\nmodel: thv-llm:",
        Value.MODEL,
        "\nclients:\n  - type: openai-compatible\n    name: thv-llm\n    api_base: ",
        Value.PROXY_OPENAI,
        "\n    api_key: ",
        Value.LOCAL_KEY,
        "\n    models:\n      - name: ",
        Value.MODEL,
    ),
    afterwards=("another model: aichat --model thv-llm:MODEL",),
    overridden_by=_instead("AIChat", model="AICHAT_MODEL"),
    checked="AIChat 0.30.0, run headless against a recording gateway, 2026-11-28",
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
    OPENCLAW_CLI,
    GPTME_CLI,
    NANOCODER_CLI,
    GROK_CLI,
    CECLI,
    SHELL_GPT_CLI,
    OPENCOMMIT,
    AICOMMITS,
    MINI_SWE_AGENT,
    HERMES_AGENT,
    AICHAT_CLI,
)

CLIENTS: Mapping[str, Mapping[str, Template]] = {
    "openai": {
        "OPENAI_BASE_URL": Value.PROXY_OPENAI,
        "OPENAI_API_BASE": Value.PROXY_OPENAI,
        "OPENAI_API_KEY": Value.LOCAL_KEY,
        "OPENAI_AGENTS_DISABLE_TRACING": IfAbsent("1"),  # else prompts and key go to OpenAI
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
