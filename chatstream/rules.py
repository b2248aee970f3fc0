"""What may be sent: the rules for the body of a request.

They look at the plain values of ``wire()`` alone, so that typed requests and
dictionaries obey the same ones. Some hold always: a body is JSON. The others are
those of OpenAI's reference, as far as no compatible server needs more room:
enumerations are open, unknown keys, roles and kinds pass as long as they are JSON.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from chatstream.errors import RequestError, one_line
from chatstream.messages import MAX_DEPTH, JSONMapping, too_deep


class RequestWarning(UserWarning):
    """The request will be sent, but it may not do what was meant."""


def check_json(body: dict[str, Any]) -> None:
    """Refuse a *body* of ``wire()`` that can't be sent, whatever the server takes.

    Raises ``RequestError`` with the path of the first thing that isn't JSON, or
    that the session itself can't do without: a model, a list of messages, and
    ``n``, if it is there, an integer.
    """
    _LEAST(body, ())


def check(body: dict[str, Any], *, stream: bool, stacklevel: int = 2) -> None:
    """Refuse a *body* of ``wire()`` that no server would take; ``check_json()`` is part of it.

    Raises ``RequestError`` with the path of the first thing wrong. Warns with
    ``RequestWarning`` of deprecated names, and of ``temperature`` beside
    ``top_p``; *stacklevel* says whose line that is, 2 the caller's.
    """
    _BODY(body, ())
    get = body.get
    if get("stream", stream) not in (stream, None):
        _refuse(("stream",), get("stream"), f"{stream}, as the session decides")
    if not stream and get("stream_options") is not None:
        _refuse(("stream_options",), get("stream_options"), "nothing without streaming")
    _check_together(body)
    doubts = [
        f"{name} is deprecated, use {_DEPRECATED[name]}"
        for name, value in body.items()
        if name in _DEPRECATED and value is not None
    ]
    if get("top_p") is not None and get("temperature") is not None:
        doubts.append("temperature and top_p are both given, change one of them")
    for doubt in doubts:
        warnings.warn(doubt, RequestWarning, stacklevel=stacklevel)


_DEPRECATED = {
    "function_call": "tool_choice",
    "functions": "tools",
    "max_tokens": "max_completion_tokens where the server knows it",
    "prompt_cache_retention": "prompt_cache_options",
    "user": "safety_identifier or prompt_cache_key",
}


def _check_together(body: JSONMapping) -> None:
    get = body.get
    if get("top_logprobs") is not None and not get("logprobs"):
        _refuse(("top_logprobs",), get("top_logprobs"), "nothing without logprobs=True")
    if get("max_tokens") is not None and get("max_completion_tokens") is not None:
        _refuse(("max_tokens",), get("max_tokens"), "nothing beside max_completion_tokens")
    if "audio" in (get("modalities") or ()) and get("audio") is None:
        _refuse(("audio",), None, "a format and a voice, as modalities has audio")
    for name, needed in _ONLY_WITH.items():
        if get(name) is not None and not get(needed):
            _refuse((name,), get(name), f"nothing without {needed}")
    if get("tools"):
        _check_tools(body["tools"], get("tool_choice"))
    if get("functions"):
        _check_functions(body["functions"], get("function_call"))


_ONLY_WITH = {"tool_choice": "tools", "parallel_tool_calls": "tools", "function_call": "functions"}


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
    if isinstance(choice, dict) and choice["name"] not in names:
        _refuse(("function_call", "name"), choice["name"], "the name of one of the functions")


# A rule looks at one plain value and raises RequestError if it may not be sent.
# Rules for objects and lists are made of rules, so that the tables below read
# like the reference. No rule takes None: an entry that is null counts as left
# out, and one that must be there is shown None for its rule to say what it wants.

_Path: TypeAlias = tuple[Any, ...]
_Rule: TypeAlias = Callable[[Any, _Path], None]

_LISTS = (list, tuple)

# What people wrote, or who they are: of these an error tells the length alone.
_PRIVATE = frozenset(
    {"messages", "metadata", "prediction", "prompt_cache_key", "safety_identifier", "stop", "user"}
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
    kind = type(value)
    if kind is str:
        if not _is_text(value):
            raise RequestError(_path(path), "a lone surrogate", "text that UTF-8 can hold")
    elif kind is dict:
        _entries(value, path, {})
    elif kind is list or kind is tuple:
        _items(value, path, _json)
    elif kind is int:
        if not -(2**63) <= value < 2**64:
            _refuse(path, value, "an integer of at most 64 bits")
    elif kind is float:
        if not isfinite(value):
            _refuse(path, value, "a finite number")
    elif value is not None and kind is not bool:
        _refuse(path, value, "a JSON value")


def _entries(value: dict[Any, Any], path: _Path, rules: Mapping[str, _Rule]) -> None:
    if len(path) > MAX_DEPTH:
        raise too_deep(_path(path))
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


def _items(value: Sequence[Any], path: _Path, rule: _Rule) -> None:
    if len(path) > MAX_DEPTH:
        raise too_deep(_path(path))
    for index, item in enumerate(value):
        rule(item, (*path, index))


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
        _items(value, path, each)

    return rule


def _pairs(key: _Rule, each: _Rule, most: int = sys.maxsize, allowed: str = "an object") -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, dict) or len(value) > most:
            _refuse(path, value, allowed)
        for name, item in value.items():
            key(name, path)
            each(item, (*path, name))

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


def _number(low: float, high: float, *kinds: type, allowed: str = "") -> _Rule:
    allowed = allowed or f"{'a number' if float in kinds else 'an integer'} from {low} to {high}"

    def rule(value: Any, path: _Path) -> None:
        # Not isinstance(): True is an int.
        if type(value) not in kinds or not low <= value <= high:
            _refuse(path, value, allowed)

    return rule


def _string(least: int = 0, most: int = sys.maxsize, allowed: str = "a string") -> _Rule:
    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, str) or not least <= len(value) <= most:
            _refuse(path, value, allowed)
        if not value.isascii():
            _json(value, path)

    return rule


def _matching(pattern: str, allowed: str) -> _Rule:
    matches = re.compile(pattern).fullmatch

    def rule(value: Any, path: _Path) -> None:
        if not isinstance(value, str) or not matches(value):
            _refuse(path, value, allowed)

    return rule


def _flag(value: Any, path: _Path) -> None:
    if not isinstance(value, bool):
        _refuse(path, value, "True or False")


_str = _string()
_name = _matching(r"[A-Za-z0-9_-]{1,64}", "a name of 1 to 64 letters, digits, _ or -")
_count = _number(1, 2**63 - 1, int, allowed="an integer of at least 1")
_signed = _number(-(2**63), 2**63 - 1, int, allowed="an integer of at most 64 bits")

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

_function = _object("name", name=_name, description=_str, parameters=_object(), strict=_flag)
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
_json_schema = _object("name", name=_name, description=_str, schema=_object(), strict=_flag)
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
    "frequency_penalty": _number(-2, 2, int, float),
    "function_call": _string_or(_tool_name, dict, _STRING_OR_OBJECT),
    "functions": _list(_function),
    "logit_bias": _pairs(_matching(r"[0-9]+", "token ids as keys"), _number(-100, 100, int)),
    "logprobs": _flag,
    "max_completion_tokens": _count,
    "max_tokens": _count,
    "metadata": _pairs(
        _string(most=64, allowed="keys that are strings of at most 64 characters"),
        _string(most=512, allowed="a string of at most 512 characters"),
        most=16,
        allowed="an object of at most 16 entries",
    ),
    "modalities": _list(_str),
    "moderation": _object("model", model=_str, policy=_object(input=_stage, output=_stage)),
    "n": _count,
    "parallel_tool_calls": _flag,
    "prediction": _tagged("type", content=_object("content", content=_content)),
    "presence_penalty": _number(-2, 2, int, float),
    "prompt_cache_key": _str,
    "prompt_cache_options": _object(mode=_str, ttl=_str),
    "prompt_cache_retention": _str,
    "reasoning_effort": _str,
    "response_format": _tagged(
        "type", json_schema=_object("json_schema", json_schema=_json_schema)
    ),
    "safety_identifier": _string(most=128, allowed="a string of at most 128 characters"),
    "seed": _signed,
    "service_tier": _str,
    "stop": _string_or(_list(_str, least=1, most=4, allowed=_STOPS), _LISTS, _STOPS),
    "store": _flag,
    "stream": _flag,
    "stream_options": _object(include_usage=_flag, include_obfuscation=_flag),
    "temperature": _number(0, 2, int, float),
    "tool_choice": _string_or(_tool_choice, dict, _STRING_OR_OBJECT),
    "tools": _list(_tool),
    "top_logprobs": _number(0, 20, int),
    "top_p": _number(0, 1, int, float),
    "user": _str,
    "verbosity": _str,
    "web_search_options": _object(search_context_size=_str, user_location=_location),
}

_LEAST = _object("model", "messages", model=_str, messages=_list(_json), n=_signed)
_BODY = _object("model", "messages", **_RULES)
