"""A model that has its tool run a command, in the shapes of the four APIs that tools speak.

`wanted` finds the shell among the functions that a request offers, whatever it is called, and fills in
what its schema requires; `chat`, `responses`, `messages` and `gemini` yield the events of a response
that calls it, as (event name, data).

Pure. Source: the API references of OpenAI, Anthropic and Gemini; each was read by the real tools in
`tests/e2e`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.fakes import completions
from tests.fakes.completions import Event

SHELLS = frozenset({"bash", "shell", "exec_command", "shell_command", "run_shell_command"})
COMMANDS = frozenset({"command", "cmd"})


@dataclass(frozen=True)
class Call:
    """One call of a function; `number` tells it from others of the same conversation."""

    number: int
    name: str
    arguments: dict[str, Any]

    @property
    def id(self) -> str:
        return f"call_{self.number}"

    @property
    def json(self) -> str:
        return json.dumps(self.arguments)


def results(request: object) -> int:
    """Return how many results of calls a request has in it."""
    return sum(
        one.get("role") == "tool"
        or one.get("type") in ("tool_result", "function_call_output")
        or "functionResponse" in one
        for one in _objects(request)
    )


def wanted(request: dict[str, Any], command: str) -> Call | None:
    """Return the call that runs a command; None when the request offers no shell."""
    for one in _objects(request.get("tools")):
        schema = next((one[key] for key in SCHEMAS if isinstance(one.get(key), dict)), None)
        if schema and str(one.get("name")).lower() in SHELLS:
            known = schema.get("properties", {})
            filled: dict[str, Any] = {
                name: "wait" for name in schema.get("required", ()) if name not in COMMANDS
            }
            name = next(name for name in known if name in COMMANDS)
            is_list = known[name].get("type") == "array"
            filled[name] = ["sh", "-c", command] if is_list else command
            return Call(results(request), one["name"], filled)
    return None


SCHEMAS = ("parameters", "parametersJsonSchema", "input_schema")


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for member in members:
        yield from _objects(member)


def chat(model: str, call: Call) -> Iterator[Event]:
    """OpenAI chat completions."""
    function = {"name": call.name, "arguments": call.json}
    calls = [{"index": 0, "id": call.id, "type": "function", "function": function}]
    yield "", completions.chunk(model, {"role": "assistant", "content": None, "tool_calls": calls})
    yield "", completions.chunk(model, {}, "tool_calls")
    yield "", "[DONE]"


def responses(model: str, call: Call) -> Iterator[Event]:
    """OpenAI responses."""
    item = {
        "type": "function_call",
        "id": f"fc_{call.number}",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.json,
        "status": "completed",
    }
    whole = {**completions.whole_responses(model, ""), "output": [item]}
    at = {"item_id": item["id"], "output_index": 0}
    begun = {**item, "status": "in_progress", "arguments": ""}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.function_call_arguments.delta", **at, "delta": call.json},
        {"type": "response.function_call_arguments.done", **at, "arguments": call.json},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield event["type"], json.dumps({**event, "sequence_number": number})


def messages(model: str, call: Call) -> Iterator[Event]:
    """Anthropic messages."""
    empty = {**completions.whole_messages(model, ""), "content": [], "stop_reason": None}
    block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": call.json}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": empty},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": completions.OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ]
    for event in events:
        yield event["type"], json.dumps(event)


def gemini(model: str, call: Call) -> Iterator[Event]:
    """Gemini streamGenerateContent with `alt=sse`."""
    whole = completions.whole_gemini(model, "")
    part = {"functionCall": {"name": call.name, "args": call.arguments}}
    whole["candidates"][0]["content"]["parts"] = [part]
    yield "", json.dumps(whole)
