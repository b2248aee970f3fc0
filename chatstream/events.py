"""What a stream hands out: its deltas as they come, or events by their meaning.

Every event says which choice it is about and when it arrived: ``elapsed`` in
seconds since the call, ``arrived_ns`` on the clock of ``time.perf_counter_ns``.
``coalesced`` says that its bytes came in one read with later ones, so that the
arrival is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import Factory, define, field

from chatstream.collector import CallPieces, ChoiceCollector, MessageCollector
from chatstream.completion import (
    Audio,
    ChatCompletionChunk,
    ChoiceLogprobs,
    Delta,
    ToolCall,
    Usage,
    whole_text,
)
from chatstream.values import Shown


@define(eq=False, repr=False)
class DeltaEvent(Shown):
    """One choice of one chunk, in wire order.

    ``str(event.delta)`` is the delta's JSON. ``content`` may end in half a
    surrogate pair if the server cut it there; ``stream.text()`` never does.
    """

    elapsed: float
    arrived_ns: int
    coalesced: bool
    index: int
    delta: Delta
    content: str | None
    finish_reason: str | None
    chunk: ChatCompletionChunk = field(repr=False)


@define(eq=False, repr=False)
class ChunkEvent(Shown):
    """One chunk, whole, as it came."""

    elapsed: float
    arrived_ns: int
    coalesced: bool
    chunk: ChatCompletionChunk


@define(eq=False, repr=False, kw_only=True)
class _Event(Shown):
    index: int
    """The choice it is about."""
    elapsed: float
    arrived_ns: int
    coalesced: bool


@define(eq=False, repr=False, kw_only=True)
class _TextEvent(_Event):
    delta: str
    """The piece that came."""
    _pieces: Sequence[str] = field(repr=False)
    _count: int = field(repr=False)

    @property
    def text(self) -> str:
        """The text so far, this piece included; joined when asked for."""
        return whole_text("".join(self._pieces[: self._count]))


class ContentDeltaEvent(_TextEvent):
    """A piece of content."""


class ReasoningDeltaEvent(_TextEvent):
    """A piece of reasoning."""


class RefusalDeltaEvent(_TextEvent):
    """A piece of a refusal."""


@define(eq=False, repr=False, kw_only=True)
class _DoneEvent(_Event):
    text: str
    """The whole text."""


class ContentDoneEvent(_DoneEvent):
    """The content is whole."""


class ReasoningDoneEvent(_DoneEvent):
    """The reasoning is whole, or interrupted by other output."""


class RefusalDoneEvent(_DoneEvent):
    """The refusal is whole."""


@define(eq=False, repr=False, kw_only=True)
class ToolCallDeltaEvent(_Event):
    """A piece of a tool call: its first one, or more of its arguments.

    ``call`` is the call's number in the choice, in order of appearance.
    """

    call: int
    id: str | None
    name: str | None
    delta: str
    """The piece of the arguments' JSON text, maybe empty."""
    _pieces: Sequence[str] = field(repr=False)
    _count: int = field(repr=False)

    @property
    def arguments(self) -> str:
        """The arguments' JSON text so far; joined when asked for."""
        return whole_text("".join(self._pieces[: self._count]))

    def partial_arguments(self) -> Any:
        """Return what can be read of the arguments so far, ``{}`` if nothing can.

        Needs the extra ``jiter``.
        """
        try:
            import jiter  # noqa: PLC0415 optional
        except ImportError as error:
            msg = "partial arguments need jiter: pip install 'chatstream-sdk[jiter]'"
            raise ImportError(msg) from error
        try:
            return jiter.from_json(self.arguments.encode(), partial_mode="trailing-strings")
        except ValueError:
            return {}


@define(eq=False, repr=False, kw_only=True)
class ToolCallDoneEvent(_Event):
    """A tool call is whole.

    Told for each call of a choice, in the order of their numbers, at the
    choice's finish reason, or else when the stream ended well. That the next
    call began says nothing: servers may send parallel calls interleaved.
    """

    call: int
    tool_call: ToolCall


@define(eq=False, repr=False, kw_only=True)
class AudioEvent(_Event):
    """A piece of a spoken answer."""

    audio: Audio


@define(eq=False, repr=False, kw_only=True)
class LogprobsEvent(_Event):
    """Log probabilities of the tokens of one chunk."""

    logprobs: ChoiceLogprobs


@define(eq=False, repr=False, kw_only=True)
class FinishEvent(_Event):
    """A choice is finished; ``finish_reason`` says why."""

    finish_reason: str


@define(eq=False, repr=False, kw_only=True)
class UsageEvent(Shown):
    """Token counts; the last one holds."""

    elapsed: float
    arrived_ns: int
    coalesced: bool
    usage: Usage
    chunk: ChatCompletionChunk = field(repr=False)


@define(eq=False, repr=False, kw_only=True)
class OtherEvent(Shown):
    """A chunk with neither choices nor usage, such as a provider's own."""

    elapsed: float
    arrived_ns: int
    coalesced: bool
    chunk: ChatCompletionChunk


StreamEvent = (
    ContentDeltaEvent
    | ContentDoneEvent
    | ReasoningDeltaEvent
    | ReasoningDoneEvent
    | RefusalDeltaEvent
    | RefusalDoneEvent
    | ToolCallDeltaEvent
    | ToolCallDoneEvent
    | AudioEvent
    | LogprobsEvent
    | FinishEvent
    | UsageEvent
    | OtherEvent
)

Item = DeltaEvent | UsageEvent | OtherEvent
"""What a chunk comes as: a delta for each of its choices, then what is about none."""


# --- From deltas to typed events ---------------------------------------------

_TEXTS: tuple[tuple[str, Callable[..., StreamEvent], Callable[..., StreamEvent]], ...] = (
    ("reasoning", ReasoningDeltaEvent, ReasoningDoneEvent),
    ("content", ContentDeltaEvent, ContentDoneEvent),
    ("refusal", RefusalDeltaEvent, RefusalDoneEvent),
)


def chunk_events(
    chunk: ChatCompletionChunk, elapsed: float, arrived_ns: int, *, coalesced: bool
) -> Iterator[UsageEvent | OtherEvent]:
    """Yield the events of a chunk that aren't about one of its choices."""
    if chunk.usage is not None:
        yield UsageEvent(
            elapsed=elapsed,
            arrived_ns=arrived_ns,
            coalesced=coalesced,
            usage=chunk.usage,
            chunk=chunk,
        )
    elif not chunk.choices:
        yield OtherEvent(elapsed=elapsed, arrived_ns=arrived_ns, coalesced=coalesced, chunk=chunk)


@define
class _OpenChoice:
    """What of a choice has begun and isn't done."""

    at: DeltaEvent
    texts: set[str] = Factory(set)
    calls: dict[int, CallPieces] = Factory(dict)
    """By identity: the old ``function_call`` is numbered 0, like the first tool call."""


class EventTranslator:
    """Turns deltas into typed events, with the help of the collected answer.

    Give it each delta after the collector took its chunk.
    """

    def __init__(self, collector: MessageCollector) -> None:
        self._collector = collector
        self._open: dict[int, _OpenChoice] = {}

    def delta(self, event: DeltaEvent) -> Iterator[StreamEvent]:
        """Yield the events of one choice's delta."""
        index, delta = event.index, event.delta
        choice = self._collector.choice(index)
        state = self._open.get(index)
        if state is None:
            state = self._open[index] = _OpenChoice(event)
        state.at = event
        where = _where(event)
        if delta.bears_output and "reasoning" in state.texts:
            yield from self._text_done(state, choice, "reasoning")
        for name, made, _ in _TEXTS:
            piece = getattr(delta, name)
            if piece:
                state.texts.add(name)
                pieces = getattr(choice, name)
                yield made(**where, delta=piece, pieces=pieces, count=len(pieces))
        for cause, call, piece in self._collector.touched_calls:
            if cause is not delta:
                continue
            state.calls[id(call)] = call
            yield ToolCallDeltaEvent(
                **where,
                call=call.number,
                id=call.id,
                name=call.name,
                delta=piece or "",
                pieces=call.pieces,
                count=len(call.pieces),
            )
        if delta.audio is not None:
            yield AudioEvent(**where, audio=delta.audio)
        for part in event.chunk.choices:
            if part.delta is delta and part.logprobs is not None:
                yield LogprobsEvent(**where, logprobs=part.logprobs)
        if event.finish_reason is not None:
            yield from self._done(state, choice)
            yield FinishEvent(**where, finish_reason=event.finish_reason)

    def end(self) -> Iterator[StreamEvent]:
        """Yield what is done now that the stream ended well."""
        for index, state in sorted(self._open.items()):
            yield from self._done(state, self._collector.choice(index))

    def _done(self, state: _OpenChoice, choice: ChoiceCollector) -> Iterator[StreamEvent]:
        for name, _, _ in _TEXTS:
            if name in state.texts:
                yield from self._text_done(state, choice, name)
        calls = sorted(state.calls.values(), key=lambda call: call.number)
        state.calls.clear()
        for call in calls:
            yield ToolCallDoneEvent(**_where(state.at), call=call.number, tool_call=call.joined())

    def _text_done(
        self, state: _OpenChoice, choice: ChoiceCollector, name: str
    ) -> Iterator[StreamEvent]:
        state.texts.discard(name)
        made = next(done for kind, _, done in _TEXTS if kind == name)
        yield made(**_where(state.at), text=whole_text("".join(getattr(choice, name))))


def _where(event: DeltaEvent) -> dict[str, Any]:
    return {
        "index": event.index,
        "elapsed": event.elapsed,
        "arrived_ns": event.arrived_ns,
        "coalesced": event.coalesced,
    }
