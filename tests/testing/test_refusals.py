"""chatstream.testing.refusals."""

import orjson
import pytest

from chatstream.testing.refusals import Refusal, check, parse

GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "f"}}
CUSTOM = {"type": "custom", "custom": {"name": "c"}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": None, "stop": None, "tools": None},
        {"temperature": 2, "top_p": 0.5, "n": 2, "max_tokens": 1, "seed": -1},
        {"logprobs": True, "top_logprobs": 20},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stop": "x"},
        {"stop": ["x", "y"]},
        {"tools": [TOOL, CUSTOM], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": TOOL},
        {"tools": [CUSTOM], "tool_choice": CUSTOM},
        {
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [TOOL]}},
        },
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"nobody": "knows me"},
    ],
    ids=str,
)
def test_good_requests_pass(more):
    check(GOOD | more)


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 3}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "me"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", None),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {}}, "stream_options", None),
        ({"stop": 3}, "stop", "invalid_type"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", None),
        ({"stop": [""]}, "stop", None),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tools": [3]}, "tools[0]", "invalid_type"),
        ({"tools": [{"type": "hammer"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "invalid_type"),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "tools[0].function.name",
            "invalid_type",
        ),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tool_choice": TOOL}, "tool_choice", None),
        ({"tool_choice": "maybe"}, "tool_choice", None),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [TOOL]}}},
            "tool_choice",
            None,
        ),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "invalid_type",
        ),
    ],
    ids=str,
)
def test_bad_requests_are_refused(more, param, code):
    with pytest.raises(Refusal) as caught:
        check(GOOD | more)

    error = orjson.loads(caught.value.body())["error"]
    assert 400 == caught.value.status
    assert ("invalid_request_error", param, code) == (error["type"], error["param"], error["code"])
    assert error["message"]


def test_a_model_that_is_not_there():
    with pytest.raises(Refusal) as caught:
        check(GOOD | {"model": "no-such-model"})

    assert 404 == caught.value.status
    assert "model_not_found" == orjson.loads(caught.value.body())["error"]["code"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"{", "could not parse"), (b"", "could not parse"), (b"[]", "an array"), (b"1", "a number")],
)
def test_a_body_must_be_a_json_object(raw, words):
    with pytest.raises(Refusal, match=words):
        parse(raw)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (418, "invalid_request_error"), (500, "server_error")],
)
def test_the_type_follows_the_status(status, kind):
    assert kind == orjson.loads(Refusal(status, "x").body())["error"]["type"]
