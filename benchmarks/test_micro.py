"""Parser, codec and collector alone, over streams of several shapes.

``pytest benchmarks/test_micro.py``; each time is that of a whole stream of 500 events.
"""

# ruff: noqa: S101 these are tests too

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.shapes import SHAPES, Shape
from chatstream import ChatCompletion, ChatCompletionChunk, MessageCollector
from chatstream.codec import load_object, read_chunk
from chatstream.sse import ServerSentEvent, SSEParser

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def parse(reads: list[bytes]) -> tuple[list[ServerSentEvent], int]:
    """Return all events, and the number of comments."""
    parser = SSEParser()
    events = [event for read in reads for event in parser.feed(read)]
    return events, parser.comments


def decode(data: tuple[str, ...]) -> list[ChatCompletionChunk]:
    """Return a chunk for each text."""
    return [read_chunk(load_object(text)) for text in data]


def collect(chunks: list[ChatCompletionChunk]) -> ChatCompletion:
    """Return the whole answer."""
    collector = MessageCollector()
    for chunk in chunks:
        collector.add(chunk)
    return collector.completion()


def check(shape: Shape, completion: ChatCompletion) -> None:
    """Assert that *completion* says what the shape says."""
    first = completion.choices[0]
    calls = first.message.tool_calls or ()
    scored = first.logprobs.content if first.logprobs else ()
    texts = tuple(choice.message.content or "" for choice in completion.choices)

    assert shape.texts == texts
    assert shape.arguments == tuple(call.function.arguments for call in calls if call.function)
    assert shape.logprobs == len(scored or ())


@each_shape
def test_parser(shape: Shape, benchmark: Any) -> None:
    """Bytes to events."""
    events, comments = parse(shape.reads)

    assert [*shape.data, "[DONE]"] == [event.data for event in events]
    assert shape.comments == comments

    benchmark.group = "parser"
    benchmark(parse, shape.reads)


@each_shape
def test_codec(shape: Shape, benchmark: Any) -> None:
    """Events to chunks."""
    check(shape, collect(decode(shape.data)))

    benchmark.group = "codec"
    benchmark(decode, shape.data)


@each_shape
def test_collector(shape: Shape, benchmark: Any) -> None:
    """Chunks to the whole answer."""
    chunks = decode(shape.data)
    check(shape, collect(chunks))

    benchmark.group = "collector"
    benchmark(collect, chunks)
