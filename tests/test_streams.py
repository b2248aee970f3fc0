"""Streams as real servers send them, read as they should be."""

import json
from pathlib import Path

import pytest

from chatstream import ChatStreamError, DecodeError, RetryPolicy, UpstreamError
from chatstream.codec import load_object, read_chunk
from chatstream.sse import SSEParser
from chatstream.stream import ChatStream
from chatstream.testing.clock import FakeClock
from chatstream.testing.scripted import Scripted

STREAMS = Path(__file__).parent / "streams"
NAMES = sorted(path.stem for path in STREAMS.glob("*.sse"))


async def read(body: bytes, *, choices: int = 1, size: int | None = None):
    """Run *body* through a stream, cut into reads of *size* bytes."""
    clock = FakeClock()
    cuts = range(0, len(body), size or len(body) or 1)
    steps = tuple((0.001, body[at : at + (size or len(body))]) for at in cuts)
    source = Scripted(clock, steps, choices=choices)
    stream = ChatStream(source, clock=clock, call_later=clock.call_later, retry=RetryPolicy(1))
    error = None
    try:
        async with stream:
            await stream.collect()
    except ChatStreamError as caught:
        error = caught
    return stream, error


def summary(stream, error):
    """What the corpus' files say of a stream."""
    completion = stream.completion
    choices = []
    for choice in completion.choices:
        message = choice.message
        calls = [
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in message.tool_calls or ()
        ]
        found = {
            "index": choice.index,
            "content": message.content,
            "reasoning": message.reasoning,
            "refusal": message.refusal,
            "finish_reason": choice.finish_reason,
            "tool_calls": calls,
        }
        choices.append({k: v for k, v in found.items() if v not in (None, "", [])})
    usage = completion.usage
    return {
        "verdict": str(stream.verdict),
        "done": stream.report.done,
        "choices": choices,
        "usage": None
        if usage is None
        else {
            name: getattr(usage, name)
            for name in ("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens")
            if getattr(usage, name) is not None
        },
        "id": completion.id,
        "model": completion.model,
        "tokens": stream.report.token_events,
        "error": {"code": error.code, "type": error.type, "message": error.message}
        if isinstance(error, UpstreamError)
        else {"path": error.path}
        if isinstance(error, DecodeError)
        else None,
    }


def expected(name):
    want = json.loads((STREAMS / f"{name}.json").read_text())
    want["choices"] = [
        {k: v for k, v in choice.items() if v not in (None, "", [])} for choice in want["choices"]
    ]
    del want["seen"], want["first_token"]
    return want


def asked_choices(name):
    return len(json.loads((STREAMS / f"{name}.json").read_text())["choices"]) or 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [None, 1, 7], ids=["whole", "bytewise", "by 7"])
async def test_a_recorded_stream_is_read_whole(name, size):
    body = (STREAMS / f"{name}.sse").read_bytes()

    stream, error = await read(body, choices=asked_choices(name), size=size)

    assert expected(name) == summary(stream, error)


def first_token(body):
    """Which of the events that are JSON objects is the first with a token, from 0."""
    place = -1
    for event in SSEParser().feed(body):
        try:
            raw = load_object(event.data)
            place += 1
            if any(choice.delta.bears_token for choice in read_chunk(raw).choices):
                return place
        except DecodeError:
            continue
    return None


@pytest.mark.parametrize("name", NAMES)
def test_the_first_token_is_found(name):
    """
    Roles, prompt filters, pings and empty deltas come before it and don't count.
    """
    want = json.loads((STREAMS / f"{name}.json").read_text())["first_token"]

    assert want == first_token((STREAMS / f"{name}.sse").read_bytes())
