"""Turn an entry's templates into plain values, and say what they tell about the entry.

Pure, but for one look at the file system that the helper is on.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from thv_llm import system
from thv_llm.edit import Format
from thv_llm.edit.model import Json
from thv_llm.errors import ThvLlmError
from thv_llm.system.file_system import may_run_programs
from thv_llm.tools.model import (
    PLACEHOLDER_KEY,
    EachModel,
    IfAbsent,
    Mode,
    ModelMap,
    PerModel,
    Template,
    Text,
    Tool,
    Value,
    Values,
)
from thv_llm.validation import gateway_root

if TYPE_CHECKING:
    from thv_llm.settings import Settings
    from thv_llm.state import State


def of(wanted: Settings, known: State, helper_path: str, models: tuple[str, ...] | None = None) -> Values:
    """Return what the tools' files are to hold by these settings.

    Args:
        models: instead of those that the settings name.
    """
    return Values(
        gateway_url=wanted.gateway_url,
        anthropic_path=wanted.anthropic_path_prefix or "",
        openai_path=wanted.openai_path_prefix or "",
        gemini_path=wanted.gemini_path_prefix or "",
        proxy_port=wanted.proxy_port,
        local_key=PLACEHOLDER_KEY,
        keys={**known.keys, "": known.local_key} if known.local_key else known.keys,
        helper_path=helper_path,
        helper_python=system.interpreter() if system.NEEDS_INTERPRETER else "",
        helper_shell="" if may_run_programs(os.path.dirname(helper_path)) else SHELL,
        models=wanted.models if models is None else models,
        headers=wanted.headers,
        ca_file=wanted.ca_file,
        tls_skip_verify=wanted.tls_skip_verify,
        bedrock_compat=wanted.bedrock_compat,
        bedrock_enable_1m=wanted.bedrock_enable_1m,
    )


class Absent:
    """The value of a template that has nothing to say."""


ABSENT: Final = Absent()

HELPER_VALUES = frozenset(
    {
        Value.TOKEN_COMMAND,
        Value.TOKEN_COMMAND_STRING,
        Value.TOKEN_COMMAND_WORD,
        Value.HELPER_PATH,
        Value.HELPER_ARGS,
        Value.HELPER_ARGS_IF_ANY,
        Value.HELPER_FILE,
    }
)
PROXY_VALUES = frozenset(
    {Value.PROXY_OPENAI, Value.PROXY_ANTHROPIC, Value.PROXY_GEMINI, Value.PROXY_PORT, Value.LOCAL_KEY}
)
ADDRESSES = frozenset(
    {
        Value.GATEWAY_ANTHROPIC,
        Value.GATEWAY_OPENAI,
        Value.GATEWAY_ROOT,
        Value.GATEWAY_HOST,
        Value.GATEWAY_PATH,
        Value.PROXY_OPENAI,
        Value.PROXY_ANTHROPIC,
        Value.PROXY_GEMINI,
        Value.PROXY_PORT,
    }
)

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS = "us.anthropic.claude-opus-4-8"
SONNET = "us.anthropic.claude-sonnet-5"
LONG_CONTEXT = "[1m]"
"""Claude Code's mark on a model id for the context window of a million tokens."""


def resolve(template: Template, values: Values, *, model: str = "") -> Json | Absent:
    """Return the template with all values filled in, or ABSENT.

    Args:
        model: the model at hand; "" = the first one.

    Raises:
        ThvLlmError: a model is needed and none is known.
    """
    match template:
        case Value():
            return _value(template, values, model)
        case Text(parts):
            return "".join(_part(part, values, model) for part in parts)
        case EachModel(element):
            return [_present(element, values, name) for name in _models(values)]
        case ModelMap(member):
            return {name: _present(member, values, name) for name in _models(values)}
        case IfAbsent(inner) | PerModel(inner):
            return resolve(inner, values, model=model)
        case None | bool() | int() | float() | str():
            return template
        case Mapping():
            members = {key: resolve(member, values, model=model) for key, member in template.items()}
            return {key: member for key, member in members.items() if not isinstance(member, Absent)}
        case Sequence():
            elements = [resolve(element, values, model=model) for element in template]
            return [element for element in elements if not isinstance(element, Absent)]


def for_each_model(key: str, template: PerModel, kind: Format, values: Values) -> dict[str, Json]:
    """Return one key and value per model; `{model}` in the key is the model's id."""
    quote = _in_toml_string if kind is Format.TOML else _in_pointer
    return {
        key.replace("{model}", quote(name)): _present(template.item, values, name) for name in _models(values)
    }


def _in_pointer(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _in_toml_string(text: str) -> str:
    return json.dumps(text)[1:-1]


def _present(template: Template, values: Values, model: str) -> Json:
    value = resolve(template, values, model=model)
    return None if isinstance(value, Absent) else value


def _part(part: str | Value, values: Values, model: str) -> str:
    text = part if isinstance(part, str) else _value(part, values, model)
    return text if isinstance(text, str) else ""


def _models(values: Values) -> tuple[str, ...]:
    if not values.models:
        raise ThvLlmError(
            "no model ids are known",
            why="this tool needs them in its settings",
            next_step="name them: thv-llm setup --models MODEL,MODEL; or log in, then: thv-llm setup",
        )
    return values.models


def _value(value: Value, values: Values, model: str) -> Json | Absent:
    if value is Value.MODEL:
        return model or _models(values)[0]
    if value is Value.MODEL_IF_ANY:
        return values.models[0] if values.models else ABSENT
    if value is Value.MODELS_IF_ANY:
        return list(values.models) or ABSENT
    if value is Value.HELPER_ARGS:
        return list(_helper_args(values))
    return SOURCES[value](values) or ABSENT


def _origin(values: Values) -> str:
    # The address, never "localhost": another user could hold the same port on [::1].
    return f"http://127.0.0.1:{values.proxy_port}"


class _Tier(NamedTuple):
    """A tier of models: the word that its ids have in them, and Bedrock's id where none is named."""

    word: str
    default: str
    has_long_context: bool = True

    def ids(self, models: Collection[str]) -> list[str]:
        """Return the ids of this tier, however they are spelled."""
        return [model for model in models if self.word in model.lower()]

    def source(self, values: Values) -> str:
        """Return the id for Claude Code: the last one that is named."""
        if not values.bedrock_compat:
            return ""
        name = [self.default, *self.ids(values.models)][-1]
        if self.has_long_context and values.bedrock_enable_1m and not name.endswith(LONG_CONTEXT):
            name += LONG_CONTEXT
        return name


TIERS: Mapping[Value, _Tier] = {
    Value.BEDROCK_HAIKU: _Tier("haiku", HAIKU, has_long_context=False),
    Value.BEDROCK_OPUS: _Tier("opus", OPUS),
    Value.BEDROCK_SONNET: _Tier("sonnet", SONNET),
}


SHELL = "/bin/sh"
"""What runs the helper where a directory does not allow programs (noexec)."""
PYTHON_OPTIONS = ("-I", "-S")
"""Nothing of the current directory, PYTHONPATH or site-packages is imported."""


def _forward(path: str) -> str:
    # What JSON, TOML, cmd and bash all take as it is.
    return path.replace("\\", "/")


def _helper_args(values: Values) -> tuple[str, ...]:
    if values.helper_python:
        return (*PYTHON_OPTIONS, _forward(values.helper_path), *_caller(values))
    return (*([values.helper_path] if values.helper_shell else []), *_caller(values))


def _caller(values: Values) -> tuple[str, ...]:
    """Return the words by which the service tells the tools' calls of the helper apart."""
    return ("--tool", values.tool) if values.tool else ()


def token_command(values: Values) -> str:
    """Return the command line of the helper; on Windows one that cmd and bash understand alike."""
    words = [shlex.quote(word) for word in (values.helper_shell, values.helper_path) if word]
    if values.helper_python:
        words = [f'"{_forward(values.helper_python)}"', *PYTHON_OPTIONS, f'"{_forward(values.helper_path)}"']
    return " ".join([*words, *_caller(values)])


def unfit_for_commands(values: Values) -> str:
    """Return why the helper's path cannot stand in tools' settings; "" if it can.

    On Windows `%` and `$` are expanded inside quotes, by cmd and by bash, and nothing escapes both.
    """
    paths = (values.helper_path, values.helper_python)
    if not all(path.isprintable() for path in paths):
        return "the path of the token helper has a line break or control character in it"
    unfit = sorted({character for path in paths for character in path if character in '%"$`!'})
    if values.helper_python and unfit:
        return (
            f"the path of the token helper or of Python has {' '.join(unfit)} in it, which cmd would expand"
        )
    return ""


SOURCES: Mapping[Value, Callable[[Values], Json]] = {
    Value.TOKEN_COMMAND: token_command,
    Value.TOKEN_COMMAND_STRING: lambda values: json.dumps(token_command(values)),
    Value.TOKEN_COMMAND_WORD: lambda values: shlex.quote(token_command(values)),
    Value.HELPER_PATH: lambda values: (
        _forward(values.helper_python) or values.helper_shell or values.helper_path
    ),
    Value.HELPER_ARGS_IF_ANY: lambda values: list(_helper_args(values)),
    Value.HELPER_FILE: lambda values: values.helper_path,
    Value.GATEWAY_ANTHROPIC: lambda values: gateway_root(values.gateway_url) + values.anthropic_path,
    Value.GATEWAY_OPENAI: lambda values: gateway_root(values.gateway_url) + values.openai_path + "/v1",
    Value.GATEWAY_ROOT: lambda values: gateway_root(values.gateway_url) + values.openai_path,
    Value.GATEWAY_HOST: lambda values: urlsplit(values.gateway_url).netloc,
    Value.GATEWAY_PATH: lambda values: (
        urlsplit(gateway_root(values.gateway_url)).path + values.openai_path + "/v1"
    ),
    Value.PROXY_OPENAI: lambda values: _origin(values) + values.openai_path + "/v1",
    Value.PROXY_ANTHROPIC: lambda values: _origin(values) + values.anthropic_path,
    Value.PROXY_GEMINI: lambda values: _origin(values) + values.gemini_path,
    Value.PROXY_PORT: lambda values: str(values.proxy_port),
    Value.LOCAL_KEY: lambda values: values.local_key.reveal(),
    Value.HEADERS: lambda values: dict(values.headers),
    Value.HEADER_LINES: lambda values: "\n".join(f"{name}: {text}" for name, text in values.headers.items()),
    Value.CA_FILE: lambda values: values.ca_file,
    Value.TLS_REJECT_UNAUTHORIZED: lambda values: "0" if values.tls_skip_verify else "",
    Value.BEDROCK_ONLY_STABLE: lambda values: "1" if values.bedrock_compat else "",
    **{value: tier.source for value, tier in TIERS.items()},
}


def leaves(template: Template) -> Iterator[Template]:
    """Yield every leaf of a template, and EachModel and ModelMap themselves."""
    match template:
        case Text(parts):
            yield from parts
        case EachModel(inner) | ModelMap(inner) | PerModel(inner):
            yield template
            yield from leaves(inner)
        case IfAbsent(inner):
            yield from leaves(inner)
        case Mapping():
            for member in template.values():
                yield from leaves(member)
        case Sequence() if not isinstance(template, str):
            for element in template:
                yield from leaves(element)
        case _:
            yield template


ASK_HEADERS = "ask the administrator of the gateway whether these tools need them"


def is_address(template: Template) -> bool:
    """Whether a value says where requests go."""
    return any(isinstance(leaf, Value) and leaf in ADDRESSES for leaf in leaves(template))


def used(tool: Tool) -> frozenset[Value]:
    """Return the values that a tool's files are made of, or its snippet when it has no files."""
    templates = [template for edit in tool.edits for template in edit.templates]
    if tool.snippet and not tool.edits:
        templates.append(tool.snippet)
    return frozenset(leaf for template in templates for leaf in leaves(template) if isinstance(leaf, Value))


def needs_program(tool: Tool) -> bool:
    """Whether a tool starts the helper by its path alone, which takes a directory that allows programs."""
    return Value.HELPER_FILE in used(tool)


def mode(tool: Tool) -> Mode:
    """Return how a tool reaches the gateway."""
    if not tool.edits:
        return Mode.MANUAL if tool.snippet else Mode.NONE
    return Mode.PROXY if used(tool) & PROXY_VALUES else Mode.DIRECT


def has_key(tool: Tool) -> bool:
    """Whether a tool shows a key to the proxy: one in its files, or one to be pasted."""
    templates = [template for edit in tool.edits for template in edit.templates]
    templates += [tool.snippet] if tool.snippet else []
    return bool(tool.variables) or any(
        leaf is Value.LOCAL_KEY for template in templates for leaf in leaves(template)
    )


def is_told_apart(tool: Tool) -> bool:
    """Whether the service knows which requests are this tool's."""
    return has_key(tool) or bool((used(tool) & HELPER_VALUES) - {Value.HELPER_FILE})


def needs_models(tool: Tool) -> bool:
    """Whether a tool cannot be wired without model ids."""
    return any(
        leaf is Value.MODEL or isinstance(leaf, EachModel | ModelMap | PerModel)
        for edit in tool.edits
        for template in edit.templates
        for leaf in leaves(template)
    )


ONE_EACH = "thv-llm setup --models with one id of each tier"


def takes_models(tool: Tool) -> bool:
    """Whether model ids change what is written for a tool."""
    return needs_models(tool) or bool(used(tool) & {Value.MODEL_IF_ANY, Value.MODELS_IF_ANY})


def without_headers(wanted: Settings, tools: Collection[Tool]) -> str:
    """Say which tools send requests without headers that the gateway is to get; "" for none.

    A secret one is never written into a tool's file, so only the proxy adds it.
    """
    direct = [tool for tool in tools if mode(tool) is Mode.DIRECT]
    takes = {Value.HEADERS, Value.HEADER_LINES}
    lacking = [tool for tool in direct if wanted.headers and not used(tool) & takes]
    if wanted.gateway_header_file and direct:
        titles = ", ".join(tool.title for tool in direct)
        return f"only the proxy adds the headers of gateway.header_file, and {titles} does not use it"
    titles = ", ".join(tool.title for tool in lacking)
    return f"{titles} cannot send the headers of gateway.headers" if lacking else ""


def without_effect(
    wanted: Settings, given: Collection[str], tools: Collection[Tool], table: Collection[Tool]
) -> Iterator[tuple[str, str]]:
    """Yield what the options of a command line do not do, each with a next step.

    Args:
        given: keys of the settings that were given.
        tools: those that these settings are for, out of the table.
    """
    if lacking := without_headers(wanted, tools):
        yield lacking, ASK_HEADERS
    if not {"bedrock.compat", "bedrock.enable_1m", "models"} & set(given):
        return
    users = [tool for tool in table if used(tool) & TIERS.keys()]
    titles = ", ".join(tool.title for tool in users)
    is_used = wanted.bedrock_compat and any(tool in tools for tool in users)
    if wanted.bedrock_enable_1m and not wanted.bedrock_compat:
        yield "--enable-1m has no effect without --bedrock-compat", "thv-llm setup --bedrock-compat"
    if wanted.bedrock_compat and not is_used:
        next_step = f"thv-llm setup --client {users[0].id}"
        yield (
            f"--bedrock-compat has no effect here: it is for {titles}, which is not among the tools",
            next_step,
        )
    is_new = "models" in given and bool(wanted.models)
    if is_new and tools and not is_used and not any(map(takes_models, tools)):
        names = ", ".join(tool.title for tool in tools)
        yield f"--models has no effect here: no model ids are written for {names}", "thv-llm tools"
    if is_used:
        for tier in TIERS.values():
            if len(ids := tier.ids(wanted.models)) > 1:
                yield f"{titles} uses {ids[-1]} for {tier.word}, not {', '.join(ids[:-1])}", ONE_EACH
        words = tuple(tier.word for tier in TIERS.values())
        strays = [model for model in wanted.models if not any(word in model.lower() for word in words)]
        if strays:
            yield f"{titles} does not use {', '.join(strays)}: its tiers are {', '.join(words)}", ONE_EACH
