"""Which requests a simulated server turns down."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import orjson

_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    408: ("timeout_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
    529: ("overloaded_error", "overloaded"),
}
_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_FORMATS = ("text", "json_object", "json_schema")
_MOST_STOPS = 4
_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_INTEGERS: dict[str, tuple[int, int]] = {
    "n": (1, 128),
    "max_tokens": (1, 2**31),
    "max_completion_tokens": (1, 2**31),
    "top_logprobs": (0, 20),
    "seed": (-(2**63), 2**63 - 1),
}
_BOOLEANS = ("stream", "logprobs", "parallel_tool_calls")


class Refusal(Exception):  # noqa: N818, not a failure: the server's considered answer
    """An error answer: its status with an OpenAI error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    def body(self) -> bytes:
        """Render the error object."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004, a status
        kind, code = _TYPES.get(self.status, (default, None))
        error = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code or code,
        }
        return orjson.dumps({"error": error})


def parse(raw: bytes) -> dict[str, Any]:
    """Read the JSON object that a request's body should be, or raise ``Refusal``."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        msg = f"We could not parse the JSON body of your request: {exc.msg}"
        raise Refusal(400, msg) from exc
    if not isinstance(body, dict):
        msg = f"The JSON body of your request must be an object, not {_kind(body)}."
        raise Refusal(400, msg)
    return body


def check(body: Mapping[str, Any]) -> None:
    """Raise ``Refusal`` unless *body* asks for a chat completion as it should.

    Parameters nobody knows are welcome, and ``null`` is as good as absent.
    """
    _check_model(body)
    _check_messages(body)
    for name, (low, high) in _NUMBERS.items():
        _check_number(body, name, low, high, (int, float))
    for name, bounds in _INTEGERS.items():
        _check_number(body, name, *bounds, (int,))
    for name in _BOOLEANS:
        _expect(body.get(name), name, bool, "a boolean")
    if body.get("top_logprobs") and not body.get("logprobs"):
        _refuse("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
    _check_stop(body)
    options = _expect(body.get("stream_options"), "stream_options", dict, "an object")
    if options is not None and not body.get("stream"):
        msg = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        _refuse("stream_options", msg)
    _check_tools(body)
    _check_format(body)


def _check_model(body: Mapping[str, Any]) -> None:
    model = body.get("model")
    if not model or not isinstance(model, str):
        msg = "you must provide a model parameter"
        _refuse("model", msg, "missing_required_parameter")
    if model == "no-such-model":
        msg = f"The model `{model}` does not exist or you do not have access to it."
        raise Refusal(404, msg, param="model", code="model_not_found")


def _check_messages(body: Mapping[str, Any]) -> None:
    if body.get("messages") is None:
        msg = "Missing required parameter: 'messages'."
        _refuse("messages", msg, "missing_required_parameter")
    messages = _expect(body["messages"], "messages", list, "an array of messages")
    if not messages:
        _refuse("messages", "Invalid 'messages': empty array.", "empty_array")
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        _expect(message, name, dict, "an object", null=False)
        if message.get("role") not in _ROLES:
            seen = message.get("role")
            msg = f"Invalid '{name}.role': {seen!r}. Supported values are: {', '.join(_ROLES)}."
            _refuse(f"{name}.role", msg, "invalid_value")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            _expect(content, f"{name}.content", str, "a string or an array of parts")


def _check_stop(body: Mapping[str, Any]) -> None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return
    _expect(stop, "stop", list, "a string or an array of strings")
    if len(stop) > _MOST_STOPS or not all(isinstance(one, str) and one for one in stop):
        msg = f"Invalid 'stop': expected at most {_MOST_STOPS} strings that aren't empty."
        _refuse("stop", msg)


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = _expect(body.get("tools"), "tools", list, "an array of tools")
    names = []
    for index, tool in enumerate(tools or ()):
        name = f"tools[{index}]"
        _expect(tool, name, dict, "an object", null=False)
        kind = tool.get("type")
        if kind not in ("function", "custom"):
            _refuse(f"{name}.type", f"Invalid '{name}.type': {kind!r}.", "invalid_value")
        inner = _expect(tool.get(kind), f"{name}.{kind}", dict, "an object", null=False)
        _expect(inner.get("name"), f"{name}.{kind}.name", str, "a string", null=False)
        names.append((kind, inner["name"]))
    choice = body.get("tool_choice")
    match choice:
        case None | "auto" | "none":
            return
        case "required":
            known = bool(names)
        case {"type": "function", "function": {"name": name}}:
            known = ("function", name) in names
        case {"type": "custom", "custom": {"name": name}}:
            known = ("custom", name) in names
        case {"type": "allowed_tools", "allowed_tools": {"tools": [*allowed]}}:
            known = all(
                isinstance(one, dict)
                and ("function", (one.get("function") or {}).get("name")) in names
                for one in allowed
            )
        case _:
            known = False
    if not known:
        _refuse("tool_choice", "Invalid 'tool_choice': not among the tools.")


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = _expect(body.get("response_format"), "response_format", dict, "an object")
    if wanted is None:
        return
    if wanted.get("type") not in _FORMATS:
        msg = f"Invalid 'response_format.type': supported values are: {', '.join(_FORMATS)}."
        _refuse("response_format.type", msg, "invalid_value")
    if wanted["type"] == "json_schema":
        name = "response_format.json_schema"
        _expect(wanted.get("json_schema"), name, dict, "an object", null=False)


def _check_number(
    body: Mapping[str, Any], name: str, low: float, high: float, kinds: tuple[type, ...]
) -> None:
    value: Any = body.get(name)
    if value is None:
        return
    numeric = isinstance(value, kinds) and not isinstance(value, bool)
    if not numeric:
        kind = "an integer" if kinds == (int,) else "a number"
        msg = f"Invalid type for '{name}': expected {kind}, got {_kind(value)}."
        _refuse(name, msg, "invalid_type")
    if not low <= value <= high:
        msg = f"Invalid value for '{name}': expected {low} to {high}, got {value}."
        _refuse(name, msg, "invalid_value")


def _expect(value: Any, name: str, kind: type, words: str, *, null: bool = True) -> Any:
    if not isinstance(value, kind) and not (value is None and null):
        msg = f"Invalid type for '{name}': expected {words}, got {_kind(value)}."
        _refuse(name, msg, "invalid_type")
    return value


def _refuse(param: str, message: str, code: str | None = None) -> NoReturn:
    raise Refusal(400, message, param=param, code=code)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")
