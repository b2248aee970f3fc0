"""What a browser gets: chunks of a stream as frames of one, in one of two formats.

:class:`OpenAIFormat` is what OpenAI's own API sends, for clients that know it.
:class:`TextFormat` is the least that a chat page needs: events named ``delta``, ``done``
and ``error``, each with a JSON object.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import orjson

from chatstream.codec import to_dict
from chatstream.completion import ChatCompletionChunk
from chatstream.relay.refusals import Refusal
from chatstream.report import StreamReport

HEARTBEAT = b": keep-alive\n\n"
"""A comment, which any reader of an event stream skips."""


class Format(Protocol):
    """How chunks are written down; each method returns whole frames, or nothing."""

    def chunk(self, chunk: ChatCompletionChunk) -> bytes:
        """Return what a chunk brought."""

    def end(self, report: StreamReport) -> bytes:
        """Return what tells that the answer is over, and how."""

    def error(self, refusal: Refusal) -> bytes:
        """Return what tells that the answer broke off."""


class OpenAIFormat:
    """``data: {chunk}`` for each chunk as it came, then ``data: [DONE]``.

    An error inside of a stream is ``data: {"error": …}``, as OpenAI's own is; no
    ``[DONE]`` follows it.
    """

    def chunk(self, chunk: ChatCompletionChunk) -> bytes:
        """Return the chunk with all that its server put in."""
        choices = [
            # As it came: also what is null, or half a surrogate pair. Clients want the
            # finish reason also where a server left it out.
            {"finish_reason": None, **to_dict(choice), "delta": choice.delta.wire}
            for choice in chunk.choices
        ]
        return _frame({**to_dict(chunk.envelope), "choices": choices})

    def end(self, report: StreamReport) -> bytes:  # noqa: ARG002 it has no place there
        """Return the sign of the end."""
        return b"data: [DONE]\n\n"

    def error(self, refusal: Refusal) -> bytes:
        """Return the error object."""
        return _frame(refusal.body)


class TextFormat:
    """Events for a page that shows one answer.

    ========= ===============================================================
    ``delta`` ``text`` and ``reasoning``: what was added, one or both
    ``done``  ``verdict``, ``time_to_first_token`` and ``duration`` in seconds,
              ``completion_tokens``; what isn't known is left out
    ``error`` ``message``, for people; ``retry_after`` in seconds, if known
    ========= ===============================================================

    Of several choices it shows the first; what was refused is text, too.
    """

    def chunk(self, chunk: ChatCompletionChunk) -> bytes:
        """Return what the first choice said or thought."""
        text = reasoning = ""
        for choice in chunk.choices:
            if choice.index == 0:
                text += (choice.delta.content or "") + (choice.delta.refusal or "")
                reasoning += choice.delta.reasoning or ""
        added = {"text": text, "reasoning": reasoning}
        said = {name: words for name, words in added.items() if words}
        return _frame(said, "delta") if said else b""

    def end(self, report: StreamReport) -> bytes:
        """Return how the answer ended, and how long it took."""
        told = {
            "verdict": report.verdict.value,
            "time_to_first_token": report.time_to_first_token,
            "duration": report.duration,
            "completion_tokens": report.completion_tokens,
        }
        return _frame({name: value for name, value in told.items() if value is not None}, "done")

    def error(self, refusal: Refusal) -> bytes:
        """Return what went wrong, for people."""
        told: dict[str, Any] = {"message": refusal.message}
        if refusal.retry_after is not None:
            told["retry_after"] = refusal.retry_after
        return _frame(told, "error")


OPENAI = OpenAIFormat()
TEXT = TextFormat()


def _frame(value: dict[str, Any], event: str | None = None) -> bytes:
    """Return a frame of an event stream. JSON has no line ends in it, so one line will do."""
    try:
        data = orjson.dumps(value)
    except TypeError:  # half a surrogate pair; the other half may come in the next chunk
        data = json.dumps(value).encode("ascii")
    name = b"" if event is None else b"event: %b\n" % event.encode("ascii")
    return b"%bdata: %b\n\n" % (name, data)
