"""Streams of several shapes, each with what a right reader makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

EVENTS = 500
READ = 16 * 1024
"""Bytes in one read; its ends fall anywhere, also inside a character."""


@dataclass(frozen=True)
class Shape:
    """One stream: its bytes, and what they say."""

    name: str
    body: bytes
    data: tuple[str, ...]
    """Each event's data, ``[DONE]`` not among them."""
    comments: int
    texts: tuple[str, ...]
    """The content of each choice."""
    arguments: tuple[str, ...]
    """The arguments of each tool call of the first choice."""
    logprobs: int
    """Tokens with log probabilities in the first choice."""

    @property
    def reads(self) -> list[bytes]:
        """The body as the network may give it."""
        return [self.body[at : at + READ] for at in range(0, len(self.body), READ)]


def _chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": list(choices),
        "usage": None,
    }


def _choice(index: int = 0, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _texts(piece: Callable[[int], str]) -> Iterator[dict[str, Any]]:
    return (_chunk(_choice(content=piece(number))) for number in range(EVENTS))


def _tool_calls() -> Iterator[dict[str, Any]]:
    per_call = EVENTS // 5
    for number in range(EVENTS):
        call, piece = divmod(number, per_call)
        part: dict[str, Any] = {"index": call, "function": {"arguments": f'{{"k{piece}": '}}
        if piece == 0:
            part |= {"id": f"call_{call}", "type": "function"}
            part["function"]["name"] = "look_up"
        yield _chunk(_choice(tool_calls=[part]))


def _logprobs() -> Iterator[dict[str, Any]]:
    for number in range(EVENTS):
        entries = [
            {"token": f" {number}-{place}", "logprob": -0.1 - place, "bytes": [32, 49, 45, 50]}
            for place in range(5)
        ]
        scored = {"content": [{**entries[0], "top_logprobs": entries}], "refusal": None}
        yield _chunk(_choice(logprobs=scored, content=f" {number}"))


def _many_choices() -> Iterator[dict[str, Any]]:
    for number in range(EVENTS):
        yield _chunk(*(_choice(index, content=f"{index}:{number} ") for index in range(8)))


def _shape(
    name: str,
    chunks: Iterable[dict[str, Any]],
    *,
    line_end: str = "\n",
    comment: str = "",
    escaped: bool = False,
) -> Shape:
    """Write the chunks out, and tell by the standard library's means what they say."""
    read = list(chunks)
    data = [json.dumps(c, separators=(",", ":"), ensure_ascii=escaped) for c in read]
    texts: dict[int, str] = {}
    arguments: dict[int, str] = {}
    logprobs = 0
    for choice in (choice for chunk in read for choice in chunk["choices"]):
        index, delta = choice["index"], choice["delta"]
        texts[index] = texts.get(index, "") + delta.get("content", "")
        for call in delta.get("tool_calls", ()):
            place = call["index"]
            arguments[place] = arguments.get(place, "") + call["function"]["arguments"]
        logprobs += bool(choice["logprobs"])
    before = f": {comment}{line_end * 2}" if comment else ""
    events = [f"{before}data: {text}{line_end * 2}" for text in (*data, "[DONE]")]
    return Shape(
        name,
        "".join(events).encode(),
        tuple(data),
        len(events) if comment else 0,
        tuple(texts.values()),
        tuple(arguments.values()),
        logprobs,
    )


def _all() -> Iterator[Shape]:
    yield _shape("tiny", _texts(str))
    yield _shape("big", _texts(lambda number: f"{number:08d} word" * 300))
    yield _shape("tool calls", _tool_calls())
    yield _shape("logprobs", _logprobs())
    yield _shape("many choices", _many_choices())
    yield _shape("comments", _texts(str), comment="keep-alive")
    yield _shape("crlf", _texts(str), line_end="\r\n")
    yield _shape("multibyte", _texts(lambda number: f"{number} Grüße 你好 🙂 "))
    yield _shape("escaped", _texts(lambda number: f'{number} "你好"\n\t🙂'), escaped=True)


SHAPES = tuple(_all())
