"""Chunks in, the whole completion out.

The collector keeps pieces in lists and joins them when asked, so that a stream
of any length costs time linear in it. It is pure: no clock, no socket.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, define

from chatstream.completion import (
    Audio,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionChoice,
    CustomToolCall,
    Delta,
    FunctionCall,
    Message,
    Moderation,
    TokenLogprob,
    ToolCall,
    ToolCallChunk,
    Usage,
    Verdict,
    verdict_of,
    whole_text,
)


class MessageCollector:
    """Reassembles the answer from the chunks of one stream.

    ``expected_choices`` is the request's ``n``: an answer with fewer choices is
    a cut one, unless the stream said ``[DONE]``.

    >>> from chatstream.codec import load_object, read_chunk
    >>> collector = MessageCollector()
    >>> for text in ("Hel", "lo"):
    ...     wire = '{"choices": [{"index": 0, "delta": {"content": "%s"}}]}' % text
    ...     collector.add(read_chunk(load_object(wire)))
    >>> collector.completion().text
    'Hello'
    """

    def __init__(self, *, expected_choices: int = 1) -> None:
        self.expected_choices = expected_choices
        self.done = False
        """Whether the stream said ``[DONE]``; whoever reads it sets this."""
        self.late_content = False
        """Whether a choice went on after its finish reason."""
        self.touched_calls: list[tuple[Delta, CallPieces, str | None]] = []
        """The calls that the last chunk added to, with what it added in which delta."""
        self._choices: dict[int, ChoiceCollector] = {}
        self._id: str | None = None
        self._model: str | None = None
        self._created: int | None = None
        self._usage: Usage | None = None
        self._service_tier: str | None = None
        self._system_fingerprint: str | None = None
        self._moderation: Moderation | None = None
        self._extra: dict[str, Any] = {}

    @property
    def usage(self) -> Usage | None:
        """The last token counts the server reported."""
        return self._usage

    @property
    def model(self) -> str | None:
        """The model's name as the server gave it."""
        return self._model

    @property
    def id(self) -> str | None:
        """The completion's id; some servers change it per chunk: the first."""
        return self._id

    @property
    def finish_reasons(self) -> list[str | None]:
        """Each choice's finish reason so far, in the order of the choices."""
        return list(self.finish_reasons_by_index.values())

    @property
    def finish_reasons_by_index(self) -> dict[int, str | None]:
        """The finish reasons so far by choice."""
        return {index: c.finish_reason for index, c in sorted(self._choices.items())}

    @property
    def all_finished(self) -> bool:
        """Whether each choice that was asked for said why it ended, or ``[DONE]`` came."""
        reasons = self.finish_reasons
        return self.done or (len(reasons) >= self.expected_choices and None not in reasons)

    @property
    def verdict(self) -> Verdict:
        """How the answer ended, as far as its chunks tell."""
        missing = max(0, self.expected_choices - len(self._choices))
        reasons = self.finish_reasons + [None] * missing
        return verdict_of(reasons, done=self.done)

    def choice(self, index: int) -> ChoiceCollector:
        """Return what has come of one choice."""
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = ChoiceCollector(self.touched_calls)
        return choice

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take the next chunk of the stream."""
        if self.touched_calls:
            self.touched_calls.clear()
        for part in chunk.choices:
            choice = self._choices.get(part.index) or self.choice(part.index)
            if choice.finish_reason is not None and part.delta.bears_token:
                self.late_content = True
            choice.add(part)
        # Ids, models and dates that change on the way mean nothing: the first
        # that says something counts.
        if self._id is None or self._model is None or self._created is None:
            self._id = self._id or chunk.id or None
            self._model = self._model or chunk.model or None
            self._created = self._created or chunk.created
        if chunk.usage is not None:
            self._usage = chunk.usage  # counts are cumulative: the last one holds
        if chunk.system_fingerprint is not None:
            self._system_fingerprint = chunk.system_fingerprint
        if chunk.service_tier is not None:
            self._service_tier = chunk.service_tier
        if chunk.moderation is not None:
            self._moderation = chunk.moderation
        if chunk.extra:
            self._extra.update(_known(chunk.extra))

    def completion(self) -> ChatCompletion:
        """Return the answer so far; its ``verdict`` tells whether it is whole."""
        return ChatCompletion(
            id=self._id,
            choices=tuple(
                choice.completion(index) for index, choice in sorted(self._choices.items())
            ),
            created=self._created,
            model=self._model,
            usage=self._usage,
            service_tier=self._service_tier,
            system_fingerprint=self._system_fingerprint,
            moderation=self._moderation,
            extra=dict(self._extra),
            verdict=self.verdict,
        )


class ChoiceCollector:
    """What has come of one choice. The lists hold pieces, in order."""

    __slots__ = (
        "_audio",
        "_choice_extra",
        "_extra",
        "_function_call",
        "_logprobs",
        "_reasoning_details",
        "_role",
        "_touched_calls",
        "content",
        "finish_reason",
        "reasoning",
        "refusal",
        "tool_calls",
    )

    def __init__(self, touched_calls: list[tuple[Delta, CallPieces, str | None]]) -> None:
        self._touched_calls = touched_calls
        # None until the field comes: an empty text isn't an absent one.
        self.content: list[str] | None = None
        self.reasoning: list[str] | None = None
        self.refusal: list[str] | None = None
        self.tool_calls = ToolCallCollector()
        self.finish_reason: str | None = None
        self._role: str | None = None
        self._function_call: CallPieces | None = None
        self._audio: _AudioPieces | None = None
        self._logprobs: _LogprobPieces | None = None
        self._reasoning_details: list[Any] | None = None
        self._extra: dict[str, Any] = {}
        self._choice_extra: dict[str, Any] = {}

    def add(self, part: ChunkChoice) -> None:
        """Take this choice's part of the next chunk."""
        delta = part.delta
        content = delta.content
        if content is not None:
            if self.content is None:
                self.content = [content]
            else:
                self.content.append(content)
        if part.finish_reason is not None:
            self.finish_reason = part.finish_reason
        if part.logprobs is not None:
            self._logprobs = self._logprobs or _LogprobPieces()
            self._logprobs.add(part.logprobs)
        if part.extra:
            self._choice_extra.update(_known(part.extra))
        if content is None or len(delta.wire) != 1 or type(delta.wire["content"]) is not str:
            self._add_rest(delta)

    def _add_rest(self, delta: Delta) -> None:
        """Take everything but the content, which most deltas are nothing beside."""
        self._role = self._role or delta.role
        if delta.reasoning is not None:
            self.reasoning = self.reasoning or []
            self.reasoning.append(delta.reasoning)
        if delta.refusal is not None:
            self.refusal = self.refusal or []
            self.refusal.append(delta.refusal)
        for piece in delta.tool_calls or ():
            self._touched_calls.append((delta, *self.tool_calls.add(piece)))
        if (function := delta.function_call) is not None:
            call = self._function_call = self._function_call or CallPieces()
            call.add(function.name, function.arguments)
            self._touched_calls.append((delta, call, function.arguments))
        if delta.audio is not None:
            self._audio = self._audio or _AudioPieces()
            self._audio.add(delta.audio)
        if delta.reasoning_details is not None:
            self._reasoning_details = self._reasoning_details or []
            self._reasoning_details.extend(delta.reasoning_details)
        if delta.extra:
            self._extra.update(_known(delta.extra))

    def completion(self, index: int) -> CompletionChoice:
        """Return the choice so far."""
        call = self._function_call
        details = self._reasoning_details
        return CompletionChoice(
            index=index,
            message=Message(
                role=self._role or "assistant",
                content=_joined(self.content),
                reasoning=_joined(self.reasoning),
                refusal=_joined(self.refusal),
                tool_calls=self.tool_calls.calls() or None,
                function_call=None
                if call is None
                else FunctionCall(call.name, whole_text("".join(call.pieces))),
                audio=None if self._audio is None else self._audio.joined(),
                reasoning_details=None if details is None else tuple(details),
                extra=dict(self._extra),
            ),
            finish_reason=self.finish_reason,
            logprobs=None if self._logprobs is None else self._logprobs.joined(),
            extra=dict(self._choice_extra),
        )


class ToolCallCollector:
    """Puts the pieces of parallel tool calls together.

    Servers number them well (OpenAI), leave the index out (Gemini), or number
    them all 0 (Ollama). A piece belongs to

    - a new call, if it brings another id than the call at its index, and a name;
    - else the call at its index;
    - without an index: the call with its id; a new call if it brings an id, or a
      name while the last call has one; or else the call last touched.
    """

    __slots__ = ("_at_index", "_last", "_with_id", "calls_in_order")

    def __init__(self) -> None:
        self.calls_in_order: list[CallPieces] = []
        self._at_index: dict[int, CallPieces] = {}
        self._with_id: dict[str, CallPieces] = {}
        self._last: CallPieces | None = None

    def add(self, piece: ToolCallChunk) -> tuple[CallPieces, str | None]:
        """Take a piece; return the call it belongs to, and the arguments it adds."""
        function, custom = piece.function, piece.custom
        name = arguments = None
        if function is not None:
            name, arguments = function.name, function.arguments
        elif custom is not None:
            name, arguments = custom.name, custom.input

        call = self._find(piece, name)
        if call is None:
            call = CallPieces(number=len(self.calls_in_order), index=piece.index)
            self.calls_in_order.append(call)
        if piece.index is not None:
            self._at_index[piece.index] = call
        if piece.id:
            self._with_id.setdefault(piece.id, call)
            call.id = call.id or piece.id
        call.type = call.type or piece.type
        call.custom = call.custom or custom is not None
        if piece.extra:
            call.extra.update(piece.extra)
        call.add(name, arguments)
        self._last = call
        return call, arguments

    def _find(self, piece: ToolCallChunk, name: str | None) -> CallPieces | None:
        """Return the call a piece continues, ``None`` if it begins one."""
        known = self._with_id.get(piece.id) if piece.id else None
        if piece.index is None:
            if known is not None or piece.id or (name and self._last and self._last.name):
                return known
            return self._last
        there = self._at_index.get(piece.index)
        if there is None and not piece.id and not name:
            return self._last  # an index by another count (SGLang)
        if there is None or not piece.id or not there.id or there.id == piece.id:
            return there
        # Another id at a taken index: a known call, a new call, or (older vLLM)
        # the same call with an id made up for each piece.
        return known if known or name else there

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls so far, compact, in the order of their indexes."""
        last = 0
        ranked = []
        for call in self.calls_in_order:
            last = call.index if call.index is not None else last
            ranked.append((last, call.number, call))
        return tuple(call.joined() for _, _, call in sorted(ranked, key=lambda rank: rank[:2]))


@define
class CallPieces:
    """A call of a tool or a function, with its arguments in pieces."""

    number: int = 0
    index: int | None = None
    id: str | None = None
    type: str | None = None
    name: str | None = None
    pieces: list[str] = Factory(list)
    custom: bool = False
    extra: dict[str, Any] = Factory(dict)

    def add(self, name: str | None, arguments: str | None) -> None:
        """Take a piece of the name and of the arguments."""
        if name and not self.name:
            self.name = name
        elif name and self.name and name != self.name and not self.pieces:
            # A name in pieces, or said again with more of it.
            self.name = name if name.startswith(self.name) else self.name + name
        if arguments:
            self.pieces.append(arguments)

    def joined(self) -> ToolCall:
        """Return the call so far."""
        text = whole_text("".join(self.pieces))
        kind = self.type or ("custom" if self.custom else "function")
        if self.custom:
            return ToolCall(self.id, kind, None, CustomToolCall(self.name, text), dict(self.extra))
        return ToolCall(self.id, kind, FunctionCall(self.name, text), None, dict(self.extra))


@define
class _AudioPieces:
    id: str | None = None
    data: list[str] = Factory(list)
    transcript: list[str] = Factory(list)
    expires_at: int | None = None

    def add(self, piece: Audio) -> None:
        self.id = self.id or piece.id
        self.expires_at = piece.expires_at or self.expires_at
        if piece.data:
            self.data.append(piece.data)
        if piece.transcript:
            self.transcript.append(piece.transcript)

    def joined(self) -> Audio:
        return Audio(
            self.id, _joined(self.data or None), _joined(self.transcript or None), self.expires_at
        )


@define
class _LogprobPieces:
    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None

    def add(self, piece: ChoiceLogprobs) -> None:
        if piece.content is not None:
            self.content = self.content or []
            self.content.extend(piece.content)
        if piece.refusal is not None:
            self.refusal = self.refusal or []
            self.refusal.extend(piece.refusal)

    def joined(self) -> ChoiceLogprobs:
        return ChoiceLogprobs(
            None if self.content is None else tuple(self.content),
            None if self.refusal is None else tuple(self.refusal),
        )


def _joined(pieces: list[str] | None) -> str | None:
    return None if pieces is None else whole_text("".join(pieces))


def _known(extra: Any) -> dict[str, Any]:
    """Leave out what a server said nothing in, so that it hides nothing earlier."""
    return {key: value for key, value in extra.items() if value is not None}
