"""An answer as the JSON that goes on the wire.

What depends on the request alone is rendered once and may serve many
responses: a ``Script``. What differs between responses (id, time, the stamp
of the write) goes around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import orjson
from attrs import frozen

from chatstream.testing.answers import Answer, Choice, ToolCall
from chatstream.testing.profile import Profile

FINGERPRINT = "fp_simulated"


@frozen(eq=False)
class Script:
    """The part of each event that is the same whoever asked, in wire order."""

    model: str
    parts: tuple[bytes, ...]
    """``"choices":[…],"usage":…`` of each event, or of the one body."""

    slots: tuple[int, ...]
    """When each is due: -1 with the role, *k* with the token chunk *k*."""

    opening: int
    """So many parts, at the start, carry roles."""

    closing: int
    """From this part on, all belong to the last write."""


def streamed(answer: Answer, body: Mapping[str, Any], profile: Profile) -> Script:
    """*answer* in chunks."""
    options = body.get("stream_options") or {}
    wants_usage = bool(options.get("include_usage"))
    running = bool(options.get("continuous_usage_stats"))
    null_usage = b',"usage":null' if wants_usage else b""
    parts: list[bytes] = []
    slots: list[int] = []
    spent = 0

    def add(slot: int, choice: Mapping[str, Any], tokens: int = 0) -> None:
        nonlocal spent
        spent += tokens
        part = b'"choices":[%b]' % orjson.dumps(choice)
        part += b',"usage":%b' % _usage(answer, spent) if running else null_usage
        parts.append(_padded(part, profile.payload_bytes))
        slots.append(slot)

    for index in range(len(answer.choices)):
        add(-1, _chunk(index, {"role": "assistant"}))
    deltas = [_deltas(choice, profile) for choice in answer.choices]
    for slot, row in enumerate(zip_longest(*deltas)):
        for index, cell in enumerate(row):
            if cell is not None:
                delta, logprobs, finish_reason, tokens = cell
                add(slot, _chunk(index, delta, logprobs, finish_reason), tokens)
    closing = slots.index(slots[-1])
    if wants_usage:
        usage = b'"choices":[],"usage":%b' % _usage(answer, answer.completion_tokens)
        parts.append(_padded(usage, profile.payload_bytes))
        slots.append(slots[-1])
    return Script(body["model"], tuple(parts), tuple(slots), len(answer.choices), closing)


def whole(answer: Answer, body: Mapping[str, Any], profile: Profile) -> Script:
    """*answer* in one piece, due when its last chunk would be."""
    choices = [
        {
            "index": index,
            "message": _message(choice, profile),
            "logprobs": _logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(answer.choices)
    ]
    usage = _usage(answer, answer.completion_tokens)
    part = b'"choices":%b,"usage":%b' % (orjson.dumps(choices), usage)
    slot = max(sum(1 for _ in _deltas(choice, profile)) for choice in answer.choices) - 1
    return Script(body["model"], (part,), (slot,), 0, 0)


def envelope(script: Script, kind: str, response_id: str, created: int) -> bytes:
    """Render the start of each event's JSON, up to ``choices``."""
    fields = {
        "id": response_id,
        "object": kind,
        "created": created,
        "model": script.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    return orjson.dumps(fields)[:-1] + b","


def stamp(sent_ns: int) -> bytes:
    """``"sent_ns"`` as a last field; its length is always the same."""
    return b',"sent_ns":%19d' % sent_ns


_Cell = tuple[dict[str, Any], dict[str, Any] | None, str | None, int]


def _deltas(choice: Choice, profile: Profile) -> Iterator[_Cell]:
    """Delta, logprobs, finish reason, tokens of each chunk after the role's."""
    size = profile.chunk_tokens
    for start in range(0, len(choice.reasoning), size):
        tokens = choice.reasoning[start : start + size]
        yield {profile.reasoning_field: "".join(tokens)}, None, None, len(tokens)
    for start in range(0, len(choice.content), size):
        tokens = choice.content[start : start + size]
        scores = choice.logprobs[start : start + size] if choice.logprobs else None
        yield {"content": "".join(tokens)}, _logprobs(scores), None, len(tokens)
    for index, call in enumerate(choice.tool_calls):
        yield {"tool_calls": [{"index": index, **_call(call, "")}]}, None, None, 1
        for start in range(0, len(call.arguments), size):
            tokens = call.arguments[start : start + size]
            update = {"index": index, "function": {"arguments": "".join(tokens)}}
            yield {"tool_calls": [update]}, None, None, len(tokens)
    yield {}, None, choice.finish_reason, 0


def _chunk(
    index: int,
    delta: dict[str, Any],
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _message(choice: Choice, profile: Profile) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if choice.tool_calls else "".join(choice.content),
        "refusal": None,
        "annotations": [],
    }
    if choice.reasoning:
        message[profile.reasoning_field] = "".join(choice.reasoning)
    if choice.tool_calls:
        message["tool_calls"] = [_call(call, "".join(call.arguments)) for call in choice.tool_calls]
    return message


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(scores: tuple[dict[str, Any], ...] | None) -> dict[str, Any] | None:
    return None if scores is None else {"content": scores, "refusal": None}


def _usage(answer: Answer, spent: int) -> bytes:
    details = {
        "reasoning_tokens": min(answer.reasoning_tokens, spent),
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    return orjson.dumps(
        {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": spent,
            "total_tokens": answer.prompt_tokens + spent,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": details,
        }
    )


def _padded(part: bytes, size: int) -> bytes:
    missing = size - len(part)
    if missing <= 0:
        return part
    return part + b',"obfuscation":"%b"' % (b"x" * max(missing - len(b',"obfuscation":""'), 0))
