"""Tools that setup cannot write to: with a snippet to paste, or with the reason why not."""

from __future__ import annotations

from thv_llm.tools.model import App, Binary, Directory, Extension, Folder, Text, Tool, Value

CODE_OF_THEIR_OWN = "its settings are a program of yours, which cannot be edited safely"

# api_key_name = 'cmd:…' would run once per editor session and keep a dead token.
AVANTE = Text(
    """-- in the opts of avante.nvim
provider = 'thv_llm',
providers = {
  thv_llm = {
    __inherited_from = 'openai',
    endpoint = '""",
    Value.GATEWAY_OPENAI,
    """',
    model = '""",
    Value.MODEL,
    """',
    api_key_name = 'THV_LLM_TOKEN',
    parse_api_key = function()
      return vim.trim(vim.fn.system([[""",
    Value.TOKEN_COMMAND,
    """]]))
    end,
  },
},""",
)

CODECOMPANION = Text(
    """-- in adapters.http of codecompanion.nvim
thv_llm = function()
  return require('codecompanion.adapters').extend('openai_compatible', {
    env = {
      url = '""",
    Value.GATEWAY_ROOT,
    """',
      api_key = [[cmd:""",
    Value.TOKEN_COMMAND,
    """]],
      chat_url = '/v1/chat/completions',
    },
    schema = { model = { default = '""",
    Value.MODEL,
    """' } },
  })
end,""",
)

GPTEL = Text(
    """;; in your init file
(require 'gptel)
(gptel-make-openai "thv-llm"
  :protocol "https"
  :host \"""",
    Value.GATEWAY_HOST,
    """"
  :endpoint \"""",
    Value.GATEWAY_PATH,
    """/chat/completions"
  :stream t
  :key (lambda () (string-trim (shell-command-to-string """,
    Value.TOKEN_COMMAND_STRING,
    """)))
  :models '(""",
    Value.MODEL,
    "))",
)

CONTINUE = Text(
    """# the first of the models in ~/.continue/config.yaml
models:
  - name: thv-llm
    provider: openai
    model: """,
    Value.MODEL,
    """
    apiBase: """,
    Value.PROXY_OPENAI,
    """
    apiKey: """,
    Value.LOCAL_KEY,
    """
    roles: [chat, edit, apply]""",
)

CRUSH = Text(
    """{
  "providers": {
    "thv-llm": {
      "type": "openai-compat",
      "base_url": \"""",
    Value.PROXY_OPENAI,
    """",
      "api_key": \"""",
    Value.LOCAL_KEY,
    """",
      "models": [{"id": \"""",
    Value.MODEL,
    """", "name": \"""",
    Value.MODEL,
    """"}]
    }
  }
}""",
)

SNIPPETS: tuple[Tool, ...] = (
    Tool(
        id="avante",
        title="avante.nvim",
        found_by=(Directory(Folder("~/.local/share/nvim/lazy/avante.nvim")),),
        snippet=AVANTE,
        reason=CODE_OF_THEIR_OWN,
        checked="run headless in Neovim, 2026-11-23",
    ),
    Tool(
        id="codecompanion",
        title="codecompanion.nvim",
        found_by=(Directory(Folder("~/.local/share/nvim/lazy/codecompanion.nvim")),),
        snippet=CODECOMPANION,
        reason=CODE_OF_THEIR_OWN,
        checked="run headless in Neovim, 2026-11-23",
    ),
    Tool(
        id="gptel",
        title="gptel (Emacs)",
        found_by=(Directory(Folder("~/.emacs.d/elpa/gptel")),),
        snippet=GPTEL,
        reason=CODE_OF_THEIR_OWN,
        checked="run in batch Emacs, 2026-11-23",
    ),
    Tool(
        id="continue",
        title="Continue",
        found_by=(Binary("cn"), Extension("continue.continue"), Directory(Folder("~/.continue"))),
        snippet=CONTINUE,
        reason="the order of the list in its YAML file decides, and the project is archived",
        checked="Continue 1.5.47, run headless against a recording gateway, 2026-11-23",
    ),
    Tool(
        id="openhands",
        title="OpenHands CLI",
        found_by=(Binary("openhands"), Directory(Folder("~/.openhands"))),
        variables={
            "LLM_MODEL": Text("openai/", Value.MODEL),
            "LLM_BASE_URL": Value.PROXY_OPENAI,
            "LLM_API_KEY": Value.LOCAL_KEY,
        },
        snippet=Text("thv-llm run -- openhands --override-with-envs"),
        reason="it takes another model or key from environment variables only",
        checked="OpenHands CLI 1.16.0, run headless against a recording gateway, 2026-11-28",
    ),
    Tool(
        id="crush",
        title="Crush",
        found_by=(
            Binary("crush"),
            Directory(Folder("~/.config/crush", env="XDG_CONFIG_HOME", below="crush")),
        ),
        snippet=CRUSH,
        reason="no version of it could be run to check an entry for it",
        remedy="put the snippet into ~/.config/crush/crush.json",
        checked="from source, 2026-11-23; the program was not run",
    ),
)

NOT_POSSIBLE: tuple[Tool, ...] = (
    Tool(
        id="cursor",
        title="Cursor",
        found_by=(Binary("cursor"), App("/Applications/Cursor.app"), Directory(Folder("~/.cursor"))),
        reason="it sends every request through its own servers, which cannot reach this machine; "
        "its settings file has no key for it",
        remedy="a public gateway with a fixed key: Settings, Models, Override OpenAI Base URL",
        checked="from documentation and reports, 2026-11-23",
    ),
    Tool(
        id="xcode",
        title="Xcode",
        found_by=(App("/Applications/Xcode.app"),),
        reason="its Coding Intelligence is set only in its user interface, and sends no key",
        remedy="set require_key = false (thv-llm config set), then in Xcode: Settings, Intelligence, "
        "Add a Model Provider, Locally Hosted, the proxy's port",
        checked="from documentation, 2026-11-23",
    ),
    Tool(
        id="copilot-for-xcode",
        title="GitHub Copilot for Xcode",
        found_by=(App("/Applications/GitHub Copilot for Xcode.app"),),
        reason="it has no setting for an endpoint of one's own",
        remedy="use another tool: thv-llm tools",
        checked="from documentation, 2026-11-23",
    ),
    Tool(
        id="roo-code",
        title="Roo Code",
        found_by=(Extension("rooveterinaryinc.roo-cline"),),
        reason="it was shut down on 2026-05-15",
        remedy="use Kilo Code or Cline, which grew from the same program",
        checked="from its announcement, 2026-11-23",
    ),
    Tool(
        id="windsurf",
        title="Windsurf",
        found_by=(
            Binary("windsurf"),
            App("/Applications/Windsurf.app"),
            Directory(Folder("~/.codeium/windsurf")),
        ),
        reason="its models run in its vendor's cloud, which cannot be pointed elsewhere",
        remedy="use another tool: thv-llm tools",
        checked="from documentation, 2026-11-23",
    ),
    Tool(
        id="jetbrains",
        title="JetBrains AI Assistant",
        found_by=(
            Directory(
                Folder(
                    "~/.config/JetBrains",
                    mac="~/Library/Application Support/JetBrains",
                    windows="%APPDATA%/JetBrains",
                )
            ),
        ),
        reason="it is set only in its user interface",
        remedy="Settings, Tools, AI Assistant, Models: OpenAI-compatible, with what `thv-llm env` prints",
        checked="from documentation, 2026-11-23",
    ),
)

MANUAL: tuple[Tool, ...] = (*SNIPPETS, *NOT_POSSIBLE)
