"""What an LLM gateway returns, in the shapes of the four APIs that tools speak.

Each function yields the events of one response as (event name, data); `whole_*` returns the same
response in one piece. The text is the caller's: a test looks for it in what a tool prints.

Pure.

Source: the API references of OpenAI (chat completions, responses), Anthropic (messages) and
Gemini (generateContent); each was read by the real tools in `tests/e2e`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Event = tuple[str, str]

INPUT_TOKENS = 3
OUTPUT_TOKENS = 2


def pieces(text: str) -> list[str]:
    """Return a text in the pieces that a model would send: a word and the space behind it."""
    return re.findall(r"\s*\S+\s*", text) or [text]


def chat(model: str, text: str) -> Iterator[Event]:
    """OpenAI chat completions, streamed."""
    yield "", chunk(model, {"role": "assistant", "content": ""})
    for piece in pieces(text):
        yield "", chunk(model, {"content": piece})
    yield "", chunk(model, {}, "stop")
    yield "", "[DONE]"


def whole_chat(model: str, text: str) -> dict[str, Any]:
    """OpenAI chat completions, in one piece."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _chat_usage(),
    }


def chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> str:
    """Return the data of one event of streamed chat completions."""
    event: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if finish:
        event["usage"] = _chat_usage()
    return json.dumps(event)


def _chat_usage() -> dict[str, int]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }


def responses(model: str, text: str) -> Iterator[Event]:
    """OpenAI responses, streamed."""
    whole = whole_responses(model, text)
    message = whole["output"][0]
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    begun = {**message, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **at, "part": part},
        *({"type": "response.output_text.delta", **at, "delta": piece} for piece in pieces(text)),
        {"type": "response.output_text.done", **at, "text": text},
        {"type": "response.content_part.done", **at, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield event["type"], json.dumps({**event, "sequence_number": number})


def whole_responses(model: str, text: str) -> dict[str, Any]:
    """OpenAI responses, in one piece."""
    message = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [message],
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "output_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def messages(model: str, text: str) -> Iterator[Event]:
    """Anthropic messages, streamed."""
    empty = {**whole_messages(model, text), "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": empty},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ]
    for event in events:
        yield event["type"], json.dumps(event)


def whole_messages(model: str, text: str) -> dict[str, Any]:
    """Anthropic messages, in one piece."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
    }


def gemini(model: str, text: str) -> Iterator[Event]:
    """Gemini streamGenerateContent with `alt=sse`."""
    parts = pieces(text)
    for number, piece in enumerate(parts, 1):
        yield "", json.dumps(_candidate(model, piece, is_last=number == len(parts)))


def whole_gemini(model: str, text: str) -> dict[str, Any]:
    """Gemini generateContent."""
    return _candidate(model, text, is_last=True)


def _candidate(model: str, text: str, *, is_last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if is_last:
        candidate["finishReason"] = "STOP"
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": OUTPUT_TOKENS,
            "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
        },
        "modelVersion": model,
        "responseId": "resp_1",
    }


def models(names: tuple[str, ...]) -> dict[str, Any]:
    """The list of models, as OpenAI shapes it."""
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "gateway"} for name in names]
    return {"object": "list", "data": data}
