"""JSON to the classes of the wire, and back: the only place that does it.

Reading is in two steps: text to plain dicts (:func:`load`), dicts to classes
(:class:`ChunkDecoder`, :func:`read_completion`). The rule of the second:

**Strict for what carries the answer, open for the rest.**
Choices and their indices, content, refusal, tool calls and finish reasons must be
what they should be, or a :class:`~chatstream.errors.DecodeError` says where they
aren't. Everything else is no reason to lose an answer: what doesn't fit its field,
and fields we don't know, stay as they came in the ``extra`` of the object that
held them. Nothing is coerced (``None`` never becomes ``'None'``).

The chunk is read by hand, because that is done thousands of times a second: a
generated reader took twice as long. What lies around it goes through cattrs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import attrs
import cattrs
import orjson
from attrs import define

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
    TopLogprob,
    Usage,
    Verdict,
    verdict_of,
    whole_text,
)
from chatstream.errors import DecodeError, RequestError, UpstreamError

MAX_CHOICES = 1024
"""Choices and tool calls are numbered below this; a higher number is a fault."""

MAX_NESTING = 256
"""Deeper JSON is a fault: what walks it later mustn't run out of stack."""

T = TypeVar("T")


# --- Text to plain values ----------------------------------------------------


def load(text: str | bytes) -> Any:
    """Read JSON text into plain values; raise ``DecodeError`` if it isn't JSON."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = _load_tolerantly(text)
        except DecodeError as error:
            # What the readers raised holds the whole text.
            error.__context__ = None
            raise
    # Nesting takes two characters a level: short texts need no look.
    if len(text) > 2 * MAX_NESTING and _too_deep(text, value):
        raise DecodeError("$", "JSON", "nesting too deep to read")
    return value


def load_object(text: str | bytes) -> dict[str, Any]:
    """Read the JSON object of an event; raise ``DecodeError`` if it's none."""
    return _whole(load(text))


def load_document(text: str | bytes) -> dict[str, Any]:
    """Read the JSON object that a body is, be it in a list of one (Gemini's errors)."""
    value = load(text)
    return _whole(value[0] if type(value) is list and len(value) == 1 else value)


def _whole(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise DecodeError("$", "object", _kind(value))
    return value


def _load_tolerantly(text: str | bytes) -> Any:
    """Read what orjson refuses but JSON allows: lone surrogates, as servers send them.

    Also the one that explains what is wrong, and where; never with words of the answer.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        return _TOLERANT.decode(text)
    except json.JSONDecodeError as error:
        what = "the end" if error.pos >= len(text) else "something else"
        seen = f"{what} at character {error.pos} of {len(text)}"
    except RecursionError:
        seen = "nesting too deep to read"
    except ValueError as error:
        seen = str(error)
    raise DecodeError("$", "JSON", seen)


def _too_deep(text: str | bytes, value: Any) -> bool:
    opening = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, opening)) <= MAX_NESTING:  # type: ignore[arg-type]  # one kind each
        return False
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [item for item in level if type(item) is dict or type(item) is list]
        if not level:
            return False
        inner = (item.values() if type(item) is dict else item for item in level)
        level = [item for items in inner for item in items]
    return True


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = "a number too large for a float"
        raise ValueError(msg)
    return value


def _small(text: str) -> int:
    if len(text) > 400:  # noqa: PLR2004 a float ends at 309 digits
        msg = f"a number of {len(text)} digits"
        raise ValueError(msg)
    return int(text)


def _no_constant(name: str) -> NoReturn:
    msg = f"{name}, which isn't JSON"
    raise ValueError(msg)


_TOLERANT = json.JSONDecoder(
    parse_float=_finite, parse_int=_small, parse_constant=_no_constant, strict=False
)


def _kind(value: object) -> str:
    """Name a value's type as error messages do."""
    return "null" if value is None else type(value).__name__


# --- What lies around the answer, by cattrs ----------------------------------


class _UnfitError(Exception):
    """A value that isn't what its field wants: it goes to ``extra``."""


def _exactly(value: object, kind: Any) -> Any:
    if type(value) is not kind:
        raise _UnfitError
    return value


def _int(value: object, _: Any = None) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    # More than 64 bits count nothing, and few can write them as JSON again.
    if type(value) is int and -_BEYOND_64_BITS <= value < _BEYOND_64_BITS:
        return value
    raise _UnfitError


_BEYOND_64_BITS = 2**63


def _float(value: object, _: Any = None) -> float:
    if type(value) is int or type(value) is float:
        try:
            return float(value)
        except OverflowError:
            pass
    raise _UnfitError


def _origin(kind: Any) -> Any:
    return get_origin(kind)


_converter = cattrs.Converter(detailed_validation=False)
# cattrs' own hooks coerce (None to 'None', 1 to '1'); these look instead.
_converter.register_structure_hook(str, _exactly)
_converter.register_structure_hook(bool, _exactly)
_converter.register_structure_hook(int, _int)
_converter.register_structure_hook(float, _float)
_converter.register_structure_hook_func(
    lambda kind: _origin(kind) is Mapping, lambda value, _: _exactly(value, dict)
)


@_converter.register_structure_hook_factory(lambda kind: _origin(kind) is tuple)
def _tuple_hook(kind: Any) -> Callable[[object, Any], tuple[Any, ...]]:
    inner = get_args(kind)[0]
    read = _converter.get_structure_hook(inner)
    return lambda value, _: tuple([read(item, inner) for item in _exactly(value, list)])


def _present(kind: Any) -> Any:
    """Return the kind of an optional field when it is there: null never gets to a hook."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if _origin(kind) is UnionType and len(kinds) == 1 else kind


@_converter.register_structure_hook_factory(attrs.has)
def _class_hook(cls: Any) -> Callable[[object, Any], Any]:
    """Read an object into *cls*: null is absence, what doesn't fit goes to ``extra``."""
    attrs.resolve_types(cls)
    types = {field.name: _present(field.type) for field in attrs.fields(cls)}
    del types["extra"]
    hooks = {name: _converter.get_structure_hook(kind) for name, kind in types.items()}
    required = {f.name for f in attrs.fields(cls) if f.default is attrs.NOTHING}
    # A log probability without its number, or one of several tokens, says nothing.
    whole = cls in {ChoiceLogprobs, TokenLogprob, TopLogprob}

    def structure(value: object, _: Any) -> Any:
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in _exactly(value, dict).items():
            if key not in hooks:
                extra[key] = item
            elif item is not None:
                try:
                    known[key] = hooks[key](item, types[key])
                except _UnfitError:
                    if whole:
                        raise
                    extra[key] = item
        if required and not required <= known.keys():
            raise _UnfitError
        return cls(**known, extra=extra)

    return structure


def _fit(raw: dict[str, Any], name: str, cls: type[T], extra: dict[str, Any]) -> T | None:
    """Read a field, or leave it in *extra* as it is if it doesn't fit."""
    value = raw.get(name)
    if value is None:
        return None
    try:
        return _converter.structure(value, cls)
    except _UnfitError:
        extra[name] = value
        return None


# --- The shapes servers disagree on ------------------------------------------


class _Mismatch(Exception):  # noqa: N818 never leaves this module
    """A part of the answer that can't be read; the path grows on the way up."""

    def __init__(self, expected: str, seen: str, path: str = "") -> None:
        self.expected, self.seen, self.path = expected, seen, path

    def under(self, place: str) -> _Mismatch:
        return _Mismatch(self.expected, self.seen, place + self.path)


def _object(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Mismatch("object", _kind(value))
    return value


def _text(raw: dict[str, Any], name: str, extra: dict[str, Any] | None = None) -> str | None:
    """Return a text or ``None``; what is neither goes to *extra*, or else is a mismatch."""
    value = raw.get(name)
    if value is None or type(value) is str:
        return value
    if extra is None:
        raise _Mismatch("str", _kind(value), f".{name}")
    extra[name] = value
    return None


def _part(raw: dict[str, Any], name: str, read: Callable[[dict[str, Any]], T]) -> T | None:
    """Read an object inside another; ``""``, ``[]`` and ``false`` are none."""
    value = raw.get(name)
    if not value and type(value) is not dict:
        return None
    try:
        return read(_object(value))
    except _Mismatch as mismatch:
        raise mismatch.under(f".{name}") from None


def _function(raw: dict[str, Any]) -> FunctionCall:
    """Read a call; arguments may come as an object instead of its JSON text."""
    arguments = raw.get("arguments")
    if type(arguments) is dict or type(arguments) is list:
        arguments = _json_text(arguments)
    elif arguments is not None and type(arguments) is not str:
        raise _Mismatch("str or object", _kind(arguments), ".arguments")
    return FunctionCall(_text(raw, "name"), arguments, _beyond(raw, _FUNCTION_FIELDS))


def _custom(raw: dict[str, Any]) -> CustomToolCall:
    return CustomToolCall(_text(raw, "name"), _text(raw, "input"), _beyond(raw, _CUSTOM_FIELDS))


def _json_text(value: dict[str, Any] | list[Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, or deeper than orjson likes to write
        return json.dumps(value, separators=(",", ":"))


def _beyond(raw: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return what *raw* has beyond the *known* fields."""
    return {} if raw.keys() <= known else {k: v for k, v in raw.items() if k not in known}


def _tool_calls(wire: Any) -> list[ToolCallChunk] | None:
    """Read the calls; a null, or a piece that is no one's and adds nothing, is none."""
    if type(wire) is dict:  # some send a lone call bare
        wire = [wire]
    if type(wire) is not list:
        raise _Mismatch("array", _kind(wire), ".tool_calls")
    if len(wire) > MAX_CHOICES:
        raise _Mismatch(f"at most {MAX_CHOICES} calls", str(len(wire)), ".tool_calls")
    calls = []
    for at, item in enumerate(wire):
        if item is None:
            continue
        try:
            call = _tool_call(_object(item))
        except _Mismatch as mismatch:
            raise mismatch.under(f".tool_calls[{at}]") from None
        if call.index is not None or call.id or call.function or call.custom:
            calls.append(call)
    return calls or None


def _tool_call(raw: dict[str, Any]) -> ToolCallChunk:
    index = raw.get("index")
    if index is not None:
        _check_index(index)
    extra = _beyond(raw, _TOOL_CALL_FIELDS)
    return ToolCallChunk(
        index,
        _text(raw, "id"),
        _text(raw, "type", extra),
        _part(raw, "function", _function),
        _part(raw, "custom", _custom),
        extra,
    )


def _check_index(index: object) -> None:
    if type(index) is not int:
        raise _Mismatch("int", _kind(index), ".index")
    if not 0 <= index < MAX_CHOICES:
        raise _Mismatch(f"0 to {MAX_CHOICES - 1}", str(index), ".index")


def _content_parts(parts: list[Any], delta: Delta) -> None:
    """Read content that is a list: text parts to content, thinking to reasoning."""
    for at, part in enumerate(parts):
        if type(part) is str:
            delta.content = (delta.content or "") + part
            continue
        if type(part) is not dict:
            raise _Mismatch("object", _kind(part), f".content[{at}]")
        text = _part_text(part)
        if part.get("type") in _REASONING_PARTS:
            delta.reasoning = (delta.reasoning or "") + text
        elif part.get("type") == "refusal":
            delta.refusal = (delta.refusal or "") + text
        else:
            delta.content = (delta.content or "") + text


def _part_text(part: Any, depth: int = 4) -> str:
    """Return the text of a part, in whichever field a provider puts it.

    A thinking part may hold a list of text parts, a summary likewise.
    """
    if type(part) is str:
        return part
    if type(part) is not dict or not depth:
        return ""
    for name in ("text", "thinking", "refusal", "summary", "content"):
        value = part.get(name)
        if type(value) is str:
            return value
        if type(value) is list:
            return "".join(_part_text(item, depth - 1) for item in value)
    return ""


_REASONING_PARTS = frozenset({"thinking", "reasoning", "reasoning_text"})
_REASONING_NAMES = ("reasoning_content", "reasoning", "reasoning_text")


def _delta(raw: dict[str, Any]) -> Delta:
    """Read a delta or a whole message: they have the same fields."""
    get = raw.get
    extra = _beyond(raw, _DELTA_FIELDS)
    delta = Delta(_text(raw, "role", extra), extra=extra)
    delta._wire = raw  # noqa: SLF001
    if get("refusal") is not None:
        delta.refusal = _text(raw, "refusal")
    content = get("content")
    if type(content) is list:
        _content_parts(content, delta)
    elif content is not None:
        delta.content = _text(raw, "content")
    # Under the first name that has any: a server in transition sends it under two.
    for name in _REASONING_NAMES:
        if (text := get(name)) is not None and (text := _text(raw, name, extra)) is not None:
            delta.reasoning = delta.reasoning or text
    if (details := get("reasoning_details")) is not None:
        details = [details] if type(details) is dict else details
        if type(details) is list:
            delta.reasoning_details = details
            delta.reasoning = (
                delta.reasoning or "".join(map(_part_text, details)) or delta.reasoning
            )
        else:
            extra["reasoning_details"] = details
    if get("tool_calls"):
        delta.tool_calls = _tool_calls(raw["tool_calls"])
    if get("function_call"):
        delta.function_call = _part(raw, "function_call", _function)
    if get("audio") is not None:
        delta.audio = _fit(raw, "audio", Audio, extra)
    return delta


def _usage(raw: dict[str, Any], extra: dict[str, Any]) -> Usage | None:
    """Read the usage from where a server puts it around the choices; ``{}`` is none."""
    usage = raw.get("usage")
    if usage is not None and (found := _fit(raw, "usage", Usage, extra)) and usage:
        return found
    groq = raw.get("x_groq")  # Groq; whatever doesn't fit in there is in its extra as it is
    return _usage_in(groq) if type(groq) is dict else None


def _usage_in(other: Mapping[str, Any]) -> Usage | None:
    """Read the usage from where it is out of place."""
    return _fit(dict(other), "usage", Usage, {}) if other.get("usage") else None


def _choice(raw: Any, alone: bool) -> ChunkChoice:  # noqa: FBT001 the hot path
    if type(raw) is not dict:
        raise _Mismatch("object", _kind(raw))
    get = raw.get
    index, wire_delta = get("index"), get("delta")
    if type(index) is not int or not 0 <= index < MAX_CHOICES:
        if index is not None:
            _check_index(index)
        if not alone:
            raise _Mismatch("int, as there are several choices", "nothing", ".index")
        index = 0
    if (
        type(wire_delta) is dict
        and len(wire_delta) == 1
        and type(content := wire_delta.get("content")) is str
    ):  # what nearly every chunk holds
        delta = Delta(None, content, None, None, None, None, None, None, {})
        delta._wire = None  # noqa: SLF001
    else:
        delta = _part(raw, "delta", _delta) or Delta()
    extra = {} if raw.keys() <= _CHOICE_FIELDS else _beyond(raw, _CHOICE_FIELDS)
    finish_reason = get("finish_reason") or None  # some servers say "" for not yet
    if finish_reason is not None and type(finish_reason) is not str:
        raise _Mismatch("str", _kind(finish_reason), ".finish_reason")
    logprobs = get("logprobs")
    if logprobs is not None:
        logprobs = _fit(raw, "logprobs", ChoiceLogprobs, extra)
    return ChunkChoice(index, delta, finish_reason, logprobs, extra)


_FUNCTION_FIELDS = frozenset({"name", "arguments"})
_CUSTOM_FIELDS = frozenset({"name", "input"})
_TOOL_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
_DELTA_FIELDS = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "audio", "reasoning_details"}
    | set(_REASONING_NAMES)
)
_CHOICE_FIELDS = frozenset({"index", "delta", "finish_reason", "logprobs"})
_MESSAGE_CHOICE_FIELDS = frozenset({"index", "message", "finish_reason", "logprobs"})
_COMPLETION_FIELDS = frozenset(field.name for field in attrs.fields(ChatCompletion)) - {"extra"}
_ENVELOPE_FIELDS = frozenset(field.name for field in attrs.fields(Envelope)) - {"extra"}
_ENVELOPE_STRINGS = ("id", "object", "model", "service_tier", "system_fingerprint", "obfuscation")


# --- What the other modules call ---------------------------------------------


class ChunkDecoder:
    """Reads the chunks of one stream, which says nearly the same in each of them.

    What stands around the choices is read once while it stays the same, and shared:
    comparing two dicts takes a tenth of the time of reading one. Where even the text
    is that of an earlier chunk but for its content, only the content is read
    (:meth:`repeated`): 0.9 µs a chunk instead of 2.4.
    """

    __slots__ = ("_envelope", "_pattern", "_raw", "_unlike")

    def __init__(self) -> None:
        self._raw: dict[str, Any] | None = None
        self._envelope = Envelope()
        self._pattern: _Pattern | None = None
        self._unlike = 0
        """Chunks since the last look for a pattern that were read in full."""

    def repeated(self, text: str) -> ChatCompletionChunk | None:
        """Read a chunk that is an earlier one but for its content; ``None`` if it isn't.

        One JSON value in place of another leaves all around it as it was.
        """
        pattern = self._pattern
        if (
            pattern is None
            or not text.startswith(pattern.before)
            or not text.endswith(pattern.after)
            or len(text) < pattern.length
        ):
            return None
        try:
            content = orjson.loads(text[pattern.start : pattern.stop])
        except orjson.JSONDecodeError:
            return None
        if type(content) is not str:
            return None
        index, extra, envelope = pattern.rest
        delta = Delta(None, content, None, None, None, None, None, None, {})
        delta._wire = None  # noqa: SLF001
        return ChatCompletionChunk([ChunkChoice(index, delta, None, None, extra)], envelope)

    def decode(self, text: str, raw: dict[str, Any]) -> ChatCompletionChunk:
        """Read a chunk, whose object *raw* is used up; raise ``DecodeError`` with the path."""
        wire = raw.pop("choices", None)
        try:
            choices = _choices(wire)
        except _Mismatch as mismatch:
            raise DecodeError("$" + mismatch.path, mismatch.expected, mismatch.seen) from None
        again = raw == self._raw  # which takes true for 1: so does no server
        if not again:
            self._envelope, self._raw = _envelope(raw), raw
        chunk = ChatCompletionChunk(choices, self._envelope)
        for choice in choices:
            if choice.extra and chunk.usage is None and (usage := _usage_in(choice.extra)):
                # Moonshot
                chunk.envelope, again = attrs.evolve(chunk.envelope, usage=usage), False
        self._unlike += 1
        if again and len(choices) == 1 and self._unlike >= LOOK_EVERY and len(text) < MAX_PATTERN:
            self._unlike = 0
            self._pattern = _pattern(text, {**raw, "choices": wire}, chunk) or self._pattern
        return chunk


MAX_PATTERN = 16 * 1024
"""Longer texts are kept by no stream; a hostile server's would be."""

LOOK_EVERY = 8
"""To look for a pattern takes longer than to read a chunk; short streams end before
it pays, and some have none."""


@define
class _Pattern:
    """The text of a chunk around the value of its content, and what the text says."""

    before: str
    after: str
    length: int
    start: int
    stop: int
    rest: tuple[int, Mapping[str, Any], Envelope]


def _pattern(text: str, raw: dict[str, Any], chunk: ChatCompletionChunk) -> _Pattern | None:
    """Find the content in the *text* of a chunk; ``None`` if there is more to it.

    Whether what was found is the content is seen by putting something else there.
    """
    choice = chunk.choices[0]
    delta, extra = choice.delta, choice.extra
    if choice != ChunkChoice(choice.index, Delta(content=delta.content), extra=extra):
        return None
    before, _, after = text.partition(f'"{delta.content}"')
    raw["choices"] = [{**raw["choices"][0], "delta": {"content": _OTHER}}]
    try:
        found = orjson.loads(f'{before}"{_OTHER}"{after}') == raw
    except orjson.JSONDecodeError:
        return None
    if not found:
        return None
    length, start, stop = len(before + after), len(before), -len(after)
    return _Pattern(before, after, length, start, stop, (choice.index, extra, chunk.envelope))


_OTHER = "'what no model says'"


def read_chunk(raw: Mapping[str, Any]) -> ChatCompletionChunk:
    """Read one event's object by itself; raise ``DecodeError`` with the path."""
    return ChunkDecoder().decode("", dict(raw))


def read_completion(raw: dict[str, Any]) -> ChatCompletion:
    """Read a whole answer; raise ``DecodeError`` with the path."""
    try:
        return _completion(raw)
    except _Mismatch as mismatch:
        raise DecodeError("$" + mismatch.path, mismatch.expected, mismatch.seen) from None


def read_error(raw: dict[str, Any], *, is_error: bool = False) -> UpstreamError | None:
    """Return the error an object reports, or ``None`` if it reports none.

    ``{"error": {…}}``, ``{"error": "text"}``, the same in ``x_groq``, or, where the
    server marked it (``event: error``, ``"object": "error"``), the object itself.
    """
    error, groq = raw.get("error"), raw.get("x_groq")
    if not error and type(groq) is dict and groq.get("error"):
        error = groq["error"]
    if not error and type(error) is not dict:
        if not is_error and raw.get("object") != "error":
            return None
        error = raw
    if type(error) is not dict:
        error = {"message": error}
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    if type(message) is not str:
        message = json.dumps(message)
    code, kind = error.get("code"), error.get("type") or raw.get("error_type")  # the latter: TGI
    found = UpstreamError(
        message,
        code=None if code is None else str(code),
        type=kind if type(kind) is str else None,
    )
    # The same request would fail again.
    found.retryable = found.code not in _WRONG_REQUEST and found.type != "invalid_request_error"
    return found


_WRONG_REQUEST = frozenset(
    {"context_length_exceeded", "invalid_api_key", "content_filter", "model_not_found"}
    | {str(status) for status in range(400, 423) if status not in {408, 409}}
)


def parse_arguments(call: FunctionCall) -> dict[str, Any]:
    """Return a function call's arguments as an object; ``{}`` if there are none.

    Raises ``DecodeError`` if the model wrote something else.
    """
    return load_object(call.arguments) if call.arguments else {}


def encode(body: Mapping[str, Any]) -> bytes:
    """Return a request's body as JSON; raise ``RequestError`` if it has none."""
    try:
        text = orjson.dumps(body)
    except TypeError as error:
        raise RequestError("request", str(error), "JSON values") from None
    # orjson's smallest buffer has 4 KB; a stream keeps its request.
    return bytes(memoryview(text)) if len(text) < _SMALL else text


_SMALL = 4096


def to_dict(value: Any) -> Any:
    """Return a value of the wire as plain JSON values: no ``None``, ``extra`` merged."""
    return _converter.unstructure(value)


# --- Reading the whole objects -----------------------------------------------


def _choices(wire: Any) -> list[ChunkChoice]:
    if not wire and (wire is None or type(wire) is list):
        return []
    if type(wire) is not list:
        raise _Mismatch("array", _kind(wire), ".choices")
    if len(wire) > MAX_CHOICES:
        raise _Mismatch(f"at most {MAX_CHOICES} choices", str(len(wire)), ".choices")
    choices: list[ChunkChoice] = []
    alone = len(wire) == 1
    for raw in wire:
        try:
            choices.append(_choice(raw, alone))
        except _Mismatch as mismatch:
            raise mismatch.under(f".choices[{len(choices)}]") from None
    return choices


def _envelope(raw: dict[str, Any]) -> Envelope:
    # Written out for speed: a loop over the fields took half as long again.
    get = raw.get
    extra = {} if raw.keys() <= _ENVELOPE_FIELDS else _beyond(raw, _ENVELOPE_FIELDS)
    id_, kind, model = get("id"), get("object"), get("model")
    tier, fingerprint, padding = get("service_tier"), get("system_fingerprint"), get("obfuscation")
    if not (
        (type(id_) is str or id_ is None)
        and (type(kind) is str or kind is None)
        and (type(model) is str or model is None)
        and (type(tier) is str or tier is None)
        and (type(fingerprint) is str or fingerprint is None)
        and (type(padding) is str or padding is None)
    ):
        id_, kind, model, tier, fingerprint, padding = (
            _text(raw, name, extra) for name in _ENVELOPE_STRINGS
        )
    created = get("created")
    if type(created) is not int:
        created = _created(raw, extra)
    usage = get("usage")
    if usage is not None or "x_groq" in extra:
        usage = _usage(raw, extra)
    moderation = get("moderation")
    if moderation is not None:
        moderation = _fit(raw, "moderation", Moderation, extra)
    return Envelope(id_, created, model, kind, usage, tier, fingerprint, moderation, padding, extra)


def _created(raw: dict[str, Any], extra: dict[str, Any]) -> int | None:
    """Read Unix seconds; some servers have them with a fraction."""
    seconds = _fit(raw, "created", float, extra)
    return None if seconds is None else int(seconds)


def _completion(raw: dict[str, Any]) -> ChatCompletion:
    wire_choices = raw.get("choices")
    if type(wire_choices) is not list:
        raise _Mismatch("array", _kind(wire_choices), ".choices")
    choices = []
    for at, wire_choice in enumerate(wire_choices):
        try:
            choices.append(_message_choice(_object(wire_choice), at))
        except _Mismatch as mismatch:
            raise mismatch.under(f".choices[{at}]") from None
    choices.sort(key=lambda choice: choice.index)
    extra = _beyond(raw, _COMPLETION_FIELDS)
    usage = _usage(raw, extra)
    for choice in choices:  # Moonshot
        usage = usage or _usage_in(choice.extra)
    return ChatCompletion(
        _text(raw, "id", extra),
        tuple(choices),
        _created(raw, extra),
        _text(raw, "model", extra),
        _text(raw, "object", extra) or "chat.completion",
        usage,
        _text(raw, "service_tier", extra),
        _text(raw, "system_fingerprint", extra),
        _fit(raw, "moderation", Moderation, extra),
        extra,
        verdict_of([choice.finish_reason for choice in choices]),
    )


def _message_choice(raw: dict[str, Any], at: int) -> CompletionChoice:
    index = at if raw.get("index") is None else raw["index"]
    _check_index(index)
    try:
        message = _message(_object(raw.get("message")))
    except _Mismatch as mismatch:
        raise mismatch.under(".message") from None
    extra = _beyond(raw, _MESSAGE_CHOICE_FIELDS)
    return CompletionChoice(
        index,
        message,
        _text(raw, "finish_reason") if raw.get("finish_reason") else None,
        _fit(raw, "logprobs", ChoiceLogprobs, extra),
        extra,
    )


def _message(raw: dict[str, Any]) -> Message:
    said = _delta(raw)
    extra = {name: value for name, value in said.extra.items() if name != "annotations"}
    return Message(
        said.role or "assistant",
        said.content,
        said.reasoning,
        said.refusal,
        tuple(
            ToolCall(call.id, call.type, call.function, call.custom, call.extra)
            for call in said.tool_calls
        )
        if said.tool_calls
        else None,
        said.function_call,
        said.audio,
        _fit(raw, "annotations", tuple[Annotation, ...], extra),
        None if said.reasoning_details is None else tuple(said.reasoning_details),
        extra,
    )


# --- Classes to plain values -------------------------------------------------


@_converter.register_unstructure_hook_factory(attrs.has)
def _plain_hook(cls: Any) -> Callable[[Any], dict[str, Any]]:
    names = [field.name for field in attrs.fields(cls) if field.name not in {"extra", "_wire"}]

    def plain(value: Any) -> dict[str, Any]:
        fields = ((name, getattr(value, name)) for name in names)
        known = {name: to_dict(item) for name, item in fields if item is not None}
        extra = to_dict(getattr(value, "extra", {}))
        # Of what came both fitting and not, the one that was read counts.
        return {**known, **{name: item for name, item in extra.items() if not known.get(name)}}

    return plain


@_converter.register_unstructure_hook
def _plain_chunk(chunk: ChatCompletionChunk) -> dict[str, Any]:
    return {**to_dict(chunk.envelope), "choices": to_dict(chunk.choices)}


_converter.register_unstructure_hook(str, whole_text)
_converter.register_unstructure_hook(Verdict, str)
