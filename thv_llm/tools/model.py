"""The words in which an AI tool is described: where it is, what marks it, what to write.

Entries (`tools.registry`) are data in these words; `tools.engine` and its siblings act on them
and know no tool by name. What is only known at setup time is a member of `Value`, so that the
type checker sees a typo. A template is JSON whose leaves can be such members: `Text` joins
them, `EachModel`, `ModelMap` and `PerModel` repeat a template per model id, `IfAbsent` leaves a value that
the user has. A value with nothing to say (no `ca_file` set, say) leaves its key out.

Pure data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from thv_llm.edit import Format
from thv_llm.secret import Secret

NAME = "thv-llm"
"""Our provider id alone, so that a key of the user's is never sent to the gateway by mistake."""

TITLE = "thv-llm gateway"
"""What a tool's model picker shows."""


class Value(Enum):
    """What is known only at setup time."""

    TOKEN_COMMAND = "the token helper, quoted for a POSIX shell; on Windows for cmd and bash"
    TOKEN_COMMAND_STRING = "TOKEN_COMMAND as a string of Lisp or JSON"
    TOKEN_COMMAND_WORD = "TOKEN_COMMAND as one word of a shell command"
    HELPER_PATH = "the program of the token helper, which is started with HELPER_ARGS"
    HELPER_ARGS = "its arguments, a list: whose call it is; on Windows the helper itself before, for Python"
    HELPER_ARGS_IF_ANY = "the same; left out when there is none"
    HELPER_FILE = "absolute path of the token helper, for a tool that takes no arguments"
    GATEWAY_ANTHROPIC = "base URL of the gateway for Anthropic clients, without /v1"
    GATEWAY_OPENAI = "base URL of the gateway for OpenAI clients, with exactly one /v1"
    GATEWAY_ROOT = "base URL of the gateway for OpenAI clients, without /v1"
    GATEWAY_HOST = "host (and port) of the gateway"
    GATEWAY_PATH = "path of GATEWAY_OPENAI"
    PROXY_OPENAI = "base URL of the proxy for OpenAI clients, with /v1"
    PROXY_ANTHROPIC = "base URL of the proxy for Anthropic clients, without /v1"
    PROXY_GEMINI = "base URL of the proxy for Gemini clients, without /v1beta"
    PROXY_PORT = "the proxy's port"
    LOCAL_KEY = "the key that the proxy requires"
    MODEL = "where a template is repeated per model the one at hand, elsewhere the first"
    MODEL_IF_ANY = "the first model; left out when none is known"
    MODELS_IF_ANY = "the list of all models; left out when none is known"
    HEADERS = "gateway.headers as an object; left out without any"
    HEADER_LINES = "the same as lines of text"
    CA_FILE = "ca_file of the settings; left out when not set"
    TLS_REJECT_UNAUTHORIZED = '"0" with tls_skip_verify, else left out'
    BEDROCK_ONLY_STABLE = '"1" with bedrock.compat, else left out'
    BEDROCK_HAIKU = "Bedrock's id of the Haiku model; left out without bedrock.compat"
    BEDROCK_OPUS = "Bedrock's id of the Opus model; left out without bedrock.compat"
    BEDROCK_SONNET = "Bedrock's id of the Sonnet model; left out without bedrock.compat"


@dataclass(frozen=True, init=False)
class Text:
    """Texts and values, joined."""

    parts: tuple[str | Value, ...]

    def __init__(self, *parts: str | Value) -> None:
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True)
class EachModel:
    """A list with one element per model."""

    element: Template


@dataclass(frozen=True)
class ModelMap:
    """An object with one member per model, named by its id."""

    member: Template


@dataclass(frozen=True)
class PerModel:
    """One key per model: `{model}` in the key stands for its id. For items of arrays and tables."""

    item: Template


@dataclass(frozen=True)
class IfAbsent:
    """Set only where the user has no value of their own.

    Attributes:
        otherwise: what to tell the user when theirs was left in place.
        member: the member of the top level that shows there is one, for YAML, where our key is a block's.
    """

    value: Template
    otherwise: str = ""
    member: str = ""


Template: TypeAlias = (
    "bool | int | float | str | Value | Text | EachModel | ModelMap | PerModel | IfAbsent"
    " | Sequence[Template] | Mapping[str, Template] | None"
)


class Mode(Enum):
    """How a tool reaches the gateway."""

    DIRECT = "direct"
    """By itself, with tokens from the helper."""
    PROXY = "proxy"
    """Through our proxy on 127.0.0.1, with the local key."""
    MANUAL = "manual"
    """The user pastes a snippet."""
    NONE = "none"
    """Not at all; the entry says why."""


@dataclass(frozen=True)
class Folder:
    """A directory of a tool's, and what moves it.

    Attributes:
        default: `~` is the home directory.
        env: variable that replaces `default` when it holds an absolute path. `XDG_CONFIG_HOME` is
            not looked at where `mac` or `windows` is what holds.
        below: where the directory lies under the variable's value.
        xdg: where it lies under `XDG_CONFIG_HOME`, for a tool that has a variable of its own, too.
        mac: the default on macOS, where it differs.
        windows: the default on Windows, where it differs; `%APPDATA%` and the like can begin it.
    """

    default: str
    env: str = ""
    below: str = ""
    xdg: str = ""
    mac: str = ""
    windows: str = ""


@dataclass(frozen=True)
class Binary:
    """Mark: a program on PATH, or in one of the directories where such programs are put.

    Attributes:
        says: text that must be in the output of `--version`, for a name that others use too.
        package: part of the program's real path that proves the same without running it.
    """

    name: str
    says: str = ""
    package: str = ""


@dataclass(frozen=True)
class App:
    """Mark: an application bundle or program at a fixed place; `~` and `%NAME%` as in `Folder`."""

    path: str


@dataclass(frozen=True)
class Directory:
    """Weak mark: a directory of the tool's. It can be a left-over of a tool that was removed."""

    folder: Folder


@dataclass(frozen=True)
class Extension:
    """Mark: an editor extension, by the start of its directory's name."""

    name: str
    editors: tuple[str, ...] = (
        "~/.vscode",
        "~/.vscode-insiders",
        "~/.vscode-oss",
        "~/.vscode-server",
        "~/.cursor",
    )


Mark: TypeAlias = Binary | App | Directory | Extension


@dataclass(frozen=True)
class Edit:
    """Keys to set in one file of the tool's.

    Attributes:
        names: file names in the folder; the first that exists is edited, else the last is made.
        set: key (in the words of `edit` for that format) to template, in order.
        new_file: keys to set besides when there is nothing in the file yet.
        beside: members to put into an object of ours that a key of `set` makes, for values that
            the tool itself keeps writing anew: they come and go with the object, and what they
            hold is private.
        requires: top-level keys that an existing file must have; without one of them the
            tool would drop the whole file, so it is not touched.
        ours_alone: the file carries our id and goes as a whole, with all that the tool added.
        in_profiles: the same again in each directory below this one (VS Code's profiles).
        new_only: a file with something of the user's in it is left alone, because what we set can be
            there already and cannot be found in this format; the tool's snippet is for them.
    """

    folder: Folder
    names: tuple[str, ...]
    format: Format
    set: Mapping[str, Template]
    new_file: Mapping[str, Template] = field(default_factory=dict)
    beside: Mapping[str, Template] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    ours_alone: bool = False
    in_profiles: str = ""
    new_only: bool = False

    @property
    def templates(self) -> tuple[Template, ...]:
        """Everything that can be written."""
        return (*self.set.values(), *self.new_file.values(), *self.beside.values())


@dataclass(frozen=True)
class Tool:
    """One AI tool: how to find it, what to write, what to say.

    Attributes:
        id: what is typed after `--client`; also the name in the undo record.
        found_by: marks; one is enough.
        edits: files in the order in which they are written; undone the other way round.
        snippet: what to paste, for a tool or a file that we cannot write to.
        afterwards: what the user must still do.
        managed_by: files of an administrator's that have the last word; paths as in `App`.
        overridden_by: environment variables that make it ignore what we write, and what each does.
        reason: why it cannot be wired; set only for those.
        reason_on_windows: why not there.
        remedy: what the user can do instead.
        note: what else `tools NAME` should say.
        ca_env: variable that names further authorities, for a tool without a setting for them.
        variables: environment variables that configure it, for `env` and `run`; then it has no files.
        no_token_status: what the proxy responds when there is no access token: the status with which
            the tool shows the text of the response.
        checked: program version, how, and date.
    """

    id: str
    title: str
    checked: str
    found_by: tuple[Mark, ...] = ()
    edits: tuple[Edit, ...] = ()
    snippet: Text | None = None
    afterwards: tuple[str, ...] = ()
    overridden_by: Mapping[str, str] = field(default_factory=dict)
    managed_by: tuple[str, ...] = ()
    reason: str = ""
    reason_on_windows: str = ""
    remedy: str = ""
    note: str = ""
    ca_env: str = ""
    no_token_status: int = 401
    variables: Mapping[str, Template] = field(default_factory=dict)


PLACEHOLDER_KEY = Secret("LOCAL-KEY")
"""Stands for a tool's key before there is one."""


@dataclass(frozen=True)
class Values:
    """What setup knows when it writes; see `Value`.

    Attributes:
        gateway_url: as in the settings, with or without /v1.
        local_key: of the tool at hand.
        keys: of all tools, by their ids; what else is a key of this installation's is there by other names.
        tool: the id of the tool at hand; "" = none yet.
        anthropic_path, openai_path, gemini_path: where the gateway serves each API; "" = at its root.
        models: model ids, best first.
        helper_python: the interpreter that must be named to run the helper (Windows); "" = none.
        helper_shell: the shell that must be named to run it, in a directory without programs; "" = none.
    """

    gateway_url: str
    proxy_port: int
    local_key: Secret
    helper_path: str
    helper_python: str = ""
    helper_shell: str = ""
    anthropic_path: str = ""
    openai_path: str = ""
    gemini_path: str = ""
    models: tuple[str, ...] = ()
    keys: Mapping[str, Secret] = field(default_factory=dict)
    tool: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str = ""
    tls_skip_verify: bool = False
    bedrock_compat: bool = False
    bedrock_enable_1m: bool = False

    def of(self, tool: str) -> Values:
        """Return the values for one tool."""
        return replace(self, tool=tool, local_key=self.keys.get(tool, self.local_key))
