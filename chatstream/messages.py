"""What is said to a model: the messages of a request.

The classes mirror the wire one to one: a field is called as its key is. Where a
class is expected a mapping will do, and keys of a provider that aren't here ride
along in ``extra``. What the model said is a message too: append
``completion.choices[0].message`` as it is, and what its server takes back is sent.
"""
# ruff: noqa: PYI051 `Literal[…] | str`: an editor offers the known words, any other may be sent

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

from attrs import field, fields, frozen, has

from chatstream.completion import Audio, FunctionCall, Message, ToolCall
from chatstream.errors import RequestError
from chatstream.values import Value

MAX_DEPTH = 100
"""How many levels a request may nest; each takes up to three of Python's 1,000 frames."""

JSONMapping: TypeAlias = Mapping[str, Any]


@frozen(eq=False, repr=False)
class Open(Value):
    """May carry keys that aren't fields; they win over those that are."""

    extra: JSONMapping = field(factory=dict, kw_only=True)


# Parts of a message.


@frozen(eq=False, repr=False)
class PromptCacheBreakpoint(Open):
    """Marks the end of a prefix that is worth caching."""

    mode: Literal["explicit"] | str = "explicit"
    ttl: Literal["30m", "12h"] | str | None = None


@frozen(eq=False, repr=False)
class TextPart(Open):
    """Text, in any message."""

    type: Literal["text"] = field(default="text", init=False)
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class ImageURL(Open):
    """Where an image is: ``https:``, or the image itself as ``data:``."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | str | None = None


@frozen(eq=False, repr=False)
class ImagePart(Open):
    """An image, in a user message; ``image()`` makes one."""

    type: Literal["image_url"] = field(default="image_url", init=False)
    image_url: ImageURL
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class InputAudio(Open):
    """Sound in base64, and how it is coded."""

    data: str
    format: Literal["wav", "mp3"] | str


@frozen(eq=False, repr=False)
class InputAudioPart(Open):
    """Sound, in a user message."""

    type: Literal["input_audio"] = field(default="input_audio", init=False)
    input_audio: InputAudio
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False, kw_only=True)
class FileData(Open):
    """A file in base64 (``file_data``), or one uploaded before (``file_id``)."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


@frozen(eq=False, repr=False)
class FilePart(Open):
    """A file, in a user message."""

    type: Literal["file"] = field(default="file", init=False)
    file: FileData
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class RefusalPart(Open):
    """The model's refusal, in an assistant message."""

    type: Literal["refusal"] = field(default="refusal", init=False)
    refusal: str


Part: TypeAlias = TextPart | ImagePart | InputAudioPart | FilePart | RefusalPart
Content: TypeAlias = str | Sequence[Part | JSONMapping]


@frozen(eq=False, repr=False)
class AudioReference(Open):
    """An answer that was spoken, by the ``id`` it came with."""

    id: str


# Messages.


@frozen(eq=False, repr=False)
class AnyMessage(Open):
    """What all messages are, so that a list of several kinds has a type."""


@frozen(eq=False, repr=False)
class SystemMessage(AnyMessage):
    """How the model shall behave."""

    role: Literal["system"] = field(default="system", init=False)
    content: Content
    name: str | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class DeveloperMessage(AnyMessage):
    """How the model shall behave; reasoning models take it for ``system``."""

    role: Literal["developer"] = field(default="developer", init=False)
    content: Content
    name: str | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class UserMessage(AnyMessage):
    """What the user says and shows: text, or parts as ``[text(…), image(…)]``."""

    role: Literal["user"] = field(default="user", init=False)
    content: Content
    name: str | None = field(default=None, kw_only=True)


@frozen(eq=False, repr=False)
class AssistantMessage(AnyMessage):
    """What the model answered before.

    ``content`` may be left out beside a call, a refusal, audio or reasoning. A
    server that wants the key all the same gets ``extra={"content": None}``.
    ``tool_calls`` and ``audio`` of a completion can be given as they are.
    ``reasoning`` is that key; where it has another name, it goes into ``extra``
    (``reasoning_content`` at DeepSeek, which wants it back after tool calls).
    """

    role: Literal["assistant"] = field(default="assistant", init=False)
    content: Content | None = None
    name: str | None = field(default=None, kw_only=True)
    refusal: str | None = field(default=None, kw_only=True)
    reasoning: str | None = field(default=None, kw_only=True)
    audio: AudioReference | Audio | None = field(default=None, kw_only=True)
    tool_calls: Sequence[ToolCall | JSONMapping] | None = field(default=None, kw_only=True)
    function_call: FunctionCall | None = field(default=None, kw_only=True)
    """Deprecated, for ``tool_calls``."""


@frozen(eq=False, repr=False)
class ToolMessage(AnyMessage):
    """What a tool returned for the call ``tool_call_id``."""

    role: Literal["tool"] = field(default="tool", init=False)
    content: Content
    tool_call_id: str = field(kw_only=True)


@frozen(eq=False, repr=False)
class FunctionMessage(AnyMessage):
    """What a function returned. Deprecated, for ``ToolMessage``."""

    role: Literal["function"] = field(default="function", init=False)
    content: str | None
    name: str = field(kw_only=True)


MessageParam: TypeAlias = AnyMessage | Message | JSONMapping
"""What may stand in ``messages``; ``Message`` is a completion's."""

# The short names, for conversations: [system("Be brief."), user("Hi")].

system = SystemMessage
developer = DeveloperMessage
user = UserMessage
assistant = AssistantMessage
tool = ToolMessage
text = TextPart


def image(
    url: str, detail: Literal["auto", "low", "high", "original"] | str | None = None
) -> ImagePart:
    """Make a part that is the image at *url* (``https:`` or ``data:``)."""
    return ImagePart(ImageURL(url, detail))


# To plain values.

_ATOMS = frozenset({str, int, float, bool, type(None)})
_EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)


def to_wire(value: Any, parameter: str = "value", room: int = MAX_DEPTH) -> Any:
    """Return a copy of *value* in plain JSON values: ``dict``, ``list``, ``str`` and so on.

    Fields that are ``None`` are left out, ``extra`` is merged in; entries of a
    mapping stay, even ``None``. What can't be made plain stays, for the rules to
    refuse. Raises ``RequestError`` that names *parameter* beyond *room* levels,
    which is where a value that holds itself ends.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if not room:
        raise too_deep(parameter)
    if kind is not dict and kind is not list:
        value = _opened(value, parameter)
        kind = type(value)
    if kind is dict:
        return {
            key if type(key) is str else _key(key): (
                item if type(item) in _ATOMS else to_wire(item, parameter, room - 1)
            )
            for key, item in value.items()
        }
    if kind is list:
        return [
            item if type(item) in _ATOMS else to_wire(item, parameter, room - 1) for item in value
        ]
    return value


def _opened(value: Any, parameter: str) -> Any:
    """Return a ``dict``, a ``list``, an atom, or *value* if it is like none of them."""
    kind: Any = type(value)
    if kind is Message:
        return _handed_back(value)
    if kind is Audio:
        return {"id": value.id}
    names = _fields(kind)
    if names is not None:
        items = [(name, getattr(value, name)) for name in names]
        plain = {name: item for name, item in items if item is not None}
        plain.update(checked_mapping(plain.pop("extra", {}), parameter))
        if kind is ToolCall:
            plain.setdefault("type", "custom" if value.custom else "function")
        elif kind is FunctionCall:
            plain.setdefault("arguments", "")
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


def _handed_back(message: Message) -> dict[str, Any]:
    """Return what of an answer its server takes back.

    That is what was said, and ``content`` even as ``null``, as it came: beside
    calls, OpenAI failed and others refused without the key. What was thought
    and noted stays here, and so does ``extra`` of the message; that of a call
    goes back, as Gemini refuses its calls without their ``thought_signature``.
    """
    plain = {"role": message.role, "content": message.content}
    for name in ("refusal", "tool_calls", "function_call", "audio"):
        if value := getattr(message, name):
            plain[name] = value
    return plain


def _key(key: object) -> object:
    return str.__str__(key) if isinstance(key, str) else key


@cache
def _fields(kind: type) -> tuple[str, ...] | None:
    return tuple(each.name for each in fields(kind)) if has(kind) else None


def checked_mapping(value: Any, parameter: str) -> JSONMapping:
    """Return *value* if it is a mapping; raise ``RequestError`` if it isn't."""
    if not isinstance(value, Mapping):
        raise RequestError(parameter, type(value).__name__, "a mapping")
    return value


def too_deep(path: str) -> RequestError:
    """Return the error that says so."""
    seen = f"more than {MAX_DEPTH} levels, or a value that holds itself"
    return RequestError(path, seen, f"at most {MAX_DEPTH} levels")
