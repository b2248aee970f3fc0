"""What a server answers: the chunks of a stream, and the whole completion.

Field names are the wire's. What a server sends beyond these, or what doesn't fit
its field, is kept in ``extra``. ``None`` means that the server didn't say.

The chunk classes are mutable for speed alone (a stream makes thousands, and a
frozen object takes twice as long to make); treat them as values.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, define, field, frozen

from chatstream.values import Value

# What JSON may hold as it is, but a terminal or an encoder shouldn't get: DEL and
# C1 controls, marks that reorder text, line separators, lone surrogates.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


class Verdict(enum.StrEnum):
    """How a stream ended.

    The first three and ``truncated`` can be read off the chunks; what happened
    around them decides the rest.
    """

    FINISHED = "finished"
    LENGTH = "length"
    """Cut by the token limit."""
    CONTENT_FILTER = "content_filter"
    """Cut by a content filter."""
    CLOSED = "closed"
    """Left early by the caller."""
    CANCELLED = "cancelled"
    TRUNCATED = "truncated"
    """Cut in transit, or not at its end yet."""
    EMPTY = "empty"
    """A successful status and no event."""
    CONNECT_ERROR = "connect_error"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    UPSTREAM_ERROR = "upstream_error"
    """The server reported an error inside the stream."""
    MALFORMED = "malformed"
    """The server sent what can't be read."""

    @property
    def good(self) -> bool:
        """Whether the stream came to an end of its own: its latencies are an answer's."""
        return self in _GOOD


_GOOD = frozenset({Verdict.FINISHED, Verdict.LENGTH, Verdict.CONTENT_FILTER})


# Finish reasons beyond OpenAI's that say a choice was cut. The list is of what
# servers were seen to send; any other reason counts as finished.
_CUT = {
    "length": Verdict.LENGTH,
    "max_tokens": Verdict.LENGTH,
    "model_length": Verdict.LENGTH,  # Mistral
    "model_context_window_exceeded": Verdict.LENGTH,  # Z.AI
    "content_filter": Verdict.CONTENT_FILTER,
    "safety": Verdict.CONTENT_FILTER,
    "sensitive": Verdict.CONTENT_FILTER,  # Z.AI
    "insufficient_system_resource": Verdict.TRUNCATED,  # DeepSeek
    "network_error": Verdict.TRUNCATED,  # Z.AI
    "error": Verdict.TRUNCATED,  # OpenRouter
    "abort": Verdict.TRUNCATED,  # vLLM, SGLang
}
_GRAVITY = (Verdict.TRUNCATED, Verdict.CONTENT_FILTER, Verdict.LENGTH)


def verdict_of(finish_reasons: Sequence[str | None], *, done: bool = False) -> Verdict:
    """Return how an answer with these choices ended; of several, the gravest.

    A choice without a reason was cut, unless the stream said ``[DONE]``.
    """
    unfinished = Verdict.FINISHED if done else Verdict.TRUNCATED
    found = {
        unfinished if reason is None else _CUT.get(reason.lower(), Verdict.FINISHED)
        for reason in finish_reasons
    }
    return next((verdict for verdict in _GRAVITY if verdict in found), Verdict.FINISHED)


def whole_text(text: str) -> str:
    r"""Join halves of surrogate pairs; what stays alone becomes U+FFFD.

    Servers cut JSON escapes between the halves (``"\ud83d"``, ``"\ude00"``);
    a lone half can't be encoded.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_SURROGATE = re.compile("[\ud800-\udfff]")


# --- Parts that chunks and completions share ---------------------------------


@frozen(eq=False, repr=False)
class TopLogprob(Value):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float = -9999.0
    bytes: tuple[int, ...] | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class TokenLogprob(Value):
    """A token with its log probability (−9999.0: very unlikely)."""

    token: str
    logprob: float = -9999.0
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class ChoiceLogprobs(Value):
    """Log probabilities of a choice's content and refusal tokens."""

    content: tuple[TokenLogprob, ...] | None = None
    refusal: tuple[TokenLogprob, ...] | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class PromptTokensDetails(Value):
    """What the prompt's tokens were."""

    audio_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class CompletionTokensDetails(Value):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    text_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class Usage(Value):
    """Token counts as the server reported them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    extra: Mapping[str, Any] = Factory(dict)

    @property
    def reasoning_tokens(self) -> int | None:
        """Completion tokens spent on reasoning, where the server says."""
        details = self.completion_tokens_details
        if details is not None and details.reasoning_tokens is not None:
            return details.reasoning_tokens
        beside = self.extra.get("reasoning_tokens")  # SGLang
        return beside if isinstance(beside, int) else None


@frozen(eq=False, repr=False)
class ModerationResult(Value):
    """What a moderation model thinks of one piece."""

    flagged: bool | None = None
    categories: Mapping[str, Any] = Factory(dict)
    category_scores: Mapping[str, Any] = Factory(dict)
    category_applied_input_types: Mapping[str, Any] = Factory(dict)
    model: str | None = None
    type: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class ModerationOutcome(Value):
    """The moderation of the input or the output: results, or an error."""

    type: str | None = None
    model: str | None = None
    results: tuple[ModerationResult, ...] = ()
    code: str | None = None
    message: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class Moderation(Value):
    """Moderation of what went in and of what came out."""

    input: ModerationOutcome | None = None
    output: ModerationOutcome | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class Audio(Value):
    """A spoken answer: ``data`` is base64, ``expires_at`` Unix seconds.

    In a stream each piece holds what came with one chunk.
    """

    id: str | None = None
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class FunctionCall(Value):
    """A call of a function; ``arguments`` is JSON text as the model wrote it."""

    name: str | None = None
    arguments: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class CustomToolCall(Value):
    """A call of a custom tool, with free text as input."""

    name: str | None = None
    input: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


_NO_WIRE: Mapping[str, Any] = {}

# --- A chunk of a stream -----------------------------------------------------


@define(eq=False, repr=False)
class ToolCallChunk(Value):
    """A piece of a tool call.

    ``index`` is ``None`` where the server left it out. ``function.arguments``
    is a piece of the JSON text.
    """

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomToolCall | None = None
    extra: Mapping[str, Any] = Factory(dict)

    @property
    def bears_token(self) -> bool:
        """Whether it holds a name, arguments or an input."""
        call = self.function
        if call is not None and (call.name or call.arguments):
            return True
        custom = self.custom
        return custom is not None and bool(custom.name or custom.input)


@define(eq=False, repr=False)
class Delta(Value):
    """What one chunk adds to one choice.

    ``reasoning`` is read from ``reasoning_content``, ``reasoning``,
    ``reasoning_details`` and thinking parts of a ``content`` list, whichever the
    server uses. ``str()`` is the delta's JSON with what the wire had, no more. To
    change one, make another with ``attrs.evolve``.
    """

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallChunk] | None = None
    function_call: FunctionCall | None = None
    audio: Audio | None = None
    reasoning_details: list[Any] | None = None
    extra: Mapping[str, Any] = Factory(dict)
    _wire: Mapping[str, Any] | None = field(default=_NO_WIRE, init=False, repr=False, eq=False)
    # None: it held content and nothing else, as nearly every delta does; who puts an
    # answer together doesn't look further then.

    @property
    def wire(self) -> Mapping[str, Any]:
        """The JSON object as it came."""
        return {"content": self.content} if self._wire is None else self._wire

    @property
    def bears_output(self) -> bool:
        """Whether it holds a token that isn't reasoning."""
        if self.content or self.refusal:
            return True
        if self.tool_calls is not None and any(call.bears_token for call in self.tool_calls):
            return True
        call = self.function_call
        if call is not None and (call.name or call.arguments):
            return True
        audio = self.audio
        return audio is not None and bool(audio.data or audio.transcript)

    @property
    def bears_token(self) -> bool:
        """Whether it holds content, reasoning, refusal, audio, or part of a call."""
        return bool(self.content or self.reasoning) or self.bears_output

    def __str__(self) -> str:
        return _UNSAFE.sub(_escaped, json.dumps(self.wire, ensure_ascii=False))


@define(eq=False, repr=False)
class ChunkChoice(Value):
    """One choice's part of a chunk; chunks may share its ``extra``."""

    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None
    extra: Mapping[str, Any] = Factory(dict)


@define(eq=False, repr=False)
class Envelope(Value):
    """What a chunk holds around its choices. ``created`` is in Unix seconds."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    object: str | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    moderation: Moderation | None = None
    obfuscation: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


@define(eq=False, repr=False)
class ChatCompletionChunk(Value):
    """One event of a stream: its choices, and their envelope.

    The chunks of a stream that agree in the latter share it.
    """

    choices: list[ChunkChoice] = Factory(list)
    envelope: Envelope = Factory(Envelope)

    @property
    def id(self) -> str | None:
        """The completion's id."""
        return self.envelope.id

    @property
    def created(self) -> int | None:
        """When the completion was begun, in Unix seconds."""
        return self.envelope.created

    @property
    def model(self) -> str | None:
        """The model that answers."""
        return self.envelope.model

    @property
    def object(self) -> str | None:
        """``chat.completion.chunk``, where the server says so."""
        return self.envelope.object

    @property
    def usage(self) -> Usage | None:
        """Token counts so far."""
        return self.envelope.usage

    @property
    def service_tier(self) -> str | None:
        """The tier that serves the request."""
        return self.envelope.service_tier

    @property
    def system_fingerprint(self) -> str | None:
        """The server's configuration."""
        return self.envelope.system_fingerprint

    @property
    def moderation(self) -> Moderation | None:
        """What a moderation model thinks of it."""
        return self.envelope.moderation

    @property
    def obfuscation(self) -> str | None:
        """Padding that hides the length of the content."""
        return self.envelope.obfuscation

    @property
    def extra(self) -> Mapping[str, Any]:
        """What else the server sent."""
        return self.envelope.extra


# --- A whole completion ------------------------------------------------------


@frozen(eq=False, repr=False)
class URLCitation(Value):
    """A web page the answer refers to, and where in its content."""

    start_index: int | None = None
    end_index: int | None = None
    title: str | None = None
    url: str | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class Annotation(Value):
    """A note on the content."""

    type: str | None = None
    url_citation: URLCitation | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class ToolCall(Value):
    """A whole call of a tool: of a ``function``, or of a ``custom`` one."""

    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomToolCall | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class Message(Value):
    """What the model said in one choice.

    ``content`` is ``None`` if there was none, and ``""`` if it was empty.
    """

    role: str = "assistant"
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    function_call: FunctionCall | None = None
    audio: Audio | None = None
    annotations: tuple[Annotation, ...] | None = None
    reasoning_details: tuple[Any, ...] | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class CompletionChoice(Value):
    """One of the ``n`` answers. ``finish_reason`` is ``None`` if it was cut."""

    index: int
    message: Message
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None
    extra: Mapping[str, Any] = Factory(dict)


@frozen(eq=False, repr=False)
class ChatCompletion(Value):
    """A whole answer, or what is known of it so far: ``verdict`` tells."""

    id: str | None = None
    choices: tuple[CompletionChoice, ...] = ()
    created: int | None = None
    model: str | None = None
    object: str = "chat.completion"
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    moderation: Moderation | None = None
    extra: Mapping[str, Any] = Factory(dict)
    verdict: Verdict | None = None

    @property
    def text(self) -> str:
        """The content of the first choice, ``""`` if there is none."""
        return (self.choices[0].message.content or "") if self.choices else ""
