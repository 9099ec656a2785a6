"""Tools that can only hold a base URL and a fixed key: they go through our proxy on 127.0.0.1."""

from __future__ import annotations

from thv_llm.edit.formats import Format
from thv_llm.tools.model import Binary, Directory, Edit, Folder, ModelMap, Tool, Value

OPENCODE = Folder("~/.config/opencode", env="XDG_CONFIG_HOME", below="opencode")

NAME = "thv-llm gateway"
"""What a tool's model picker shows."""

PROXY: tuple[Tool, ...] = (
    Tool(
        id="opencode",
        title="OpenCode",
        found_by=(Binary("opencode"), Directory(OPENCODE)),
        edits=(
            Edit(
                folder=OPENCODE,
                names=("opencode.jsonc", "opencode.json"),
                format=Format.JSONC_TRAILING,
                new_file={"/$schema": "https://opencode.ai/config.json"},  # else it rewrites the file
                set={
                    "/provider/thv-llm": {
                        "npm": "@ai-sdk/openai-compatible",
                        "name": NAME,
                        "options": {"baseURL": Value.PROXY_OPENAI, "apiKey": Value.LOCAL_KEY},
                        "models": ModelMap({"name": Value.MODEL}),
                    },
                },
            ),
        ),
        afterwards=("restart OpenCode and pick a model of “thv-llm gateway” (/models)",),
        checked="OpenCode 1.18.33, run headless against a recording gateway, 2026-11-23",
    ),
)
