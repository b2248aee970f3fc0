"""The request, its parameters, and the body that is made of it."""

import attrs
import pytest

from chatstream.errors import RequestError
from chatstream.messages import image, system, text, to_wire, user
from chatstream.request import (
    AllowedTools,
    AllowedToolsChoice,
    ApproximateLocation,
    AudioOptions,
    ChatParams,
    ChatRequest,
    CustomDefinition,
    CustomTool,
    CustomToolChoice,
    FunctionDefinition,
    FunctionTool,
    FunctionToolChoice,
    Grammar,
    GrammarFormat,
    JSONObjectFormat,
    JSONSchema,
    JSONSchemaFormat,
    Moderation,
    ModerationPolicy,
    ModerationStage,
    Prediction,
    PromptCacheOptions,
    StreamOptions,
    TextFormat,
    ToolName,
    UserLocation,
    Voice,
    WebSearchOptions,
    wire,
)
from chatstream.rules import check

HELLO = {"role": "user", "content": "hello"}
WEATHER = {"type": "function", "function": {"name": "weather"}}
LEVELS = "more than 100 levels, or a value that holds itself"


def body(**params):
    return {"model": "m", "messages": [HELLO], **params}


# Classes.


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (
            {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}},
            FunctionTool(FunctionDefinition("f", parameters={}, strict=True)),
        ),
        (
            {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
            CustomTool(CustomDefinition("c", format=TextFormat())),
        ),
        (
            {"type": "grammar", "grammar": {"definition": "d", "syntax": "lark"}},
            GrammarFormat(Grammar(definition="d", syntax="lark")),
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "custom", "custom": {"name": "c"}}],
                },
            },
            AllowedToolsChoice(
                AllowedTools(mode="auto", tools=[CustomToolChoice(ToolName("c"))]),
            ),
        ),
        (
            {"type": "function", "function": {"name": "f"}},
            FunctionToolChoice(ToolName("f")),
        ),
        ({"include_usage": False}, StreamOptions(include_usage=False)),
        ({"type": "json_object"}, JSONObjectFormat()),
        (
            {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
            JSONSchemaFormat(JSONSchema("s", schema={})),
        ),
        ({"type": "content", "content": "p"}, Prediction("p")),
        ({"format": "wav", "voice": {"id": "v"}}, AudioOptions(format="wav", voice=Voice("v"))),
        (
            {"user_location": {"type": "approximate", "approximate": {"city": "Ulm"}}},
            WebSearchOptions(user_location=UserLocation(ApproximateLocation(city="Ulm"))),
        ),
        (
            {"model": "m", "policy": {"input": {"mode": "block"}}},
            Moderation("m", policy=ModerationPolicy(input=ModerationStage("block"))),
        ),
        ({"mode": "explicit", "ttl": "30m"}, PromptCacheOptions(mode="explicit", ttl="30m")),
    ],
)
def test_a_class_becomes_what_the_wire_wants(expected, value):
    assert expected == to_wire(value)


def test_a_request_shows_what_is_set():
    given = ChatRequest(model="m", messages=[HELLO], n=2)

    assert f"ChatRequest(model='m', messages=[{HELLO}], n=2)" == repr(given)


# wire().


def test_what_is_none_is_not_sent():
    given = ChatRequest(model="m", messages=[HELLO], temperature=0, n=None)

    assert {"model": "m", "messages": [HELLO], "temperature": 0} == wire(given, stream=False)


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        ({"include_usage": True}, {}),
        ({"include_usage": True}, {"stream_options": StreamOptions()}),
        ({"include_usage": False}, {"stream_options": StreamOptions(include_usage=False)}),
        (
            {"include_usage": True, "include_obfuscation": False},
            {"stream_options": {"include_obfuscation": False}},
        ),
        (
            {"include_usage": True, "continuous_usage_stats": True},
            {"extra_body": {"stream_options": {"continuous_usage_stats": True}}},
        ),
        (None, {"extra_body": {"stream_options": None}}),
    ],
)
def test_a_stream_asks_for_usage_unless_told_otherwise(expected, params):
    wired = wire(ChatRequest(model="m", messages=[HELLO], **params), stream=True)

    assert wired["stream"] is True
    assert expected == wired["stream_options"]


def test_without_streaming_nothing_is_said_of_it():
    given = ChatRequest(model="m", messages=[HELLO], stream_options=StreamOptions())

    assert {"model", "messages"} == wire(given, stream=False).keys()


def test_stream_options_of_the_caller_are_not_changed():
    options = {"include_obfuscation": False}
    wire(ChatRequest(model="m", messages=[HELLO], stream_options=options), stream=True)

    assert {"include_obfuscation": False} == options


def test_extra_body_wins_and_may_send_null():
    extra = {"temperature": 2, "reasoning_effort": None, "top_k": (1,)}
    given = ChatRequest(model="m", messages=[HELLO], temperature=1, extra_body=extra)

    wired = wire(given, stream=False)

    assert 2 == wired["temperature"]
    assert wired["reasoning_effort"] is None
    assert [1] == wired["top_k"]


def test_extra_body_must_be_a_mapping():
    with pytest.raises(RequestError) as caught:
        wire(ChatRequest(model="m", messages=[HELLO], extra_body=[1]), stream=False)

    assert "extra_body: expected a mapping, got list" == str(caught.value)


def test_token_ids_become_strings():
    given = ChatRequest(model="m", messages=[HELLO], logit_bias={50256: -100, "7": 1})

    assert {"50256": -100, "7": 1} == wire(given, stream=False)["logit_bias"]


@pytest.mark.parametrize(
    "params",
    [
        {"messages": [user("a", extra=["x"])]},
        {"messages": [HELLO], "metadata": user("a", extra=[])},
    ],
)
def test_extra_of_a_class_must_be_a_mapping(params):
    with pytest.raises(RequestError) as caught:
        wire(ChatRequest(model="m", **params), stream=False)

    assert f"{[*params][-1]}: expected a mapping, got list" == str(caught.value)


@pytest.mark.parametrize("name", ["messages", "metadata", "extra_body"])
def test_a_value_that_holds_itself_is_refused_by_its_parameter(name):
    ring = {}
    ring["ring"] = ring
    given = {"model": "m", "messages": [HELLO]} | {name: ring}

    with pytest.raises(RequestError) as caught:
        wire(ChatRequest(**given), stream=False)

    assert f"{name}: expected at most 100 levels, got {LEVELS}" == str(caught.value)


def test_typed_and_plain_requests_are_the_same_on_the_wire():
    typed = ChatRequest(
        model="m",
        messages=[system("s"), user([text("t"), image("u")])],
        tools=[FunctionTool(FunctionDefinition("weather"))],
        tool_choice=FunctionToolChoice(ToolName("weather")),
        response_format=JSONObjectFormat(),
    )
    plain = ChatRequest(
        model="m",
        messages=[
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "u"}},
                ],
            },
        ],
        tools=[WEATHER],
        tool_choice=WEATHER,
        response_format={"type": "json_object"},
    )

    assert wire(plain, stream=True) == wire(typed, stream=True)
    check(wire(typed, stream=True), stream=True)


# ChatRequest.of().


def test_parameters_alone_make_a_request():
    assert ChatRequest(model="m", messages=[HELLO], n=2) == ChatRequest.of(None, body(n=2))


@pytest.mark.parametrize(
    "base", [ChatRequest(model="m", messages=[HELLO], n=2, seed=1), body(n=2, seed=1)]
)
def test_keywords_win_over_the_request(base):
    made = ChatRequest.of(base, {"n": 3, "seed": None})

    assert ChatRequest(model="m", messages=[HELLO], n=3) == made


def test_a_request_alone_is_taken_as_it_is():
    base = ChatRequest(model="m", messages=[HELLO])

    assert base is ChatRequest.of(base, {})


@pytest.mark.parametrize(
    "base",
    [
        ChatRequest(model="m", messages=[HELLO], extra_body={"a": 1, "b": 1}),
        body(extra_body={"a": 1, "b": 1}),
    ],
)
def test_extra_bodies_are_merged(base):
    made = ChatRequest.of(base, {}, extra_body={"b": 2})

    assert {"a": 1, "b": 2} == made.extra_body


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ("(did you mean temperature? a provider's own goes into extra_body)", "temprature"),
        ("(a provider's own goes into extra_body)", "zzz"),
        ("(a provider's own goes into extra_body)", 7),
    ],
)
@pytest.mark.parametrize("base", [None, ChatRequest(model="m", messages=[HELLO])])
def test_an_unknown_name_is_refused_with_a_hint(expected, name, base):
    with pytest.raises(RequestError) as caught:
        ChatRequest.of(base, body() | {name: "secret"})

    assert (
        f"{name}: expected a parameter of chat completions {expected}, got an unknown name"
        == str(caught.value)
    )


def test_an_unknown_name_is_refused_in_a_mapping_too():
    with pytest.raises(RequestError) as caught:
        ChatRequest.of(body(top_k=1), {})

    assert "top_k" == caught.value.parameter


def test_without_validation_unknown_names_go_into_extra_body():
    made = ChatRequest.of(None, body(top_k=1), extra_body={"min_p": 0}, validate=False)

    assert {"top_k": 1, "min_p": 0} == made.extra_body


@pytest.mark.parametrize("validate", [True, False])
def test_streaming_is_not_a_parameter(validate):
    """
    Which of the session's methods is called decides it.
    """
    with pytest.raises(RequestError) as caught:
        ChatRequest.of(None, body(stream=True), validate=validate)

    assert (
        "stream: expected nothing (session.stream() or session.create() decide this), got True"
        == str(caught.value)
    )


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        ("model: expected a non-empty string, got nothing", {"messages": [HELLO]}),
        ("messages: expected a non-empty list of messages, got nothing", {"model": "m"}),
        ("messages: expected a non-empty list of messages, got nothing", body(messages=None)),
    ],
)
@pytest.mark.parametrize("validate", [True, False])
def test_model_and_messages_are_required(expected, params, validate):
    with pytest.raises(RequestError) as caught:
        ChatRequest.of(None, params, validate=validate)

    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("request: expected a mapping, got str", {"request": "hello"}),
        ("extra_body: expected a mapping, got list", {"request": body(extra_body=[1])}),
        ("extra_body: expected a mapping, got list", {"request": body(), "extra_body": [1]}),
    ],
)
def test_a_request_is_a_mapping_or_a_chat_request(expected, arguments):
    with pytest.raises(RequestError) as caught:
        ChatRequest.of(params={}, **arguments)

    assert expected == str(caught.value)


def test_keyword_parameters_are_those_of_the_request():
    fields = {field.name: field.type for field in attrs.fields(ChatRequest)}
    del fields["extra_body"]

    assert fields == {
        name: reference.__forward_arg__ for name, reference in ChatParams.__annotations__.items()
    }
