"""Reassembles answers of 1,000 and of 100,000 deltas: ``python -m benchmarks.reassembly``.

From the JSON text of each chunk to the whole, as in a stream, where a chunk is made,
collected and gone. The collector alone, over chunks that all lie ready, is told too:
100,000 of them don't fit the processor's cache, which that figure then measures.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.server import pin
from chatstream import ChatCompletionChunk, MessageCollector
from chatstream.codec import load_object, read_chunk

FEW, MANY = 1_000, 100_000


def wires(deltas: int) -> tuple[list[str], str]:
    """Return the chunks of an answer as JSON, and its text."""
    texts = [f"{number}, " for number in range(deltas)]
    head = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    return [
        f'{head}[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}'
        for text in texts
    ], "".join(texts)


def read(wire: str) -> ChatCompletionChunk:
    """Make a chunk of its JSON."""
    return read_chunk(load_object(wire))


def ready(chunk: ChatCompletionChunk) -> ChatCompletionChunk:
    """Take the chunk as it is."""
    return chunk


def measure(pieces: Sequence[Any], chunk_of: Callable[[Any], Any], text: str, runs: int) -> float:
    """Return the median µs per delta."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        collector = MessageCollector()
        for piece in pieces:
            collector.add(chunk_of(piece))
        completion = collector.completion()
        times.append(time.perf_counter() - start)
        if completion.text != text:
            msg = "the text isn't what was sent"
            raise ValueError(msg)
    return statistics.median(times) / len(pieces) * 1e6


def main() -> None:
    """Print the figures as JSON."""
    pin(-1)
    figures = {}
    for name, deltas, runs in (("few", FEW, 100), ("many", MANY, 3)):
        pieces, text = wires(deltas)
        figures[name] = measure(pieces, read, text, runs)
        chunks = [read(piece) for piece in pieces]
        figures[f"collecting_{name}"] = measure(chunks, ready, text, runs)
    figures["growth"] = figures["many"] * MANY / (figures["few"] * FEW)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
