"""What a browser gets: chunks of a stream as frames of one, in one of two formats.

:class:`OpenAIFormat` is what OpenAI's own API sends, for clients that know it.
:class:`TextFormat` is the least that a chat page needs: events named ``delta``, ``done``
and ``error``, each with a JSON object.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import orjson
from attrs import fields, frozen

from chatstream.codec import to_dict
from chatstream.completion import ChatCompletionChunk, ChunkChoice, Envelope, Verdict
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


@frozen(kw_only=True)
class OpenAIFormat:
    """``data: {chunk}`` for each chunk as it came, then ``data: [DONE]``.

    An error inside of a stream is ``data: {"error": …}``, as OpenAI's own is; no
    ``[DONE]`` follows it. An answer that was stopped before its end is such an error,
    too: the format has no other word for it, and it mustn't look whole.
    """

    usage: bool = True
    """Whether token counts are told. They come in a chunk without choices, which clients
    who didn't ask for it (``stream_options.include_usage``) may not expect."""

    def chunk(self, chunk: ChatCompletionChunk) -> bytes:
        """Return the chunk with all that its server put in."""
        told = _around(chunk.envelope)
        if not self.usage and told.pop("usage", None) is not None and not chunk.choices:
            return b""
        told["choices"] = [_choice(choice) for choice in chunk.choices]
        return _frame(told)

    def end(self, report: StreamReport) -> bytes:
        """Return the sign of the end."""
        return self.error(STOPPED) if report.verdict is Verdict.CLOSED else b"data: [DONE]\n\n"

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

STOPPED = Refusal(status=503, message="the answer was stopped", type="server_error", code="stopped")

_PLAIN = [
    field.name for field in fields(Envelope) if field.name not in {"usage", "moderation", "extra"}
]


def _around(envelope: Envelope) -> dict[str, Any]:
    """Return what a chunk holds besides its choices.

    Written out, as the next one is: for each chunk, ``to_dict`` takes four times as long.
    """
    told = dict(envelope.extra)
    for name in _PLAIN:
        value = getattr(envelope, name)
        if value is not None:
            told[name] = value
    if envelope.usage is not None:
        told["usage"] = to_dict(envelope.usage)
    if envelope.moderation is not None:
        told["moderation"] = to_dict(envelope.moderation)
    return told


def _choice(choice: ChunkChoice) -> dict[str, Any]:
    """Return a choice as it came: also what is null, or half a surrogate pair.

    Clients want the finish reason also where a server left it out.
    """
    told = {
        **choice.extra,
        "index": choice.index,
        "delta": choice.delta.wire,
        "finish_reason": choice.finish_reason,
    }
    if choice.logprobs is not None:
        told["logprobs"] = to_dict(choice.logprobs)
    return told


def _frame(value: dict[str, Any], event: str | None = None) -> bytes:
    """Return a frame of an event stream. JSON has no line ends in it, so one line will do."""
    try:
        data = orjson.dumps(value)
    except TypeError:  # half a surrogate pair; the other half may come in the next chunk
        data = json.dumps(value).encode("ascii")
    name = b"" if event is None else b"event: %b\n" % event.encode("ascii")
    return b"%bdata: %b\n\n" % (name, data)
