"""JSON to the classes of the wire, and back: the only place that does it.

Reading is in two steps: text to plain dicts (:func:`load`), dicts to classes
(:func:`read_chunk`, :func:`read_completion`). Both are strict about what we know
(``None`` never becomes ``'None'``) and open to what we don't: unknown fields are
kept in ``extra``. What can't be read raises a
:class:`~chatstream.errors.DecodeError` with the place.

The chunk is read by hand, because that is done thousands of times a second: a
generated reader took twice as long. Everything else goes through cattrs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import attrs
import cattrs
import orjson

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
    FunctionCall,
    Message,
    Moderation,
    ToolCall,
    ToolCallChunk,
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
        value = _load_tolerantly(text)
    # Nesting takes two characters a level: short texts need no look.
    if len(text) > 2 * MAX_NESTING and _too_deep(text, value):
        raise DecodeError("$", "JSON", "nesting too deep to read")
    return value


def load_object(text: str | bytes) -> dict[str, Any]:
    """Read the JSON object of an event; raise ``DecodeError`` if it's none."""
    value = load(text)
    if type(value) is not dict:
        raise DecodeError("$", "object", _kind(value))
    return value


def _load_tolerantly(text: str | bytes) -> Any:
    """Read what orjson refuses but JSON allows: lone surrogates, as servers send them.

    Also the one that explains what is wrong, and where.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        return _TOLERANT.decode(text)
    except json.JSONDecodeError as error:
        at = f"{text[error.pos : error.pos + 20]!r} at character {error.pos}"
        if error.pos >= len(text):
            at = f"the end at character {error.pos}"
        raise DecodeError("$", "JSON", at) from None
    except RecursionError:
        raise DecodeError("$", "JSON", "nesting too deep to read") from None
    except ValueError as error:
        raise DecodeError("$", "JSON", str(error)) from None


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
        msg = f"the number {text[:20]}, too large for a float"
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


# --- Plain values to classes, by cattrs --------------------------------------


class _Mismatch(Exception):  # noqa: N818 never leaves this module
    """A value that isn't what its place wants; the path grows on the way up."""

    def __init__(self, expected: str, seen: str, path: str = "") -> None:
        super().__init__(expected, seen, path)
        self.expected = expected
        self.seen = seen
        self.path = path

    def under(self, place: str) -> _Mismatch:
        return _Mismatch(self.expected, self.seen, place + self.path)


def _str(value: object, _: Any = None) -> str:
    if type(value) is not str:
        raise _Mismatch("str", _kind(value))
    return value


def _int(value: object, _: Any = None) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise _Mismatch("int", _kind(value))


def _float(value: object, _: Any = None) -> float:
    if type(value) is int or type(value) is float:
        try:
            return float(value)
        except OverflowError:
            raise _Mismatch("float", "an int too large for it") from None
    raise _Mismatch("float", _kind(value))


def _bool(value: object, _: Any = None) -> bool:
    if type(value) is not bool:
        raise _Mismatch("bool", _kind(value))
    return value


def _object(value: object, _: Any = None) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Mismatch("object", _kind(value))
    return value


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise _Mismatch("array", _kind(value))
    return value


def _origin(kind: Any) -> Any:
    return get_origin(kind)


_converter = cattrs.Converter(detailed_validation=False)
# cattrs' own hooks coerce (None to 'None', 1 to '1'); these look instead.
_converter.register_structure_hook(str, _str)
_converter.register_structure_hook(int, _int)
_converter.register_structure_hook(float, _float)
_converter.register_structure_hook(bool, _bool)
_converter.register_structure_hook_func(lambda kind: _origin(kind) is Mapping, _object)


@_converter.register_structure_hook_factory(lambda kind: _origin(kind) is tuple)
def _tuple_hook(kind: Any) -> Callable[[object, Any], tuple[Any, ...]]:
    inner = get_args(kind)[0]
    read = _converter.get_structure_hook(inner)

    def structure(value: object, _: Any) -> tuple[Any, ...]:
        items = []
        for at, item in enumerate(_list(value)):
            try:
                items.append(read(item, inner))
            except _Mismatch as mismatch:
                raise mismatch.under(f"[{at}]") from None
        return tuple(items)

    return structure


@_converter.register_structure_hook_factory(attrs.has)
def _class_hook(cls: Any) -> Callable[[object, Any], Any]:
    """Read an object into *cls*: null is absence, unknown keys go to ``extra``."""
    attrs.resolve_types(cls)
    types = {field.name: field.type for field in attrs.fields(cls) if field.name != "extra"}
    hooks = {name: _converter.get_structure_hook(kind) for name, kind in types.items()}
    required = [f.name for f in attrs.fields(cls) if f.default is attrs.NOTHING]

    def structure(value: object, _: Any) -> Any:
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in _object(value).items():
            if key not in hooks:
                extra[key] = item
            elif item is not None:
                try:
                    known[key] = hooks[key](item, types[key])
                except _Mismatch as mismatch:
                    raise mismatch.under(f".{key}") from None
        for name in required:
            if name not in known:
                raise _Mismatch(types[name].__name__, "nothing", f".{name}")
        return cls(**known, extra=extra)

    return structure


def _read(value: object, cls: type[T], place: str) -> T:
    try:
        return _converter.structure(value, cls)
    except _Mismatch as mismatch:
        raise mismatch.under(place) from None


# --- The shapes servers disagree on ------------------------------------------


@_converter.register_structure_hook
def _function_call(value: object, _: Any) -> FunctionCall:
    """Read a call; arguments may come as an object instead of its JSON text."""
    raw = _object(value)
    name, arguments = raw.get("name"), raw.get("arguments")
    if name is not None and type(name) is not str:
        raise _Mismatch("str", _kind(name), ".name")
    if type(arguments) is dict or type(arguments) is list:
        arguments = _json_text(arguments)
    elif arguments is not None and type(arguments) is not str:
        raise _Mismatch("str or object", _kind(arguments), ".arguments")
    return FunctionCall(name, arguments, _beyond(raw, _FUNCTION_FIELDS))


def _json_text(value: dict[str, Any] | list[Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, or deeper than orjson likes to write
        return json.dumps(value, separators=(",", ":"))


def _beyond(raw: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return what *raw* has beyond the *known* fields."""
    return {} if raw.keys() <= known else {k: v for k, v in raw.items() if k not in known}


def _tool_call(value: object) -> ToolCallChunk:
    raw = _object(value)
    index = raw.get("index")
    if index is not None:
        _check_index(index)
    function, custom = raw.get("function"), raw.get("custom")
    for name in ("id", "type"):
        if raw.get(name) is not None and type(raw[name]) is not str:
            raise _Mismatch("str", _kind(raw[name]), f".{name}")
    return ToolCallChunk(
        index,
        raw.get("id"),
        raw.get("type"),
        None if function is None else _read(function, FunctionCall, ".function"),
        None if custom is None else _read(custom, CustomToolCall, ".custom"),
        _beyond(raw, _TOOL_CALL_FIELDS),
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
    content = raw.get("content")
    delta = Delta(extra=_beyond(raw, _DELTA_FIELDS), wire=raw)
    for name in ("role", "refusal"):
        value = raw.get(name)
        if value is not None and type(value) is not str:
            raise _Mismatch("str", _kind(value), f".{name}")
    delta.role, delta.refusal = raw.get("role"), raw.get("refusal")
    if type(content) is list:
        _content_parts(content, delta)
    elif content is not None:
        if type(content) is not str:
            raise _Mismatch("str", _kind(content), ".content")
        delta.content = content
    _reasoning(raw, delta)
    if (calls := raw.get("tool_calls")) is not None:
        if type(calls) is dict:  # some send a lone call bare
            calls = [calls]
        if type(calls) is not list:
            raise _Mismatch("array", _kind(calls), ".tool_calls")
        if len(calls) > MAX_CHOICES:
            raise _Mismatch(f"at most {MAX_CHOICES} calls", str(len(calls)), ".tool_calls")
        delta.tool_calls = []
        for at, call in enumerate(calls):
            try:
                delta.tool_calls.append(_tool_call(call))
            except _Mismatch as mismatch:
                raise mismatch.under(f".tool_calls[{at}]") from None
    if (call := raw.get("function_call")) is not None:
        delta.function_call = _read(call, FunctionCall, ".function_call")
    if (audio := raw.get("audio")) is not None:
        delta.audio = _read(audio, Audio, ".audio")
    return delta


def _reasoning(raw: dict[str, Any], delta: Delta) -> None:
    """Read the reasoning under the first name that has any.

    A server in transition sends the same text under two names.
    """
    for name in _REASONING_NAMES:
        value = raw.get(name)
        if value is not None and type(value) is not str:
            raise _Mismatch("str", _kind(value), f".{name}")
        if value and not delta.reasoning:
            delta.reasoning = value
        elif value == "" and delta.reasoning is None:
            delta.reasoning = ""
    details = raw.get("reasoning_details")
    if details is not None:
        if type(details) is not list:
            raise _Mismatch("array", _kind(details), ".reasoning_details")
        delta.reasoning_details = details
        text = "".join(map(_part_text, details))
        if text and not delta.reasoning:
            delta.reasoning = text


def _usage(raw: dict[str, Any], choices: list[Any] | None) -> Usage | None:
    """Read the usage from wherever the server puts it; ``{}`` is none."""
    if usage := raw.get("usage"):
        return _read(usage, Usage, ".usage")
    groq = raw.get("x_groq")  # Groq
    if type(groq) is dict and groq.get("usage"):
        return _read(groq["usage"], Usage, ".x_groq.usage")
    for at, choice in enumerate(choices or ()):  # Moonshot
        if type(choice) is dict and choice.get("usage"):
            return _read(choice["usage"], Usage, f".choices[{at}].usage")
    return None


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
    if type(wire_delta) is dict:
        content = wire_delta.get("content")
        if len(wire_delta) == 1 and type(content) is str:  # what nearly every chunk holds
            delta = Delta(None, content, None, None, None, None, None, None, {}, wire_delta)
        else:
            try:
                delta = _delta(wire_delta)
            except _Mismatch as mismatch:
                raise mismatch.under(".delta") from None
    elif wire_delta is None:
        delta = Delta()
    else:
        raise _Mismatch("object", _kind(wire_delta), ".delta")
    finish_reason = get("finish_reason")
    if finish_reason is not None and type(finish_reason) is not str:
        raise _Mismatch("str", _kind(finish_reason), ".finish_reason")
    logprobs = get("logprobs")
    if logprobs is not None:
        logprobs = _read(logprobs, ChoiceLogprobs, ".logprobs")
    return ChunkChoice(
        index,
        delta,
        finish_reason or None,  # some servers say "" for not yet
        logprobs,
        {} if raw.keys() <= _CHOICE_FIELDS else _beyond(raw, _CHOICE_FIELDS),
    )


_FUNCTION_FIELDS = frozenset({"name", "arguments"})
_TOOL_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
_DELTA_FIELDS = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "audio", "reasoning_details"}
    | set(_REASONING_NAMES)
)
_CHOICE_FIELDS = frozenset({"index", "delta", "finish_reason", "logprobs"})
_MESSAGE_CHOICE_FIELDS = frozenset({"index", "message", "finish_reason", "logprobs"})
_COMPLETION_FIELDS = frozenset(field.name for field in attrs.fields(ChatCompletion)) - {"extra"}
_CHUNK_FIELDS = frozenset(field.name for field in attrs.fields(ChatCompletionChunk)) - {"extra"}
_ENVELOPE_STRINGS = ("id", "model", "object", "service_tier", "system_fingerprint", "obfuscation")


# --- What the other modules call ---------------------------------------------


def read_chunk(raw: dict[str, Any]) -> ChatCompletionChunk:
    """Read one event's object; raise ``DecodeError`` with the path."""
    try:
        return _chunk(raw)
    except _Mismatch as mismatch:
        raise DecodeError("$" + mismatch.path, mismatch.expected, mismatch.seen) from None


def read_completion(raw: dict[str, Any]) -> ChatCompletion:
    """Read a whole answer; raise ``DecodeError`` with the path."""
    try:
        return _completion(raw)
    except _Mismatch as mismatch:
        raise DecodeError("$" + mismatch.path, mismatch.expected, mismatch.seen) from None


def read_error(raw: dict[str, Any], *, is_error: bool = False) -> UpstreamError | None:
    """Return the error an object reports, or ``None`` if it reports none.

    ``{"error": {…}}``, ``{"error": "text"}``, or, where the server marked it
    (``event: error``, ``"object": "error"``), the object itself.
    """
    error = raw.get("error")
    if error is None or error == "" or error is False:
        if not is_error and raw.get("object") != "error":
            return None
        error = raw
    if type(error) is not dict:
        error = {"message": error}
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    if type(message) is not str:
        message = json.dumps(message)
    code, kind = error.get("code"), error.get("type") or raw.get("error_type")  # the latter: TGI
    return UpstreamError(
        message,
        code=None if code is None else str(code),
        type=kind if type(kind) is str else None,
    )


def parse_arguments(call: FunctionCall) -> dict[str, Any]:
    """Return a function call's arguments as an object; ``{}`` if there are none.

    Raises ``DecodeError`` if the model wrote something else.
    """
    return load_object(call.arguments) if call.arguments else {}


def encode(body: Mapping[str, Any]) -> bytes:
    """Return a request's body as JSON; raise ``RequestError`` if it has none."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise RequestError("request", str(error), "JSON values") from None


def to_dict(value: Any) -> Any:
    """Return a value of the wire as plain JSON values: no ``None``, ``extra`` merged."""
    return _converter.unstructure(value)


# --- Reading the whole objects -----------------------------------------------


def _chunk(raw: dict[str, Any]) -> ChatCompletionChunk:
    # Written out for speed: a loop over the fields took half as long again.
    get = raw.get
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
        _check_envelope(raw)
    created = get("created")
    if type(created) is not int:
        created = _created(created)

    wire_choices = get("choices")
    choices = []
    if wire_choices:
        if type(wire_choices) is not list:
            raise _Mismatch("array", _kind(wire_choices), ".choices")
        if len(wire_choices) > MAX_CHOICES:
            raise _Mismatch(f"at most {MAX_CHOICES} choices", str(len(wire_choices)), ".choices")
        alone = len(wire_choices) == 1
        for choice in wire_choices:
            try:
                choices.append(_choice(choice, alone))
            except _Mismatch as mismatch:
                raise mismatch.under(f".choices[{len(choices)}]") from None
    elif wire_choices is not None and type(wire_choices) is not list:
        raise _Mismatch("array", _kind(wire_choices), ".choices")

    usage = get("usage")
    if raw.keys() <= _CHUNK_FIELDS:
        extra = {}
        # Usage may hide in a choice, in a field we don't know otherwise.
        if usage is not None or any([choice.extra for choice in choices]):  # noqa: C419 twice as fast as a generator
            usage = _usage(raw, wire_choices)
    else:
        extra = _beyond(raw, _CHUNK_FIELDS)
        usage = _usage(raw, wire_choices)
    moderation = get("moderation")
    if moderation is not None:
        moderation = _read(moderation, Moderation, ".moderation")
    return ChatCompletionChunk(
        id_, choices, created, model, kind, usage, tier, fingerprint, moderation, padding, extra
    )


def _check_envelope(raw: dict[str, Any]) -> None:
    for name in _ENVELOPE_STRINGS:
        if raw.get(name) is not None and type(raw[name]) is not str:
            raise _Mismatch("str", _kind(raw[name]), f".{name}")


def _created(value: object) -> int | None:
    """Read Unix seconds; some servers have them with a fraction."""
    try:
        return None if value is None else int(_float(value))
    except _Mismatch as mismatch:
        raise mismatch.under(".created") from None


def _completion(raw: dict[str, Any]) -> ChatCompletion:
    _check_envelope(raw)
    wire_choices = raw.get("choices")
    if type(wire_choices) is not list:
        raise _Mismatch("array", _kind(wire_choices), ".choices")
    choices = []
    for at, choice in enumerate(wire_choices):
        try:
            choices.append(_message_choice(choice, at))
        except _Mismatch as mismatch:
            raise mismatch.under(f".choices[{at}]") from None
    choices.sort(key=lambda choice: choice.index)
    moderation = raw.get("moderation")
    return ChatCompletion(
        raw.get("id"),
        tuple(choices),
        _created(raw.get("created")),
        raw.get("model"),
        raw.get("object") or "chat.completion",
        _usage(raw, wire_choices),
        raw.get("service_tier"),
        raw.get("system_fingerprint"),
        None if moderation is None else _read(moderation, Moderation, ".moderation"),
        _beyond(raw, _COMPLETION_FIELDS),
        verdict_of([choice.finish_reason for choice in choices]),
    )


def _message_choice(value: object, at: int) -> CompletionChoice:
    raw = _object(value)
    index = at if raw.get("index") is None else raw["index"]
    _check_index(index)
    finish_reason = raw.get("finish_reason")
    if finish_reason is not None:
        try:
            _str(finish_reason)
        except _Mismatch as mismatch:
            raise mismatch.under(".finish_reason") from None
    logprobs = raw.get("logprobs")
    try:
        message = _message(_object(raw.get("message")))
    except _Mismatch as mismatch:
        raise mismatch.under(".message") from None
    return CompletionChoice(
        index,
        message,
        finish_reason or None,
        None if logprobs is None else _read(logprobs, ChoiceLogprobs, ".logprobs"),
        _beyond(raw, _MESSAGE_CHOICE_FIELDS),
    )


def _message(raw: dict[str, Any]) -> Message:
    said = _delta(raw)
    annotations = raw.get("annotations")
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
        None if annotations is None else _read(annotations, tuple[Annotation, ...], ".annotations"),
        None if said.reasoning_details is None else tuple(said.reasoning_details),
        {name: value for name, value in said.extra.items() if name != "annotations"},
    )


# --- Classes to plain values -------------------------------------------------


@_converter.register_unstructure_hook_factory(attrs.has)
def _plain_hook(cls: Any) -> Callable[[Any], dict[str, Any]]:
    names = [field.name for field in attrs.fields(cls) if field.name not in {"extra", "wire"}]

    def plain(value: Any) -> dict[str, Any]:
        fields = ((name, getattr(value, name)) for name in names)
        known = {name: to_dict(item) for name, item in fields if item is not None}
        return {**known, **to_dict(getattr(value, "extra", {}))}

    return plain


_converter.register_unstructure_hook(str, whole_text)
_converter.register_unstructure_hook(Verdict, str)
