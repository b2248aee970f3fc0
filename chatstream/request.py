"""What is asked of a model: the messages with all parameters.

::

    ChatRequest.of(…) ─→ wire(…) ─→ rules.check(…) ─→ codec
     names               plain JSON   types, ranges,
                         values       what fits together

A field is called as its key on the wire is. Keys of a provider that aren't here
ride along in ``extra`` (of a class) or ``extra_body`` (of the request).
"""
# ruff: noqa: PYI051 `Literal[…] | str`: an editor offers the known words, any other may be sent

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal, TypeAlias, TypedDict

from attrs import field, fields, frozen

from chatstream.errors import RequestError, one_line
from chatstream.messages import (
    JSONMapping,
    MessageParam,
    Open,
    TextPart,
    checked_mapping,
    to_wire,
)
from chatstream.values import Value

# Tools.


@frozen(eq=False, repr=False)
class FunctionDefinition(Open):
    """A function the model may call; ``parameters`` is a JSON schema.

    ``name`` has 1 to 64 letters, digits, ``_`` and ``-``. With ``strict`` the
    arguments follow the schema exactly.
    """

    name: str
    description: str | None = field(default=None, kw_only=True)
    parameters: JSONMapping | None = field(default=None, kw_only=True)
    strict: bool | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class FunctionTool(Open):
    """A tool that is called with JSON."""

    type: Literal["function"] = field(default="function", init=False)
    function: FunctionDefinition


@frozen(eq=False, repr=False)
class TextFormat(Open):
    """Free text: an answer's format, or that of a custom tool's input."""

    type: Literal["text"] = field(default="text", init=False)


@frozen(eq=False, repr=False, kw_only=True)
class Grammar(Open):
    """A grammar, written in ``syntax``."""

    definition: str
    syntax: Literal["lark", "regex"] | str


@frozen(eq=False, repr=False)
class GrammarFormat(Open):
    """A custom tool's input follows a grammar."""

    type: Literal["grammar"] = field(default="grammar", init=False)
    grammar: Grammar


@frozen(eq=False, repr=False)
class CustomDefinition(Open):
    """A tool the model may call with text; ``name`` as a function's."""

    name: str
    description: str | None = field(default=None, kw_only=True)
    format: TextFormat | GrammarFormat | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class CustomTool(Open):
    """A tool that is called with text."""

    type: Literal["custom"] = field(default="custom", init=False)
    custom: CustomDefinition


@frozen(eq=False, repr=False)
class ToolName(Open):
    """A tool, by its name."""

    name: str


@frozen(eq=False, repr=False)
class FunctionToolChoice(Open):
    """The model must call this function."""

    type: Literal["function"] = field(default="function", init=False)
    function: ToolName


@frozen(eq=False, repr=False)
class CustomToolChoice(Open):
    """The model must call this custom tool."""

    type: Literal["custom"] = field(default="custom", init=False)
    custom: ToolName


@frozen(eq=False, repr=False, kw_only=True)
class AllowedTools(Open):
    """Some of the tools; ``required`` if one of them must be called."""

    mode: Literal["auto", "required"] | str
    tools: Sequence[FunctionToolChoice | CustomToolChoice | JSONMapping]


@frozen(eq=False, repr=False)
class AllowedToolsChoice(Open):
    """The model may call only these tools."""

    type: Literal["allowed_tools"] = field(default="allowed_tools", init=False)
    allowed_tools: AllowedTools


# Options.


@frozen(eq=False, repr=False, kw_only=True)
class StreamOptions(Open):
    """What a stream brings besides the answer.

    ``include_usage``: token counts in a last chunk; asked for unless this is
    ``False``. ``include_obfuscation``: padding against guessing at lengths.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


@frozen(eq=False, repr=False)
class JSONObjectFormat(Open):
    """The answer is some JSON object; a message must ask for it too."""

    type: Literal["json_object"] = field(default="json_object", init=False)


@frozen(eq=False, repr=False)
class JSONSchema(Open):
    """A JSON schema; ``name`` has 1 to 64 letters, digits, ``_`` and ``-``."""

    name: str
    description: str | None = field(default=None, kw_only=True)
    schema: JSONMapping | None = field(default=None, kw_only=True)
    strict: bool | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class JSONSchemaFormat(Open):
    """The answer is JSON after a schema."""

    type: Literal["json_schema"] = field(default="json_schema", init=False)
    json_schema: JSONSchema


@frozen(eq=False, repr=False)
class Prediction(Open):
    """Most of the answer, as it is expected: what holds is sent faster."""

    type: Literal["content"] = field(default="content", init=False)
    content: str | Sequence[TextPart | JSONMapping]


@frozen(eq=False, repr=False)
class Voice(Open):
    """A voice of one's own, by its ``id``."""

    id: str


@frozen(eq=False, repr=False, kw_only=True)
class AudioOptions(Open):
    """How a spoken answer sounds; needed with ``audio`` in ``modalities``."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"] | str
    voice: str | Voice


@frozen(eq=False, repr=False, kw_only=True)
class ApproximateLocation(Open):
    """Where the user is, roughly.

    ``country`` is a two-letter ISO code, ``timezone`` an IANA name.
    """

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


@frozen(eq=False, repr=False)
class UserLocation(Open):
    """Where a search is made from."""

    type: Literal["approximate"] = field(default="approximate", init=False)
    approximate: ApproximateLocation


@frozen(eq=False, repr=False, kw_only=True)
class WebSearchOptions(Open):
    """How the model searches the web."""

    search_context_size: Literal["low", "medium", "high"] | str | None = None
    user_location: UserLocation | None = None


@frozen(eq=False, repr=False)
class ModerationStage(Open):
    """What is done with the verdict: it is told, or it blocks."""

    mode: Literal["score", "block"] | str


@frozen(eq=False, repr=False, kw_only=True)
class ModerationPolicy(Open):
    """What is moderated: the prompt, the answer."""

    input: ModerationStage | None = None
    output: ModerationStage | None = None


@frozen(eq=False, repr=False)
class Moderation(Open):
    """Moderation of the request, by ``model``."""

    model: str
    policy: ModerationPolicy | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False, kw_only=True)
class PromptCacheOptions(Open):
    """How the prompt is cached."""

    mode: Literal["implicit", "explicit"] | str | None = None
    ttl: Literal["30m"] | str | None = None


# The request.

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
    messages: Sequence[MessageParam]
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


@frozen(eq=False, repr=False, kw_only=True)
class ChatRequest(Value):
    """One request for a completion, as the caller put it.

    What is ``None`` isn't sent. An explicit ``null``, like anything else that
    isn't a parameter here, goes into ``extra_body``. Nothing is checked before
    ``check()``, which sees what ``wire()`` makes of this.
    """

    model: str
    messages: Sequence[MessageParam]
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
    extra_body: JSONMapping = field(factory=dict)
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
        given: dict[Any, Any]
        if isinstance(request, ChatRequest):
            if not params and not extra_body:
                return request
            given = dict(zip(_PARAMETERS, _values(request), strict=True))
            given["extra_body"] = request.extra_body
        else:
            given = {} if request is None else dict(checked_mapping(request, "request"))
        given.update(params)
        extra = dict(checked_mapping(given.pop("extra_body", None) or {}, "extra_body"))
        for name in [name for name in given if name not in _PARAMETERS]:
            if name == "stream" or validate:
                raise _unknown(name, given[name])
            extra[name] = given.pop(name)
        extra.update(checked_mapping(extra_body or {}, "extra_body"))
        for name, allowed in _REQUIRED.items():
            if given.get(name) is None:
                raise RequestError(name, "nothing", allowed)
        return cls(**given, extra_body=extra)


_PARAMETERS = dict.fromkeys(each.name for each in fields(ChatRequest) if each.name != "extra_body")
_REQUIRED = {"model": "a non-empty string", "messages": "a non-empty list of messages"}
_values = attrgetter(*_PARAMETERS)


def _unknown(name: Any, value: object) -> RequestError:
    if name == "stream":
        how = "nothing (session.stream() or session.create() decide this)"
        return RequestError(name, one_line(repr(value), 40), how)
    from difflib import get_close_matches  # noqa: PLC0415 only a mistake should cost its import

    name = one_line(str(name), 40)
    near = get_close_matches(name, _PARAMETERS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    how = f"a parameter of chat completions ({hint}a provider's own goes into extra_body)"
    return RequestError(name, "an unknown name", how)


def wire(request: ChatRequest, *, stream: bool) -> dict[str, Any]:
    """Return the body of *request*, as plain JSON values.

    A stream asks for usage unless the caller says otherwise; ``stream_options``
    of a request that isn't streamed are left out. Raises ``RequestError`` for
    what is nested too deep; all else is left to the rules.
    """
    given = zip(_PARAMETERS, _values(request), strict=True)
    body = {name: to_wire(value, name) for name, value in given if value is not None}
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)
    if request.extra_body:
        body.update(to_wire(checked_mapping(request.extra_body, "extra_body"), "extra_body"))
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
