"""One request of a run as raw moments: a line of ``requests.jsonl``.

Moments are integer nanoseconds since the run began, on the clock of the worker that
made the request; latencies are derived from them by whoever reads the log. What wasn't
observed is left out.
"""

from __future__ import annotations

from array import array
from typing import Any

import orjson
from attrs import Factory, define, field, fields

from chatstream.completion import Delta

VERSION = 1
"""Of a line; a reader refuses others."""

KINDS = {
    "c": "content",
    "r": "reasoning",
    "x": "refusal",
    "t": "a tool call's name or arguments",
    "a": "audio",
    "e": "an empty content and no role: a token that gave no text",
    "f": "a finish reason, and no token",
    "-": "a role, or nothing",
}
"""What an event brought, by the letter that stands for it in ``kinds``."""

TOKENS = "crxta"
"""The kinds that bear tokens."""

OUTPUT = "cxta"
"""Those of them that aren't reasoning."""

NOT_ATTEMPTED = "not_attempted"
"""The outcome of a request that was planned and never made."""


@define(eq=False, kw_only=True)
class RequestRecord:
    """What one request was like."""

    number: int
    """Its place in the plan; the same plan asks the same under the same number."""
    turn: int = 0
    """Its place in the conversation *number*."""
    turns_left: int = 0
    """Turns of its conversation that weren't made, because this one failed."""
    target: int = 0
    stage: int = 0
    """Its load's place in a sweep."""
    worker: int = 0
    warmup: bool = False
    """Made to warm up: in no figure."""

    scheduled_ns: int
    """When the plan wanted it: its arrival time, or when its slot became free."""
    created_ns: int
    acquired_ns: int | None = None
    """A connection was at hand."""
    gate_passed_ns: int | None = None
    sent_ns: int | None = None
    """The kernel had the whole request."""
    headers_ns: int | None = None
    first_byte_ns: int | None = None
    first_chunk_ns: int | None = None
    """The first data event of any kind."""
    end_ns: int
    """The stream was over, however it ended."""
    reused: bool | None = None
    """Whether the connection had served before."""

    arrivals_ns: array[int] = field(factory=lambda: array("q"))
    """One for each choice of each chunk, in wire order."""
    kinds: str = ""
    """A letter of :data:`KINDS` for each of them."""
    choices: list[int] = Factory(list)
    """The choice each is about; empty if all are about choice 0."""
    coalesced: list[int] = Factory(list)
    """The places of those that came in one read with later bytes."""
    tokens: list[int] = Factory(list)
    """The server's count of completion tokens up to each, where it counts along."""
    truth_ns: array[int] = field(factory=lambda: array("q"))
    """When a truth server sent each, on the same clock."""

    verdict: str
    """A :class:`~chatstream.Verdict`."""
    error: str | None = None
    """The class of the error it ended with."""
    detail: str | None = None
    """That error's sentence."""
    status: int | None = None
    attempts: int = 1
    request_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    source: str | None = None
    """Who told the arrivals: ``kernel``, ``transport`` or ``reader``."""
    paused: float = 0.0
    """Seconds in which reading had stopped because we were slow."""
    text: str | None = None
    """The first choice's text, if the plan keeps it."""

    def to_line(self) -> bytes:
        """Return it as a line of JSON; what is ``None`` or empty is left out.

        So is what it seldom has, where it hasn't: a warm-up, turns left.
        """
        line: dict[str, Any] = {"v": VERSION}
        for name in _NAMES:
            value = getattr(self, name)
            if isinstance(value, array):
                value = value.tolist()
            if value is not None and value not in ("", []) and (value or name not in _SELDOM):
                line[name] = value
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


_SELDOM = ("warmup", "turns_left")
_NAMES = tuple(each.name for each in fields(RequestRecord))


def kind_of(delta: Delta, finish_reason: str | None) -> str:
    """Return the letter for what one choice of a chunk brought."""
    if delta.content:
        return "c"
    if not delta.bears_token:
        if delta.content == "" and "role" not in delta.wire:
            return "e"
        return "f" if finish_reason is not None else "-"
    if not delta.bears_output:
        return "r"
    if delta.refusal:
        return "x"
    if delta.audio is not None and (delta.audio.data or delta.audio.transcript):
        return "a"
    return "t"
