"""Editors and IDEs with a settings file of their own: all go through our proxy."""

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
    Mark,
    Template,
    Text,
    Tool,
    Value,
)
from thv_llm.tools.registry.proxy import BEARER, CONTEXT_TOKENS, OUTPUT_TOKENS

VSCODE_GROUP: Template = {
    "name": NAME,
    "vendor": "customendpoint",
    "apiType": "chat-completions",
    "models": EachModel(
        {
            "id": Value.MODEL,
            "name": Value.MODEL,
            "url": Value.PROXY_OPENAI,
            "toolCalling": True,
            "vision": True,
            "maxInputTokens": CONTEXT_TOKENS,
            "maxOutputTokens": OUTPUT_TOKENS,
            # A literal apiKey is taken for a reference into secret storage.
            "requestHeaders": {"Authorization": BEARER},
        }
    ),
}

ZED = Folder(
    "~/.config/zed", env="XDG_CONFIG_HOME", below="zed", mac="~/.config/zed", windows="%APPDATA%/Zed"
)


def _vscode(id: str, title: str, product: str, *programs: Mark, checked: str) -> Tool:
    """Return the entry of one edition of VS Code; `product` names its directories."""
    user = Folder(
        f"~/.config/{product}/User",
        env="XDG_CONFIG_HOME",
        below=f"{product}/User",
        mac=f"~/Library/Application Support/{product}/User",
        windows=f"%APPDATA%/{product}/User",
    )
    groups = Edit(
        folder=user,
        in_profiles="profiles",
        names=("chatLanguageModels.json",),
        format=Format.JSONC,
        set={"/[name=thv-llm]": VSCODE_GROUP},
    )
    return Tool(
        id=id,
        title=title,
        found_by=(*programs, Directory(user)),
        edits=(groups,),
        afterwards=(
            "run “Developer: Reload Window”, then “Chat: Manage Language Models”, and pick the model",
        ),
        note="needs Copilot Chat 1.122 or later; an organization's policy can forbid models of one's own",
        checked=checked,
    )


EDITORS: tuple[Tool, ...] = (
    _vscode(
        "vscode",
        "VS Code",
        "Code",
        Binary("code"),
        App("/Applications/Visual Studio Code.app"),
        checked="VS Code 1.139.1, run against a recording gateway, 2026-11-23",
    ),
    _vscode(
        "vscode-insiders",
        "VS Code Insiders",
        "Code - Insiders",
        Binary("code-insiders"),
        App("/Applications/Visual Studio Code - Insiders.app"),
        checked="as VS Code 1.139.1, whose file it shares in form, 2026-11-23; not run itself",
    ),
    _vscode(
        "vscodium",
        "VSCodium",
        "VSCodium",
        Binary("codium"),
        App("/Applications/VSCodium.app"),
        checked="as VS Code 1.139.1, whose file it shares in form, 2026-11-23; not run itself",
    ),
    Tool(
        id="zed",
        title="Zed",
        found_by=(
            Binary("zed"),
            Binary("zeditor"),
            App("/Applications/Zed.app"),
            Directory(ZED),
        ),
        edits=(
            Edit(
                folder=ZED,
                names=("settings.json",),
                format=Format.JSONC_TRAILING,
                set={
                    "/language_models/openai_compatible/thv-llm": {
                        "api_url": Value.PROXY_OPENAI,
                        "available_models": EachModel(
                            {
                                "name": Value.MODEL,
                                "display_name": Value.MODEL,
                                "max_tokens": CONTEXT_TOKENS,
                                "max_output_tokens": OUTPUT_TOKENS,
                            }
                        ),
                    },
                },
            ),
        ),
        afterwards=(
            "give it the local key once, because Zed takes keys from its keychain only: "
            "“agent: open settings”, LLM Providers, thv-llm; `thv-llm tools zed` prints the key",
        ),
        snippet=Text("the API key of LLM Providers, thv-llm: ", Value.LOCAL_KEY),
        note="or export THV_LLM_API_KEY before Zed is started",
        checked="from documentation, 2026-11-23; the program was not run",
    ),
    Tool(
        id="junie",
        title="JetBrains Junie",
        found_by=(Binary("junie"), Directory(Folder("~/.junie", env="JUNIE_HOME"))),
        edits=(
            Edit(
                folder=Folder("~/.junie/models", env="JUNIE_HOME", below="models"),
                names=("thv-llm.json",),
                format=Format.JSON,
                ours_alone=True,
                set={
                    "/displayName": TITLE,
                    "/providerName": NAME,
                    "/id": Value.MODEL,
                    "/baseUrl": Text(Value.PROXY_OPENAI, "/chat/completions"),
                    "/apiType": "OpenAICompletion",
                    "/apiKey": Value.LOCAL_KEY,
                },
            ),
        ),
        afterwards=("choose it: junie --model custom:thv-llm, or /model",),
        checked="from documentation, 2026-11-23; the program was not run",
    ),
)
