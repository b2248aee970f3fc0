"""What is asked of a model: messages, parameters, and what they may be.

::

    ChatRequest.of(…) ─→ wire(…) ─→ check(…) ─→ codec
     names               plain JSON   types, ranges,
                         values       what fits together

The typed classes mirror the wire one to one: a field is called as its key is.
Where a class is expected a mapping will do, and keys of a provider that aren't
here ride along in ``extra`` (of a class) or ``extra_body`` (of the request).

The rules look at the plain values alone, so that typed requests and
dictionaries obey the same ones. They are those of OpenAI's reference, as far as
no compatible server needs more room: enumerations are open, unknown keys, roles
and kinds pass as long as they are JSON.
"""
# ruff: noqa: PYI051 `Literal[…] | str`: an editor offers the known words, any other may be sent

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from math import isfinite
from operator import attrgetter
from typing import Any, Literal, NoReturn, TypeAlias, TypedDict

import attrs

from chatstream.errors import RequestError, one_line

MAX_DEPTH = 100
"""How many levels a request may nest; each takes up to three of Python's 1,000 frames."""

JSONMapping: TypeAlias = Mapping[str, Any]


class RequestWarning(UserWarning):
    """The request will be sent, but it may not do what was meant."""


# The classes. Comparing and showing are written once, for all of them: left to attrs, their
# code is generated anew for each class, which took half of this module's import.


@attrs.frozen(eq=False, repr=False)
class _Value:
    """Compares by its fields and shows those that are set."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        fields = attrs.fields(type(self))
        return all(getattr(self, field.name) == getattr(other, field.name) for field in fields)

    __hash__ = None  # type: ignore[assignment]  # most hold a mapping or a list

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={value!r}"
            for field in attrs.fields(type(self))
            if field.init and (value := getattr(self, field.name)) is not None and value != {}
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@attrs.frozen(eq=False, repr=False)
class _Open(_Value):
    """May carry keys that aren't fields; they win over those that are."""

    extra: JSONMapping = attrs.field(factory=dict, kw_only=True)


# Parts of a message.


@attrs.frozen(eq=False, repr=False)
class PromptCacheBreakpoint(_Open):
    """Marks the end of a prefix that is worth caching."""

    mode: Literal["explicit"] | str = "explicit"
    ttl: Literal["30m", "12h"] | str | None = None


@attrs.frozen(eq=False, repr=False)
class TextPart(_Open):
    """Text, in any message."""

    type: Literal["text"] = attrs.field(default="text", init=False)
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class ImageURL(_Open):
    """Where an image is: ``https:``, or the image itself as ``data:``."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | str | None = None


@attrs.frozen(eq=False, repr=False)
class ImagePart(_Open):
    """An image, in a user message; ``image()`` makes one."""

    type: Literal["image_url"] = attrs.field(default="image_url", init=False)
    image_url: ImageURL
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class InputAudio(_Open):
    """Sound in base64, and how it is coded."""

    data: str
    format: Literal["wav", "mp3"] | str


@attrs.frozen(eq=False, repr=False)
class InputAudioPart(_Open):
    """Sound, in a user message."""

    type: Literal["input_audio"] = attrs.field(default="input_audio", init=False)
    input_audio: InputAudio
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class FileData(_Open):
    """A file in base64 (``file_data``), or one uploaded before (``file_id``)."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


@attrs.frozen(eq=False, repr=False)
class FilePart(_Open):
    """A file, in a user message."""

    type: Literal["file"] = attrs.field(default="file", init=False)
    file: FileData
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class RefusalPart(_Open):
    """The model's refusal, in an assistant message."""

    type: Literal["refusal"] = attrs.field(default="refusal", init=False)
    refusal: str


Part: TypeAlias = TextPart | ImagePart | InputAudioPart | FilePart | RefusalPart
Content: TypeAlias = str | Sequence[Part | JSONMapping]


@attrs.frozen(eq=False, repr=False, kw_only=True)
class FunctionCall(_Open):
    """Which function the model called; ``arguments`` is the JSON text it wrote."""

    name: str
    arguments: str


@attrs.frozen(eq=False, repr=False, kw_only=True)
class ToolCall(_Open):
    """A call of a function, handed back in an assistant message."""

    id: str
    type: Literal["function"] = attrs.field(default="function", init=False)
    function: FunctionCall


@attrs.frozen(eq=False, repr=False, kw_only=True)
class CustomCall(_Open):
    """Which custom tool the model called, and with what text."""

    name: str
    input: str


@attrs.frozen(eq=False, repr=False, kw_only=True)
class CustomToolCall(_Open):
    """A call of a custom tool, handed back in an assistant message."""

    id: str
    type: Literal["custom"] = attrs.field(default="custom", init=False)
    custom: CustomCall


@attrs.frozen(eq=False, repr=False)
class AudioReference(_Open):
    """An answer that was spoken, by the ``id`` it came with."""

    id: str


# Messages.


@attrs.frozen(eq=False, repr=False)
class SystemMessage(_Open):
    """How the model shall behave."""

    role: Literal["system"] = attrs.field(default="system", init=False)
    content: Content
    name: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class DeveloperMessage(_Open):
    """How the model shall behave; reasoning models take it for ``system``."""

    role: Literal["developer"] = attrs.field(default="developer", init=False)
    content: Content
    name: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class UserMessage(_Open):
    """What the user says and shows."""

    role: Literal["user"] = attrs.field(default="user", init=False)
    content: Content
    name: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class AssistantMessage(_Open):
    """What the model answered before.

    ``content`` may be left out beside a call, a refusal, audio or reasoning. A
    server that wants the key all the same gets ``extra={"content": None}``.
    ``reasoning`` is that key; where it has another name, it goes into ``extra``
    (``reasoning_content`` at DeepSeek, which wants it back after tool calls).
    """

    role: Literal["assistant"] = attrs.field(default="assistant", init=False)
    content: Content | None = None
    name: str | None = attrs.field(default=None, kw_only=True)
    refusal: str | None = attrs.field(default=None, kw_only=True)
    reasoning: str | None = attrs.field(default=None, kw_only=True)
    audio: AudioReference | None = attrs.field(default=None, kw_only=True)
    tool_calls: Sequence[ToolCall | CustomToolCall | JSONMapping] | None = attrs.field(
        default=None, kw_only=True
    )
    function_call: FunctionCall | None = attrs.field(default=None, kw_only=True)
    """Deprecated, for ``tool_calls``."""


@attrs.frozen(eq=False, repr=False)
class ToolMessage(_Open):
    """What a tool returned for the call ``tool_call_id``."""

    role: Literal["tool"] = attrs.field(default="tool", init=False)
    content: Content
    tool_call_id: str = attrs.field(kw_only=True)


@attrs.frozen(eq=False, repr=False)
class FunctionMessage(_Open):
    """What a function returned. Deprecated, for ``ToolMessage``."""

    role: Literal["function"] = attrs.field(default="function", init=False)
    content: str | None
    name: str = attrs.field(kw_only=True)


Message: TypeAlias = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)


def text(text: str) -> TextPart:
    """Make a part that is *text*."""
    return TextPart(text)


def image(
    url: str, detail: Literal["auto", "low", "high", "original"] | str | None = None
) -> ImagePart:
    """Make a part that is the image at *url* (``https:`` or ``data:``)."""
    return ImagePart(ImageURL(url, detail))


def system(
    content: Content, *, name: str | None = None, extra: JSONMapping | None = None
) -> SystemMessage:
    """Make a message that tells the model how to behave."""
    return SystemMessage(content, name=name, extra=extra or {})


def developer(
    content: Content, *, name: str | None = None, extra: JSONMapping | None = None
) -> DeveloperMessage:
    """Make a message that tells a reasoning model how to behave."""
    return DeveloperMessage(content, name=name, extra=extra or {})


def user(
    content: Content, *, name: str | None = None, extra: JSONMapping | None = None
) -> UserMessage:
    """Make a message of the user's: text, or parts as ``[text(…), image(…)]``."""
    return UserMessage(content, name=name, extra=extra or {})


def assistant(
    content: Content | None = None,
    *,
    tool_calls: Sequence[ToolCall | CustomToolCall | JSONMapping] | None = None,
    refusal: str | None = None,
    reasoning: str | None = None,
    audio: AudioReference | None = None,
    name: str | None = None,
    extra: JSONMapping | None = None,
) -> AssistantMessage:
    """Make a message that hands back what the model answered before."""
    return AssistantMessage(
        content,
        name=name,
        refusal=refusal,
        reasoning=reasoning,
        audio=audio,
        tool_calls=tool_calls,
        extra=extra or {},
    )


def tool(content: Content, *, tool_call_id: str, extra: JSONMapping | None = None) -> ToolMessage:
    """Make a message with what the tool returned for that call."""
    return ToolMessage(content, tool_call_id=tool_call_id, extra=extra or {})


# Tools.


@attrs.frozen(eq=False, repr=False)
class FunctionDefinition(_Open):
    """A function the model may call; ``parameters`` is a JSON schema.

    ``name`` has 1 to 64 letters, digits, ``_`` and ``-``. With ``strict`` the
    arguments follow the schema exactly.
    """

    name: str
    description: str | None = attrs.field(default=None, kw_only=True)
    parameters: JSONMapping | None = attrs.field(default=None, kw_only=True)
    strict: bool | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class FunctionTool(_Open):
    """A tool that is called with JSON."""

    type: Literal["function"] = attrs.field(default="function", init=False)
    function: FunctionDefinition


@attrs.frozen(eq=False, repr=False)
class TextFormat(_Open):
    """Free text: an answer's format, or that of a custom tool's input."""

    type: Literal["text"] = attrs.field(default="text", init=False)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Grammar(_Open):
    """A grammar, written in ``syntax``."""

    definition: str
    syntax: Literal["lark", "regex"] | str


@attrs.frozen(eq=False, repr=False)
class GrammarFormat(_Open):
    """A custom tool's input follows a grammar."""

    type: Literal["grammar"] = attrs.field(default="grammar", init=False)
    grammar: Grammar


@attrs.frozen(eq=False, repr=False)
class CustomDefinition(_Open):
    """A tool the model may call with text; ``name`` as a function's."""

    name: str
    description: str | None = attrs.field(default=None, kw_only=True)
    format: TextFormat | GrammarFormat | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class CustomTool(_Open):
    """A tool that is called with text."""

    type: Literal["custom"] = attrs.field(default="custom", init=False)
    custom: CustomDefinition


@attrs.frozen(eq=False, repr=False)
class ToolName(_Open):
    """A tool, by its name."""

    name: str


@attrs.frozen(eq=False, repr=False)
class FunctionToolChoice(_Open):
    """The model must call this function."""

    type: Literal["function"] = attrs.field(default="function", init=False)
    function: ToolName


@attrs.frozen(eq=False, repr=False)
class CustomToolChoice(_Open):
    """The model must call this custom tool."""

    type: Literal["custom"] = attrs.field(default="custom", init=False)
    custom: ToolName


@attrs.frozen(eq=False, repr=False, kw_only=True)
class AllowedTools(_Open):
    """Some of the tools; ``required`` if one of them must be called."""

    mode: Literal["auto", "required"] | str
    tools: Sequence[FunctionToolChoice | CustomToolChoice | JSONMapping]


@attrs.frozen(eq=False, repr=False)
class AllowedToolsChoice(_Open):
    """The model may call only these tools."""

    type: Literal["allowed_tools"] = attrs.field(default="allowed_tools", init=False)
    allowed_tools: AllowedTools


# Options.


@attrs.frozen(eq=False, repr=False, kw_only=True)
class StreamOptions(_Open):
    """What a stream brings besides the answer.

    ``include_usage``: token counts in a last chunk; asked for unless this is
    ``False``. ``include_obfuscation``: padding against guessing at lengths.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


@attrs.frozen(eq=False, repr=False)
class JSONObjectFormat(_Open):
    """The answer is some JSON object; a message must ask for it too."""

    type: Literal["json_object"] = attrs.field(default="json_object", init=False)


@attrs.frozen(eq=False, repr=False)
class JSONSchema(_Open):
    """A JSON schema; ``name`` has 1 to 64 letters, digits, ``_`` and ``-``."""

    name: str
    description: str | None = attrs.field(default=None, kw_only=True)
    schema: JSONMapping | None = attrs.field(default=None, kw_only=True)
    strict: bool | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class JSONSchemaFormat(_Open):
    """The answer is JSON after a schema."""

    type: Literal["json_schema"] = attrs.field(default="json_schema", init=False)
    json_schema: JSONSchema


@attrs.frozen(eq=False, repr=False)
class Prediction(_Open):
    """Most of the answer, as it is expected: what holds is sent faster."""

    type: Literal["content"] = attrs.field(default="content", init=False)
    content: str | Sequence[TextPart | JSONMapping]


@attrs.frozen(eq=False, repr=False)
class Voice(_Open):
    """A voice of one's own, by its ``id``."""

    id: str


@attrs.frozen(eq=False, repr=False, kw_only=True)
class AudioOptions(_Open):
    """How a spoken answer sounds; needed with ``audio`` in ``modalities``."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"] | str
    voice: str | Voice


@attrs.frozen(eq=False, repr=False, kw_only=True)
class ApproximateLocation(_Open):
    """Where the user is, roughly.

    ``country`` is a two-letter ISO code, ``timezone`` an IANA name.
    """

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


@attrs.frozen(eq=False, repr=False)
class UserLocation(_Open):
    """Where a search is made from."""

    type: Literal["approximate"] = attrs.field(default="approximate", init=False)
    approximate: ApproximateLocation


@attrs.frozen(eq=False, repr=False, kw_only=True)
class WebSearchOptions(_Open):
    """How the model searches the web."""

    search_context_size: Literal["low", "medium", "high"] | str | None = None
    user_location: UserLocation | None = None


@attrs.frozen(eq=False, repr=False)
class ModerationStage(_Open):
    """What is done with the verdict: it is told, or it blocks."""

    mode: Literal["score", "block"] | str


@attrs.frozen(eq=False, repr=False, kw_only=True)
class ModerationPolicy(_Open):
    """What is moderated: the prompt, the answer."""

    input: ModerationStage | None = None
    output: ModerationStage | None = None


@attrs.frozen(eq=False, repr=False)
class Moderation(_Open):
    """Moderation of the request, by ``model``."""

    model: str
    policy: ModerationPolicy | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class PromptCacheOptions(_Open):
    """How the prompt is cached."""

    mode: Literal["implicit", "explicit"] | str | None = None
    ttl: Literal["30m"] | str | None = None


# The request.

Messages: TypeAlias = Sequence[Message | JSONMapping]
FunctionChoice: TypeAlias = Literal["none", "auto"] | str | ToolName | JSONMapping
Modality: TypeAlias = Literal["text", "audio"] | str
PromptCacheRetention: TypeAlias = Literal["in_memory", "24h"] | str
ReasoningEffort: TypeAlias = (
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | str
)
ResponseFormat: TypeAlias = TextFormat | JSONObjectFormat | JSONSchemaFormat | JSONMapping
ServiceTier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority", "fast"] | str
Tool: TypeAlias = FunctionTool | CustomTool | JSONMapping
ToolChoice: TypeAlias = (
    Literal["none", "auto", "required"]
    | str
    | FunctionToolChoice
    | CustomToolChoice
    | AllowedToolsChoice
    | JSONMapping
)
Verbosity: TypeAlias = Literal["low", "medium", "high"] | str


class ChatParams(TypedDict, total=False):
    """The parameters of ``ChatRequest``, as keyword arguments."""

    model: str
    messages: Messages
    audio: AudioOptions | JSONMapping | None
    frequency_penalty: float | None
    function_call: FunctionChoice | None
    functions: Sequence[FunctionDefinition | JSONMapping] | None
    logit_bias: Mapping[str, int] | Mapping[int, int] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: Mapping[str, str] | None
    modalities: Sequence[Modality] | None
    moderation: Moderation | JSONMapping | None
    n: int | None
    parallel_tool_calls: bool | None
    prediction: Prediction | JSONMapping | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_options: PromptCacheOptions | JSONMapping | None
    prompt_cache_retention: PromptCacheRetention | None
    reasoning_effort: ReasoningEffort | None
    response_format: ResponseFormat | None
    safety_identifier: str | None
    seed: int | None
    service_tier: ServiceTier | None
    stop: str | Sequence[str] | None
    store: bool | None
    stream_options: StreamOptions | JSONMapping | None
    temperature: float | None
    tool_choice: ToolChoice | None
    tools: Sequence[Tool] | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: Verbosity | None
    web_search_options: WebSearchOptions | JSONMapping | None


@attrs.frozen(eq=False, repr=False, kw_only=True)
class ChatRequest(_Value):
    """One request for a completion, as the caller put it.

    What is ``None`` isn't sent. An explicit ``null``, like anything else that
    isn't a parameter here, goes into ``extra_body``. Nothing is checked before
    ``check()``, which sees what ``wire()`` makes of this.
    """

    model: str
    messages: Messages
    """At least one."""
    audio: AudioOptions | JSONMapping | None = None
    """How a spoken answer sounds."""
    frequency_penalty: float | None = None
    """-2 to 2: how much a token is avoided, the more often it came up."""
    function_call: FunctionChoice | None = None
    """Deprecated, for ``tool_choice``."""
    functions: Sequence[FunctionDefinition | JSONMapping] | None = None
    """Deprecated, for ``tools``."""
    logit_bias: Mapping[str, int] | Mapping[int, int] | None = None
    """Token id → -100 (never) to 100 (always)."""
    logprobs: bool | None = None
    """Whether each token comes with its log probability."""
    max_completion_tokens: int | None = None
    """The most tokens of the answer, reasoning among them; at least 1."""
    max_tokens: int | None = None
    """Deprecated at OpenAI, for ``max_completion_tokens``; many servers know only this one."""
    metadata: Mapping[str, str] | None = None
    """At most 16 pairs, keys of at most 64 characters, values of at most 512."""
    modalities: Sequence[Modality] | None = None
    """What the answer is made of; ``audio`` needs the parameter ``audio``."""
    moderation: Moderation | JSONMapping | None = None
    n: int | None = None
    """How many answers; at least 1."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may call several tools; only with ``tools``."""
    prediction: Prediction | JSONMapping | None = None
    presence_penalty: float | None = None
    """-2 to 2: how much a token is avoided once it came up."""
    prompt_cache_key: str | None = None
    """What requests with a common prefix have in common."""
    prompt_cache_options: PromptCacheOptions | JSONMapping | None = None
    prompt_cache_retention: PromptCacheRetention | None = None
    """Deprecated, for ``prompt_cache_options``."""
    reasoning_effort: ReasoningEffort | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    """Who the user is, best as a hash; at most 128 characters."""
    seed: int | None = None
    """The same seed should give the same answer; no promise."""
    service_tier: ServiceTier | None = None
    stop: str | Sequence[str] | None = None
    """Where the answer ends, itself left out: a string, or 1 to 4 of them."""
    store: bool | None = None
    """Whether the server keeps the completion."""
    stream_options: StreamOptions | JSONMapping | None = None
    """Left out when the answer isn't streamed."""
    temperature: float | None = None
    """0 to 2. Not together with ``top_p``."""
    tool_choice: ToolChoice | None = None
    """Whether, or which, tools are called; only with ``tools``."""
    tools: Sequence[Tool] | None = None
    top_logprobs: int | None = None
    """0 to 20 likely tokens at each position; only with ``logprobs``."""
    top_p: float | None = None
    """0 to 1: the share of the probability that is sampled from."""
    user: str | None = None
    """Deprecated, for ``safety_identifier`` and ``prompt_cache_key``."""
    verbosity: Verbosity | None = None
    web_search_options: WebSearchOptions | JSONMapping | None = None
    extra_body: JSONMapping = attrs.field(factory=dict)
    """A provider's own parameters; they win over all others."""

    @classmethod
    def of(
        cls,
        request: ChatRequest | JSONMapping | None,
        params: JSONMapping,
        *,
        extra_body: JSONMapping | None = None,
        validate: bool = True,
    ) -> ChatRequest:
        """Return *request* with *params* in place of its own.

        Raises ``RequestError`` for a name that is no parameter, unless
        *validate* is false: then it goes into ``extra_body``. A parameter that
        is ``None`` unsets that of *request*.
        """
        if isinstance(request, ChatRequest):
            if not params and not extra_body:
                return request
            given = dict(zip(_PARAMETERS, _parameters(request), strict=True))
            given["extra_body"] = request.extra_body
        else:
            given = {} if request is None else dict(_mapping(request, "request"))
        given.update(params)
        extra = dict(_mapping(given.pop("extra_body", None) or {}, "extra_body"))
        if not given.keys() <= _KNOWN:
            for name in [name for name in given if name not in _KNOWN]:
                if name == "stream" or validate:
                    raise _unknown(name, given[name])
                extra[name] = given.pop(name)
        if extra_body:
            extra.update(_mapping(extra_body, "extra_body"))
        for name in ("model", "messages"):
            if given.get(name) is None:
                _RULES[name](None, (name,))
        return cls(**given, extra_body=extra)


_PARAMETERS = tuple(f.name for f in attrs.fields(ChatRequest) if f.name != "extra_body")
_KNOWN = frozenset(_PARAMETERS)
_parameters = attrgetter(*_PARAMETERS)


def _mapping(value: Any, parameter: str) -> JSONMapping:
    if not isinstance(value, Mapping):
        raise RequestError(parameter, type(value).__name__, "a mapping")
    return value


def _unknown(name: Any, value: object) -> RequestError:
    if name == "stream":
        how = "nothing (session.stream() or session.create() decide this)"
        return RequestError(name, _describe(value, (name,)), how)
    from difflib import get_close_matches  # noqa: PLC0415 only a mistake should cost its import

    name = one_line(str(name), 40)
    near = get_close_matches(name, _PARAMETERS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    how = f"a parameter of chat completions ({hint}a provider's own goes into extra_body)"
    return RequestError(name, "an unknown name", how)


# To plain values.

_ATOMS = frozenset({str, int, float, bool, type(None)})
_EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)


def to_wire(value: Any) -> Any:
    """Return *value* as plain JSON values: ``dict``, ``list``, ``str`` and so on.

    Fields that are ``None`` are left out, ``extra`` is merged in; entries of a
    mapping stay, even ``None``. What is plain already comes back as it is, not
    copied; what can't be made plain stays, for ``check()`` to refuse. Raises
    ``RequestError`` beyond ``MAX_DEPTH``, where a value that holds itself ends.
    """
    return _plain(value, "value", MAX_DEPTH)


def wire(request: ChatRequest, *, stream: bool) -> dict[str, Any]:
    """Return the body of *request*, as plain JSON values.

    A stream asks for usage unless the caller says otherwise; ``stream_options``
    of a request that isn't streamed are left out. Raises ``RequestError`` beyond
    ``MAX_DEPTH``; all else is ``check()``'s.
    """
    values = zip(_PARAMETERS, _parameters(request), strict=True)
    body = {name: value for name, value in values if value is not None}
    for name, value in body.items():
        if type(value) not in _ATOMS:
            body[name] = _plain(value, name, MAX_DEPTH)
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)
    if request.extra_body:
        extra = _mapping(request.extra_body, "extra_body")
        body.update(_plain(extra, "extra_body", MAX_DEPTH))
    if stream:
        options = body.setdefault("stream_options", {})
        if isinstance(options, dict):
            body["stream_options"] = {"include_usage": True} | options
    bias = body.get("logit_bias")
    if isinstance(bias, dict):
        body["logit_bias"] = {
            str(token) if type(token) is int else token: value for token, value in bias.items()
        }
    return body


def _plain(value: Any, parameter: str, room: int) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if not room:
        raise RequestError(parameter, _TOO_DEEP, _DEEPEST)
    if kind is dict:
        return _plain_items(value, value.items(), parameter, room - 1)
    if kind is list:
        return _plain_items(value, enumerate(value), parameter, room - 1)
    plainer = _plainer(value, parameter)
    return value if plainer is value else _plain(plainer, parameter, room)


def _plain_items(value: Any, items: Iterable[tuple[Any, Any]], parameter: str, room: int) -> Any:
    plain = value
    for key, item in items:
        if type(item) not in _ATOMS:
            new = _plain(item, parameter, room)
            if new is not item:
                if plain is value:
                    plain = value.copy()
                plain[key] = new
    return plain


def _plainer(value: Any, parameter: str) -> Any:
    """Return a ``dict``, a ``list``, an atom, or *value* if it is like none of them."""
    kind: Any = type(value)
    fields = _fields(kind)
    if fields is not None:
        items = [(name, getattr(value, name)) for name in fields]
        plain = {name: item for name, item in items if item is not None}
        plain.update(_mapping(plain.pop("extra", {}), parameter))
        return plain
    if isinstance(value, Mapping):
        return dict(value)
    # Enumerations of the caller's and numpy's float64 are subclasses of these.
    for exact, make in _EXACT:
        if isinstance(value, exact):
            return make(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    return value


@cache
def _fields(kind: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else None


# A rule looks at one plain value and raises RequestError if it may not be sent.
# Rules for objects and lists are made of rules, so that the tables below read
# like the reference. No rule takes None: an entry that is null counts as left
# out, and one that must be there is shown None for its rule to say what it wants.

_Path: TypeAlias = tuple[Any, ...]
_Rule: TypeAlias = Callable[[Any, _Path], None]

_TOO_DEEP = f"more than {MAX_DEPTH} levels, or a value that holds itself"
_DEEPEST = f"at most {MAX_DEPTH} levels"
_LISTS = (list, tuple)

# What people wrote, or who they are: of these an error tells the length alone.
_PRIVATE = frozenset(
    {
        "messages",
        "metadata",
        "prediction",
        "prompt_cache_key",
        "safety_identifier",
        "stop",
        "user",
    }
)


def _describe(value: object, path: _Path) -> str:
    """Say what *value* is in a few words, which may stand in a log."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        short = len(value) <= 40 and value.isprintable()  # noqa: PLR2004
        return repr(value) if short and path[0] not in _PRIVATE else _length("a string", value)
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004
        # Python refuses to write out very long ones.
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (dict, list, tuple)):
        return _length("an object" if isinstance(value, dict) else "a list", value)
    return type(value).__name__


def _length(what: str, value: Sized) -> str:
    return f"{what} of length {len(value)}"


def _path(path: _Path) -> str:
    """Write *path* as JavaScript would, cut after a dozen steps."""
    steps = [str(path[0]) if path else "extra_body"]
    for step in path[1:12]:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif step.isidentifier() and len(step) <= 40:  # noqa: PLR2004
            steps.append(f".{step}")
        else:
            steps.append(f'["{one_line(step, 40)}"]')
    return one_line("".join(steps)) + ("…" if len(path) > 12 else "")  # noqa: PLR2004


def _refuse(path: _Path, value: object, allowed: str) -> NoReturn:
    raise RequestError(_path(path), _describe(value, path), allowed)


def _is_text(value: str) -> bool:
    """Tell whether *value* can be sent: UTF-8 has no lone surrogates."""
    if value.isascii():
        return True
    try:
        # Several times faster than to UTF-8, and as strict.
        value.encode("utf-16-le")
    except UnicodeEncodeError:
        return False
    return True


def _json(value: Any, path: _Path) -> None:
    """Take any JSON value that a server can read."""
    _JSON.get(type(value), _json_never)(value, path)


def _json_string(value: str, path: _Path) -> None:
    if not _is_text(value):
        raise RequestError(_path(path), "a lone surrogate", "text that UTF-8 can hold")


def _json_object(value: dict[Any, Any], path: _Path) -> None:
    _entries(value, path, {})


def _json_list(value: Sequence[Any], path: _Path) -> None:
    if len(path) > MAX_DEPTH:
        raise RequestError(_path(path), _TOO_DEEP, _DEEPEST)
    for index, item in enumerate(value):
        _json(item, (*path, index))


def _json_integer(value: int, path: _Path) -> None:
    if not -(2**63) <= value < 2**64:
        _refuse(path, value, "an integer of at most 64 bits")


def _json_number(value: float, path: _Path) -> None:
    if not isfinite(value):
        _refuse(path, value, "a finite number")


def _json_constant(_value: object, _path: _Path) -> None:
    pass


def _json_never(value: object, path: _Path) -> None:
    _refuse(path, value, "a JSON value")


_JSON: dict[type, _Rule] = {
    str: _json_string,
    dict: _json_object,
    list: _json_list,
    tuple: _json_list,
    int: _json_integer,
    float: _json_number,
    bool: _json_constant,
    type(None): _json_constant,
}


def _entries(value: dict[Any, Any], path: _Path, rules: Mapping[str, _Rule]) -> None:
    if len(path) > MAX_DEPTH:
        raise RequestError(_path(path), _TOO_DEEP, _DEEPEST)
    for key, item in value.items():
        rule = rules.get(key)
        if rule is not None:
            if item is not None:
                rule(item, (*path, key))
        elif not isinstance(key, str):
            raise RequestError(_path(path), f"a key that is {type(key).__name__}", "string keys")
        elif not _is_text(key):
            raise RequestError(_path(path), "a key with a lone surrogate", "keys of text")
        else:
            _json(item, (*path, key))


def _object(*required: str, **rules: _Rule) -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, dict):
            _refuse(path, value, "an object")
        _entries(value, path, rules)
        for name in required:
            if value.get(name) is None:
                rules[name](None, (*path, name))

    return rule


def _tagged(tag: str, **kinds: _Rule) -> _Rule:
    """Make a rule for objects that say what they are; an unknown kind is any JSON."""

    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, dict):
            _refuse(path, value, "an object")
        kind = value.get(tag)
        if not isinstance(kind, str):
            _refuse((*path, tag), kind, "a string")
        kinds.get(kind, _json)(value, path)

    return rule


def _list(each: _Rule, least: int = 0, most: int = sys.maxsize, allowed: str = "a list") -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, _LISTS) or not least <= len(value) <= most:
            _refuse(path, value, allowed)
        for index, item in enumerate(value):
            each(item, (*path, index))

    return rule


def _string_or(other: _Rule, kind: type | tuple[type, ...], allowed: str) -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if isinstance(value, str):
            _str(value, path)
        elif isinstance(value, kind):
            other(value, path)
        else:
            _refuse(path, value, allowed)

    return rule


def _number(low: float, high: float, kinds: frozenset[type], allowed: str) -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        # Not isinstance(): True is an int.
        if type(value) not in kinds or not low <= value <= high:
            _refuse(path, value, allowed)

    return rule


def _real(low: int, high: int) -> _Rule:
    return _number(low, high, frozenset({int, float}), f"a number from {low} to {high}")


def _integer(low: int = -(2**63), high: int = 2**63 - 1, allowed: str = "") -> _Rule:
    allowed = allowed or f"an integer from {low} to {high}"
    return _number(low, high, frozenset({int}), allowed)


def _string(least: int = 0, most: int = sys.maxsize, allowed: str = "a string") -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, str) or not least <= len(value) <= most:
            _refuse(path, value, allowed)
        if not value.isascii():
            _json_string(value, path)

    return rule


def _flag(value: Any, path: _Path) -> None:
    if not isinstance(value, bool):
        _refuse(path, value, "True or False")


def _name(value: Any, path: _Path) -> None:
    if not isinstance(value, str) or not _is_name(value):
        _refuse(path, value, "a name of 1 to 64 letters, digits, _ or -")


def _schema(value: Any, path: _Path) -> None:
    if not isinstance(value, dict):
        _refuse(path, value, "an object")
    _json(value, path)


def _logit_bias(value: Any, path: _Path) -> None:
    if not isinstance(value, dict):
        _refuse(path, value, "an object")
    for token, bias in value.items():
        if not isinstance(token, str) or not (token.isascii() and token.isdigit()):
            _refuse(path, token, "token ids as keys")
        _bias(bias, (*path, token))


def _metadata(value: Any, path: _Path) -> None:
    if not isinstance(value, dict) or len(value) > 16:  # noqa: PLR2004
        _refuse(path, value, "an object of at most 16 entries")
    for key, item in value.items():
        _metadata_key(key, path)
        _metadata_value(item, (*path, key))


_is_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_str = _string()
_count = _integer(1, allowed="an integer of at least 1")
_bias = _integer(-100, 100)
_metadata_key = _string(most=64, allowed="keys that are strings of at most 64 characters")
_metadata_value = _string(most=512, allowed="a string of at most 512 characters")

# Messages.

_cache = _object("mode", mode=_str, ttl=_str)
_image = _object("url", url=_str, detail=_str)
_sound = _object("data", "format", data=_str, format=_str)
_file = _object(file_data=_str, file_id=_str, filename=_str)
_part = _tagged(
    "type",
    text=_object("text", text=_str, prompt_cache_breakpoint=_cache),
    image_url=_object("image_url", image_url=_image, prompt_cache_breakpoint=_cache),
    input_audio=_object("input_audio", input_audio=_sound, prompt_cache_breakpoint=_cache),
    file=_object("file", file=_file, prompt_cache_breakpoint=_cache),
    refusal=_object("refusal", refusal=_str),
)
_TEXT_OR_PARTS = "a string or a non-empty list of parts"
_content = _string_or(_list(_part, least=1, allowed=_TEXT_OR_PARTS), _LISTS, _TEXT_OR_PARTS)

_id = _object("id", id=_str)
_function_call = _object("name", "arguments", name=_str, arguments=_str)
_custom_call = _object("name", "input", name=_str, input=_str)
_tool_call = _tagged(
    "type",
    function=_object("id", "function", id=_str, function=_function_call),
    custom=_object("id", "custom", id=_str, custom=_custom_call),
)
_answer = _object(
    content=_content,
    refusal=_str,
    name=_str,
    audio=_id,
    tool_calls=_list(_tool_call),
    function_call=_function_call,
)
_INSTEAD_OF_CONTENT = (
    "tool_calls",
    "function_call",
    "refusal",
    "audio",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
)


def _assistant(value: dict[str, Any], path: _Path) -> None:
    _answer(value, path)
    if value.get("content") is None and not any(map(value.get, _INSTEAD_OF_CONTENT)):
        _refuse((*path, "content"), None, f"{_TEXT_OR_PARTS}, or tool_calls beside it")


_prompt = _object("content", content=_content, name=_str)
_message = _tagged(
    "role",
    system=_prompt,
    developer=_prompt,
    user=_prompt,
    assistant=_assistant,
    tool=_object("content", "tool_call_id", content=_content, tool_call_id=_str),
    function=_object("name", content=_str, name=_str),
)

# Tools.

_function = _object("name", name=_name, description=_str, parameters=_schema, strict=_flag)
_grammar = _object("definition", "syntax", definition=_str, syntax=_str)
_input_format = _tagged("type", grammar=_object("grammar", grammar=_grammar))
_custom = _object("name", name=_name, description=_str, format=_input_format)
_tool = _tagged(
    "type",
    function=_object("function", function=_function),
    custom=_object("custom", custom=_custom),
)

_tool_name = _object("name", name=_name)
_function_choice = _object("function", function=_tool_name)
_custom_choice = _object("custom", custom=_tool_name)
_one_tool = _tagged("type", function=_function_choice, custom=_custom_choice)
_some_tools = _object("mode", "tools", mode=_str, tools=_list(_one_tool))
_tool_choice = _tagged(
    "type",
    function=_function_choice,
    custom=_custom_choice,
    allowed_tools=_object("allowed_tools", allowed_tools=_some_tools),
)

# Parameters.

_STRING_OR_OBJECT = "a string or an object"
_json_schema = _object("name", name=_name, description=_str, schema=_schema, strict=_flag)
_stage = _object("mode", mode=_str)
_place = _object(city=_str, country=_str, region=_str, timezone=_str)
_location = _tagged("type", approximate=_object("approximate", approximate=_place))
_STOPS = "a string or a list of 1 to 4 strings"

_RULES: dict[str, _Rule] = {
    "model": _string(1, allowed="a non-empty string"),
    "messages": _list(_message, least=1, allowed="a non-empty list of messages"),
    "audio": _object(
        "format", "voice", format=_str, voice=_string_or(_id, dict, _STRING_OR_OBJECT)
    ),
    "frequency_penalty": _real(-2, 2),
    "function_call": _string_or(_tool_name, dict, _STRING_OR_OBJECT),
    "functions": _list(_function),
    "logit_bias": _logit_bias,
    "logprobs": _flag,
    "max_completion_tokens": _count,
    "max_tokens": _count,
    "metadata": _metadata,
    "modalities": _list(_str),
    "moderation": _object("model", model=_str, policy=_object(input=_stage, output=_stage)),
    "n": _count,
    "parallel_tool_calls": _flag,
    "prediction": _tagged("type", content=_object("content", content=_content)),
    "presence_penalty": _real(-2, 2),
    "prompt_cache_key": _str,
    "prompt_cache_options": _object(mode=_str, ttl=_str),
    "prompt_cache_retention": _str,
    "reasoning_effort": _str,
    "response_format": _tagged(
        "type", json_schema=_object("json_schema", json_schema=_json_schema)
    ),
    "safety_identifier": _string(most=128, allowed="a string of at most 128 characters"),
    "seed": _integer(allowed="an integer of at most 64 bits"),
    "service_tier": _str,
    "stop": _string_or(_list(_str, least=1, most=4, allowed=_STOPS), _LISTS, _STOPS),
    "store": _flag,
    "stream": _flag,
    "stream_options": _object(include_usage=_flag, include_obfuscation=_flag),
    "temperature": _real(0, 2),
    "tool_choice": _string_or(_tool_choice, dict, _STRING_OR_OBJECT),
    "tools": _list(_tool),
    "top_logprobs": _integer(0, 20),
    "top_p": _real(0, 1),
    "user": _str,
    "verbosity": _str,
    "web_search_options": _object(search_context_size=_str, user_location=_location),
}

_DEPRECATED = {
    "function_call": "tool_choice",
    "functions": "tools",
    "max_tokens": "max_completion_tokens where the server knows it",
    "prompt_cache_retention": "prompt_cache_options",
    "user": "safety_identifier or prompt_cache_key",
}
_NOT_ALONE = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "max_tokens",
        "modalities",
        "parallel_tool_calls",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)


def check(body: JSONMapping, *, stream: bool, stacklevel: int = 2) -> None:
    """Refuse a *body* of ``wire()`` that no server would take, or that isn't JSON.

    Raises ``RequestError`` with the path of the first thing wrong. Warns with
    ``RequestWarning`` of deprecated names, and of ``temperature`` beside
    ``top_p``; *stacklevel* says whose line that is, 2 the caller's.
    """
    for name, value in body.items():
        rule = _RULES.get(name)
        if rule is None:
            _entries({name: value}, (), {})
        elif value is not None:
            rule(value, (name,))
    for name in ("model", "messages"):
        if body.get(name) is None:
            _RULES[name](None, (name,))
    _check_streaming(body, stream=stream)
    if not _NOT_ALONE.isdisjoint(body):
        _check_together(body)
    if not _DEPRECATED.keys().isdisjoint(body):
        for name in [name for name in body if name in _DEPRECATED and body[name] is not None]:
            message = f"{name} is deprecated, use {_DEPRECATED[name]}"
            warnings.warn(message, RequestWarning, stacklevel=stacklevel)
    if body.get("top_p") is not None and body.get("temperature") is not None:
        message = "temperature and top_p are both given, change one of them"
        warnings.warn(message, RequestWarning, stacklevel=stacklevel)


def _check_streaming(body: JSONMapping, *, stream: bool) -> None:
    if body.get("stream", stream) not in (stream, None):
        _refuse(("stream",), body["stream"], f"{stream}, as the session decides")
    if not stream and body.get("stream_options") is not None:
        _refuse(("stream_options",), body["stream_options"], "nothing without streaming")


def _check_together(body: JSONMapping) -> None:
    get = body.get
    if get("top_logprobs") is not None and not get("logprobs"):
        _refuse(("top_logprobs",), get("top_logprobs"), "nothing without logprobs=True")
    if get("max_tokens") is not None and get("max_completion_tokens") is not None:
        _refuse(("max_tokens",), get("max_tokens"), "nothing beside max_completion_tokens")
    if "audio" in (get("modalities") or ()) and get("audio") is None:
        _refuse(("audio",), None, "a format and a voice, as modalities has audio")
    if not get("tools"):
        for name in ("tool_choice", "parallel_tool_calls"):
            if get(name) is not None:
                _refuse((name,), get(name), "nothing without tools")
    _check_tools(get("tools") or (), get("tool_choice"))
    _check_functions(get("functions") or (), get("function_call"))


def _check_tools(tools: Sequence[Any], choice: Any) -> None:
    kinds: dict[str, str] = {}
    for index, tool in enumerate(tools):
        for path, name in _names(tool, ("tools", index)):
            if name in kinds:
                _refuse(path, name, "a name that no tool before has")
            kinds[name] = path[-2]
    if not isinstance(choice, dict):
        return
    wanted = [*_names(choice, ("tool_choice",))]
    if choice["type"] == "allowed_tools":
        inside = ("tool_choice", "allowed_tools", "tools")
        for index, tool in enumerate(choice["allowed_tools"]["tools"]):
            wanted += _names(tool, (*inside, index))
    for path, name in wanted:
        if kinds.get(name) != path[-2]:
            _refuse(path, name, f"the name of one of the {path[-2]} tools")


def _names(tool: JSONMapping, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Tell where a tool, or a choice of one, has its name; a provider's own may have none."""
    for kind in ("function", "custom"):
        match tool.get(kind):
            case {"name": str(name)}:
                yield (*path, kind, "name"), name


def _check_functions(functions: Sequence[Any], choice: Any) -> None:
    names = [function["name"] for function in functions]
    for index, name in enumerate(names):
        if name in names[:index]:
            _refuse(("functions", index, "name"), name, "a name that no function before has")
    if choice is not None and not names:
        _refuse(("function_call",), choice, "nothing without functions")
    if isinstance(choice, dict) and choice["name"] not in names:
        _refuse(("function_call", "name"), choice["name"], "the name of one of the functions")
