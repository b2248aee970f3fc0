"""Chunks in, the whole completion out.

The collector keeps pieces in lists and joins them when asked, so that a stream
of any length costs time linear in it. It is pure: no clock, no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, define

from chatstream.codec import read_chunk
from chatstream.completion import (
    Annotation,
    Audio,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionChoice,
    CustomToolCall,
    Delta,
    Envelope,
    FunctionCall,
    Message,
    Moderation,
    TokenLogprob,
    ToolCall,
    ToolCallChunk,
    URLCitation,
    Usage,
    Verdict,
    verdict_of,
    whole_text,
)


class MessageCollector:
    """Reassembles the answer from the chunks of one stream.

    ``expected_choices`` is the request's ``n``: an answer with fewer choices is
    a cut one, unless the stream said ``[DONE]``.

    >>> collector = MessageCollector()
    >>> for text in ("Hel", "lo"):
    ...     collector.add({"choices": [{"index": 0, "delta": {"content": text}}]})
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
        self._envelope: Envelope | None = None
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

    def add(self, chunk: ChatCompletionChunk | dict[str, Any]) -> None:
        """Take the next chunk of the stream, or its JSON object.

        Raises ``DecodeError`` if the object can't be read.
        """
        if not isinstance(chunk, ChatCompletionChunk):
            chunk = read_chunk(chunk)
        if self.touched_calls:
            self.touched_calls.clear()
        for part in chunk.choices:
            choice = self._choices.get(part.index) or self.choice(part.index)
            if choice.finish_reason is not None and part.delta.bears_token:
                self.late_content = True
            choice.add(part)
        if chunk.envelope is not self._envelope:
            self._envelope = chunk.envelope
            self._add_envelope(chunk.envelope)

    def _add_envelope(self, said: Envelope) -> None:
        # Ids, models and dates that change on the way mean nothing: the first
        # that says something counts.
        if self._id is None or self._model is None or self._created is None:
            self._id = self._id or said.id or None
            self._model = self._model or said.model or None
            self._created = self._created or said.created
        if said.usage is not None:
            self._usage = said.usage  # counts are cumulative: the last one holds
        if said.system_fingerprint is not None:
            self._system_fingerprint = said.system_fingerprint
        if said.service_tier is not None:
            self._service_tier = said.service_tier
        if said.moderation is not None:
            self._moderation = said.moderation
        if said.extra:
            self._extra.update(_known(said.extra))

    def completion(self, verdict: Verdict | None = None) -> ChatCompletion:
        """Return the answer so far; its ``verdict`` tells whether it is whole.

        Whoever knows more than the chunks tell passes the *verdict*.
        """
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
            verdict=verdict or self.verdict,
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
        if delta._wire is not None:  # noqa: SLF001 the hot path: None is content alone
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
            call.add(function.name, function.arguments, function.extra)
            self._touched_calls.append((delta, call, function.arguments))
        if delta.audio is not None:
            self._audio = self._audio or _AudioPieces()
            self._audio.add(delta.audio)
        if delta.reasoning_details is not None:
            self._reasoning_details = self._reasoning_details or []
            self._reasoning_details.extend(delta.reasoning_details)
        if delta.extra:
            self._add_extra(delta.extra)

    def _add_extra(self, extra: Mapping[str, Any]) -> None:
        """Take fields we don't know; of lists (images, annotations) each delta has more.

        Only deltas are increments: what stands beside them, on the choice or
        the chunk, may be all of it each time (Perplexity's citations).
        """
        for key, value in _known(extra).items():
            if not isinstance(value, list):
                self._extra[key] = value
            elif isinstance(so_far := self._extra.get(key), list):
                so_far.extend(value)
            else:
                self._extra[key] = list(value)  # the chunk keeps its own

    def completion(self, index: int) -> CompletionChoice:
        """Return the choice so far."""
        call = self._function_call
        details = self._reasoning_details
        extra = {k: list(v) if isinstance(v, list) else v for k, v in self._extra.items()}
        annotations = _annotations(extra.get("annotations"))
        if annotations is not None:
            del extra["annotations"]
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
                else FunctionCall(call.name, whole_text("".join(call.pieces)), dict(call.inner)),
                audio=None if self._audio is None else self._audio.joined(),
                annotations=annotations,
                reasoning_details=None if details is None else tuple(details),
                extra=extra,
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
    - without a name: the call with its id, also if that stood at another index;
    - else the call at its index;
    - without an index: the call with its id; a new call if it brings an id, or a
      name while the last call has one; or else the call last touched;
    - in any case a new call, if its name isn't the call's and the call has
      arguments already: names are whole by then.

    A new id at a taken index with neither a name nor arguments may be the next
    call's first piece, or one more piece of the same call: behind LiteLLM and
    older vLLM each has an id of its own (litellm-new-id-each-fragment). The next
    piece there tells: with a name it begins a call that has the id; else the id
    meant nothing. Splitting at the id would tear the latter's arguments apart.
    """

    __slots__ = ("_announced", "_at_index", "_last", "_with_id", "calls_in_order")

    def __init__(self) -> None:
        self.calls_in_order: list[CallPieces] = []
        self._announced: dict[int | None, str] = {}  # ids that may be the next call's
        self._at_index: dict[int, CallPieces] = {}
        self._with_id: dict[str, CallPieces] = {}
        self._last: CallPieces | None = None

    def add(self, piece: ToolCallChunk) -> tuple[CallPieces, str | None]:
        """Take a piece; return the call it belongs to, and the arguments it adds."""
        function, custom = piece.function, piece.custom
        name = arguments = None
        inner: Mapping[str, Any] = {}
        if function is not None:
            name, arguments, inner = function.name, function.arguments, function.extra
        elif custom is not None:
            name, arguments, inner = custom.name, custom.input, custom.extra

        announced = self._announced.pop(piece.index, None)
        call = self._find(piece, name)
        if name and call is not None and call.name and call.pieces:
            # A whole name is said again at most, or it is another call's.
            begins = name != call.name or (announced and not piece.id)
            call = None if begins else call
        if call is None:
            call_id = piece.id or announced
            call = CallPieces(len(self.calls_in_order), piece.index, call_id)
            self.calls_in_order.append(call)
            if call_id:
                self._with_id[call_id] = call
        elif piece.id:
            whole = call.id and call.name and call.pieces
            if name or arguments or not whole or piece.id in self._with_id:
                self._with_id.setdefault(piece.id, call)
                call.id = call.id or piece.id
            else:
                self._announced[piece.index] = piece.id
        if piece.index is not None:
            self._at_index[piece.index] = call
        call.type = call.type or piece.type
        call.custom = call.custom or custom is not None
        if piece.extra:
            call.extra.update(_known(piece.extra))
        call.add(name, arguments, inner)
        self._last = call
        return call, arguments

    def _find(self, piece: ToolCallChunk, name: str | None) -> CallPieces | None:
        """Return the call a piece's id and index lead to, ``None`` if it begins one."""
        known = self._with_id.get(piece.id) if piece.id else None
        if piece.index is None:
            if known is not None or piece.id or (name and self._last and self._last.name):
                return known
            return self._last
        there = self._at_index.get(piece.index)
        if known is not None and not name and (there is None or there.id != piece.id):
            return known
        if there is None:
            # No id and no name: an index by another count (SGLang).
            return None if piece.id or name else self._last
        if not piece.id or not there.id or there.id == piece.id:
            return there
        # Another id at a taken index: a known call, a new call, or (older vLLM)
        # the same call with an id made up for each piece.
        return known if name else there

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls so far, compact, in the order of their indexes."""
        last = 0
        ranked = []
        for call in self.calls_in_order:
            last = call.index if call.index is not None else last
            ranked.append((last, call.number, call))
        return tuple(call.joined() for _, _, call in sorted(ranked, key=lambda rank: rank[:2]))


@define(eq=False)
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
    inner: dict[str, Any] = Factory(dict)
    """What else stood beside name and arguments."""

    def add(self, name: str | None, arguments: str | None, inner: Mapping[str, Any]) -> None:
        """Take a piece of the name and of the arguments."""
        if name and not self.name:
            self.name = name
        elif name and self.name and name != self.name and not self.pieces:
            # A name in pieces, or said again with more of it.
            self.name = name if name.startswith(self.name) else self.name + name
        if arguments:
            self.pieces.append(arguments)
        if inner:
            self.inner.update(_known(inner))

    def joined(self) -> ToolCall:
        """Return the call so far."""
        text = whole_text("".join(self.pieces))
        kind = self.type or ("custom" if self.custom else "function")
        extra, inner = dict(self.extra), dict(self.inner)
        if self.custom:
            return ToolCall(self.id, kind, None, CustomToolCall(self.name, text, inner), extra)
        return ToolCall(self.id, kind, FunctionCall(self.name, text, inner), None, extra)


@define(eq=False)
class _AudioPieces:
    id: str | None = None
    data: list[str] = Factory(list)
    transcript: list[str] = Factory(list)
    expires_at: int | None = None
    extra: dict[str, Any] = Factory(dict)

    def add(self, piece: Audio) -> None:
        self.id = self.id or piece.id
        self.expires_at = piece.expires_at or self.expires_at
        if piece.data:
            self.data.append(piece.data)
        if piece.transcript:
            self.transcript.append(piece.transcript)
        self.extra.update(_known(piece.extra))

    def joined(self) -> Audio:
        return Audio(
            self.id,
            _joined(self.data or None),
            _joined(self.transcript or None),
            self.expires_at,
            dict(self.extra),
        )


@define(eq=False)
class _LogprobPieces:
    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None
    extra: dict[str, Any] = Factory(dict)

    def add(self, piece: ChoiceLogprobs) -> None:
        if piece.content is not None:
            self.content = self.content or []
            self.content.extend(piece.content)
        if piece.refusal is not None:
            self.refusal = self.refusal or []
            self.refusal.extend(piece.refusal)
        if piece.extra:
            self.extra.update(_known(piece.extra))

    def joined(self) -> ChoiceLogprobs:
        return ChoiceLogprobs(
            None if self.content is None else tuple(self.content),
            None if self.refusal is None else tuple(self.refusal),
            dict(self.extra),
        )


def _joined(pieces: list[str] | None) -> str | None:
    return None if pieces is None else whole_text("".join(pieces))


_ANNOTATION = {"type": str}
_CITATION = {"start_index": int, "end_index": int, "title": str, "url": str}


def _annotations(raw: Any) -> tuple[Annotation, ...] | None:
    """Make annotations of what deltas had under that name; ``None`` if it isn't a list of objects.

    The codec refuses a message whose annotations have wrong types. Here the
    stream is over, so nothing raises: what doesn't fit a field goes to ``extra``.
    """
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        return None
    return tuple(map(_annotation, raw))


def _annotation(raw: dict[str, Any]) -> Annotation:
    known, extra = _fitting(raw, _ANNOTATION)
    cited = extra.get("url_citation")
    if isinstance(cited, dict):
        del extra["url_citation"]
        fields, rest = _fitting(cited, _CITATION)
        known["url_citation"] = URLCitation(**fields, extra=rest)
    return Annotation(**known, extra=extra)


def _fitting(
    raw: Mapping[str, Any], kinds: Mapping[str, type]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that have their type, and the others; null is absence."""
    known = {key: raw[key] for key, kind in kinds.items() if type(raw.get(key)) is kind}
    return known, {key: value for key, value in _known(raw).items() if key not in known}


def _known(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a server said nothing in, so that it hides nothing earlier."""
    return {key: value for key, value in extra.items() if value is not None}
