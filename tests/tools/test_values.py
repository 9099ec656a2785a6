"""Templates become values: URLs, quoting, models, and what is left out."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.machines import KEY, VALUES
from thv_llm.edit import Format
from thv_llm.errors import ThvLlmError
from thv_llm.settings import Settings
from thv_llm.tools import engine
from thv_llm.tools.model import (
    EachModel,
    Edit,
    Folder,
    IfAbsent,
    Mode,
    ModelMap,
    PerModel,
    Template,
    Text,
    Tool,
    Value,
)
from thv_llm.tools.values import (
    ABSENT,
    for_each_model,
    mode,
    needs_models,
    resolve,
    unfit_for_commands,
    used,
    without_effect,
)


def of(template: Template, **changes: object) -> object:
    return resolve(template, replace(VALUES, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "anthropic", "openai"),
    [
        ("https://g.example", "https://g.example", "https://g.example/v1"),
        ("https://g.example/", "https://g.example", "https://g.example/v1"),
        ("https://g.example/v1", "https://g.example", "https://g.example/v1"),
        ("https://g.example/v1/", "https://g.example", "https://g.example/v1"),
        ("https://g.example:8443/llm/v1", "https://g.example:8443/llm", "https://g.example:8443/llm/v1"),
        ("https://v1.example/xv1", "https://v1.example/xv1", "https://v1.example/xv1/v1"),
    ],
)
def test_anthropic_clients_get_no_v1_and_openai_clients_exactly_one(
    url: str, anthropic: str, openai: str
) -> None:
    assert of(Value.GATEWAY_ANTHROPIC, gateway_url=url) == anthropic
    assert of(Value.GATEWAY_OPENAI, gateway_url=url) == openai
    assert of(Text(Value.GATEWAY_HOST, Value.GATEWAY_PATH), gateway_url=url) == openai.removeprefix(
        "https://"
    )


def test_the_anthropic_path_of_the_gateway_is_used_for_anthropic_alone() -> None:
    changes = {"anthropic_path": "/anthropic", "gateway_url": "https://g.example/v1"}
    assert of(Value.GATEWAY_ANTHROPIC, **changes) == "https://g.example/anthropic"
    assert of(Value.GATEWAY_OPENAI, **changes) == "https://g.example/v1"


def test_each_api_has_a_path_of_its_own_at_gateway_and_proxy() -> None:
    changes = {"gateway_url": "https://g.example/ai", "openai_path": "/openai", "gemini_path": "/genai"}
    assert of(Value.GATEWAY_OPENAI, **changes) == "https://g.example/ai/openai/v1"
    assert of(Text(Value.GATEWAY_HOST, Value.GATEWAY_PATH), **changes) == "g.example/ai/openai/v1"
    assert of(Value.GATEWAY_ROOT, **changes) == "https://g.example/ai/openai"
    assert of([Value.PROXY_OPENAI, Value.PROXY_GEMINI], proxy_port=15001, **changes) == [
        "http://127.0.0.1:15001/openai/v1",
        "http://127.0.0.1:15001/genai",
    ]


def test_the_proxy_is_named_by_its_address() -> None:
    assert of([Value.PROXY_GEMINI, Value.PROXY_OPENAI, Value.PROXY_PORT], proxy_port=15001) == [
        "http://127.0.0.1:15001",
        "http://127.0.0.1:15001/v1",
        "15001",
    ]


@pytest.mark.posix
@pytest.mark.parametrize(
    "name",
    ["plain", "two words", "quote'", 'double"', "$HOME", "`id`", "a;b", "a&b", "~", "*", "ünï", "a\\b", "-x"],
)
def test_the_token_command_runs_under_any_name_of_the_home(tmp_path: Path, name: str) -> None:
    helper = tmp_path / name / "bin" / "thv-llm-token"
    helper.parent.mkdir(parents=True)
    helper.write_text("#!/bin/sh\necho it ran\n")
    helper.chmod(0o755)

    def said(command: str) -> str:
        return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True).stdout

    command = of(Value.TOKEN_COMMAND, helper_path=str(helper))
    word = of(Value.TOKEN_COMMAND_WORD, helper_path=str(helper))
    assert isinstance(command, str)
    assert said(command) == "it ran\n"
    assert said(f'eval "$(printf %s {word})"') == "it ran\n"
    assert of(Value.HELPER_PATH, helper_path=str(helper)) == str(helper)


WINDOWS = {
    "helper_python": r"C:\Program Files\Python\python.exe",
    "helper_path": r"C:\Users\Me Too\toolhive\bin\thv-llm-token.py",
}


def test_on_windows_the_helper_is_python_with_options_quoted_for_cmd_and_bash() -> None:
    command = '"C:/Program Files/Python/python.exe" -I -S "C:/Users/Me Too/toolhive/bin/thv-llm-token.py"'
    assert of(Value.TOKEN_COMMAND, **WINDOWS) == command
    assert shlex.split(command) == [
        of(Value.HELPER_PATH, **WINDOWS),
        *(of(Value.HELPER_ARGS, **WINDOWS) or ()),  # type: ignore[misc]
    ]
    assert of(Value.HELPER_ARGS_IF_ANY, **WINDOWS) == of(Value.HELPER_ARGS, **WINDOWS)


def test_elsewhere_the_helper_has_no_arguments() -> None:
    assert of(Value.HELPER_ARGS) == []
    assert of(Value.HELPER_ARGS_IF_ANY) is ABSENT


@pytest.mark.parametrize("name", ["100%", "$me", "a`b", "oh!", "line\nbreak"])
def test_a_path_that_cmd_or_bash_would_expand_is_refused_on_windows_only(name: str) -> None:
    odd = replace(VALUES, **{**WINDOWS, "helper_path": rf"C:\Users\{name}\thv-llm-token.py"})  # type: ignore[arg-type]
    assert unfit_for_commands(odd)
    assert bool(unfit_for_commands(replace(odd, helper_python=""))) == ("\n" in name)


def test_texts_and_values_are_joined() -> None:
    assert of(Text("Bearer ", Value.LOCAL_KEY)) == f"Bearer {KEY.reveal()}"
    assert of(Text("!", Value.TOKEN_COMMAND)) == "!" + shlex.quote(VALUES.helper_path)


def test_templates_are_repeated_per_model() -> None:
    assert of(EachModel({"id": Value.MODEL})) == [{"id": "vendor/model-1"}, {"id": "model-2"}]
    assert of(ModelMap({"name": Value.MODEL})) == {
        "vendor/model-1": {"name": "vendor/model-1"},
        "model-2": {"name": "model-2"},
    }
    assert of({"first": Value.MODEL}) == {"first": "vendor/model-1"}


@pytest.mark.parametrize(
    ("kind", "key", "model", "expected"),
    [
        (Format.JSON, "/m/[name={model}]", "a/b~c", "/m/[name=a~1b~0c]"),
        (Format.TOML, 'm."{model}"', 'a/"b\\', 'm."a/\\"b\\\\"'),
    ],
)
def test_a_key_per_model_is_quoted_for_its_format(kind: Format, key: str, model: str, expected: str) -> None:
    made = for_each_model(key, PerModel({"id": Value.MODEL}), kind, replace(VALUES, models=(model,)))
    assert made == {expected: {"id": model}}


@pytest.mark.parametrize("template", [Value.MODEL, EachModel(1), ModelMap(1), Text("x", Value.MODEL)])
def test_without_models_a_template_that_needs_them_says_so(template: Template) -> None:
    with pytest.raises(ThvLlmError, match="--models"):
        of(template, models=())


@pytest.mark.parametrize(
    "value", [Value.CA_FILE, Value.TLS_REJECT_UNAUTHORIZED, Value.BEDROCK_OPUS, Value.BEDROCK_ONLY_STABLE]
)
def test_what_is_not_set_is_left_out(value: Value) -> None:
    assert of(value) is ABSENT
    assert of(IfAbsent(value)) is ABSENT
    assert of({"a": value, "b": [value, 1]}) == {"b": [1]}


def test_models_are_left_out_where_they_are_no_must() -> None:
    assert of(Value.MODELS_IF_ANY, models=()) is ABSENT
    assert of(Value.MODELS_IF_ANY) == ["vendor/model-1", "model-2"]
    assert of(IfAbsent(Value.MODEL_IF_ANY), models=()) is ABSENT
    assert of(IfAbsent(Value.MODEL_IF_ANY)) == "vendor/model-1"


def test_certificate_options_are_passed_on() -> None:
    assert of(Value.CA_FILE, ca_file="/ca.pem") == "/ca.pem"
    assert of(Value.TLS_REJECT_UNAUTHORIZED, tls_skip_verify=True) == "0"


BEDROCK = (Value.BEDROCK_HAIKU, Value.BEDROCK_OPUS, Value.BEDROCK_SONNET)


def test_bedrock_models_have_defaults() -> None:
    assert [of(value, bedrock_compat=True) for value in BEDROCK] == [
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "us.anthropic.claude-opus-4-8",
        "us.anthropic.claude-sonnet-5",
    ]
    assert of(Value.BEDROCK_ONLY_STABLE, bedrock_compat=True) == "1"


def test_bedrock_models_are_taken_by_name_and_get_the_long_context_once() -> None:
    models = ("eu.claude-sonnet-9[1m]", "eu.claude-opus-9", "eu.claude-haiku-9")
    values = [of(value, bedrock_compat=True, bedrock_enable_1m=True, models=models) for value in BEDROCK]
    assert values == ["eu.claude-haiku-9", "eu.claude-opus-9[1m]", "eu.claude-sonnet-9[1m]"]


def test_a_bedrock_id_may_be_spelled_in_any_case_and_the_last_of_a_tier_is_used() -> None:
    models = ("Claude-OPUS-7", "Claude-Haiku-9", "EU.CLAUDE-SONNET-9", "claude-opus-9")
    values = [of(value, bedrock_compat=True, models=models) for value in BEDROCK]
    assert values == ["Claude-Haiku-9", "claude-opus-9", "EU.CLAUDE-SONNET-9"]


CLAUDE, CODEX, OPENCODE = (engine.by_name(name) for name in ("claude-code", "codex", "opencode"))
NOT_FOR_CODEX = "--bedrock-compat has no effect here: it is for Claude Code, which is not among the tools"


@pytest.mark.parametrize(
    ("wanted", "tools", "expected"),
    [
        ({"bedrock_enable_1m": True}, [CLAUDE], ["--enable-1m has no effect without --bedrock-compat"]),
        ({"bedrock_compat": True}, [CODEX], [NOT_FOR_CODEX]),
        ({"bedrock_compat": True}, [], [NOT_FOR_CODEX]),
        ({"bedrock_compat": True, "bedrock_enable_1m": True}, [CODEX, CLAUDE], []),
        (
            {"bedrock_compat": True, "models": ("a-opus", "b-OPUS", "my-own")},
            [CLAUDE, OPENCODE],
            [
                "Claude Code uses b-OPUS for opus, not a-opus",
                "Claude Code does not use my-own: its tiers are haiku, opus, sonnet",
            ],
        ),
        (
            {"models": ("a",)},
            [CLAUDE],
            ["--models has no effect here: no model ids are written for Claude Code"],
        ),
        ({"models": ("a", "b")}, [CLAUDE, OPENCODE], []),
        ({"models": ("a", "b")}, [], []),
    ],
)
def test_an_option_that_does_nothing_is_named_with_the_reason(
    wanted: dict[str, object], tools: list[Tool], expected: list[str]
) -> None:
    found = Settings(**wanted)  # type: ignore[arg-type]
    given = {key.replace("bedrock_", "bedrock.") for key in wanted}
    said = list(without_effect(found, given, tools, engine.TOOLS))
    assert [what for what, _ in said] == expected
    assert all(next_step.startswith("thv-llm ") for _, next_step in said)
    assert not list(without_effect(found, {"proxy.listen_port"}, tools, engine.TOOLS))


def test_an_option_of_an_earlier_command_line_is_not_spoken_of() -> None:
    assert not list(without_effect(Settings(models=("a",)), {"bedrock.compat"}, [CLAUDE], engine.TOOLS))


@pytest.mark.parametrize("part", ["set", "new_file", "beside"])
def test_every_part_of_an_edit_counts(part: str) -> None:
    def tool(template: Template) -> Tool:
        plain: dict[str, dict[str, Template]] = {"set": {"/a": 1}}
        edit = Edit(Folder("~"), ("x.json",), Format.JSON, **{**plain, part: {"/b": template}})  # type: ignore[arg-type]
        return Tool("x", "X", "", edits=(edit,))

    assert used(tool({"c": [Text("Bearer ", Value.LOCAL_KEY)]})) == {Value.LOCAL_KEY}
    assert mode(tool(Value.PROXY_OPENAI)) is Mode.PROXY
    assert mode(tool(1)) is Mode.DIRECT
    for template in (Value.MODEL, EachModel(1), ModelMap(1)):
        assert needs_models(tool([template]))
    assert not needs_models(tool(Value.MODELS_IF_ANY))
