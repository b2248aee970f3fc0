"""The messages of a request, and what is sent of them."""

import enum
from collections import OrderedDict, deque
from decimal import Decimal
from types import MappingProxyType

import attrs
import pytest

from chatstream.codec import load_object, read_completion
from chatstream.completion import (
    Annotation,
    Audio,
    CustomToolCall,
    FunctionCall,
    Message,
    ToolCall,
)
from chatstream.errors import RequestError
from chatstream.messages import (
    MAX_DEPTH,
    AssistantMessage,
    AudioReference,
    FileData,
    FilePart,
    FunctionMessage,
    ImagePart,
    ImageURL,
    InputAudio,
    InputAudioPart,
    PromptCacheBreakpoint,
    RefusalPart,
    TextPart,
    UserMessage,
    assistant,
    developer,
    image,
    system,
    text,
    to_wire,
    tool,
    user,
)
from chatstream.rules import check

HELLO = {"role": "user", "content": "hello"}
LEVELS = "more than 100 levels, or a value that holds itself"


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 9


class Grams(float):
    pass


# Classes and constructors.


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ({"role": "system", "content": "s"}, system("s")),
        ({"role": "developer", "content": "d", "name": "n"}, developer("d", name="n")),
        ({"role": "user", "content": "u", "x": 1}, user("u", extra={"x": 1})),
        ({"role": "assistant", "content": "a"}, assistant("a")),
        ({"role": "assistant"}, assistant()),
        ({"role": "assistant", "refusal": "no"}, assistant(refusal="no")),
        (
            {"role": "assistant", "content": "a", "reasoning": "r", "name": "n"},
            assistant("a", reasoning="r", name="n"),
        ),
        (
            {"role": "assistant", "content": None, "reasoning_content": "r"},
            assistant(extra={"content": None, "reasoning_content": "r"}),
        ),
        ({"role": "assistant", "audio": {"id": "a"}}, assistant(audio=AudioReference("a"))),
        (
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "2", "type": "custom", "custom": {"name": "c", "input": "i"}},
                    {"id": "3"},
                ],
            },
            assistant(
                tool_calls=[
                    ToolCall("1", function=FunctionCall("f", "{}")),
                    ToolCall("2", custom=CustomToolCall("c", "i")),
                    {"id": "3"},
                ]
            ),
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": ""}},
            AssistantMessage(function_call=FunctionCall("f", "")),
        ),
        ({"role": "tool", "content": "t", "tool_call_id": "1"}, tool("t", tool_call_id="1")),
        ({"role": "function", "content": "t", "name": "f"}, FunctionMessage("t", name="f")),
        (
            {"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
            TextPart("t", prompt_cache_breakpoint=PromptCacheBreakpoint()),
        ),
        ({"type": "text", "text": "t"}, text("t")),
        ({"type": "image_url", "image_url": {"url": "u"}}, image("u")),
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
            image("u", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "u"}, "cache_control": {"type": "e"}},
            ImagePart(ImageURL("u"), extra={"cache_control": {"type": "e"}}),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
            InputAudioPart(InputAudio("d", "wav")),
        ),
        (
            {"type": "file", "file": {"file_id": "f", "filename": "n"}},
            FilePart(FileData(file_id="f", filename="n")),
        ),
        ({"type": "refusal", "refusal": "no"}, RefusalPart("no")),
    ],
)
def test_a_class_becomes_what_the_wire_wants(expected, value):
    assert expected == to_wire(value)


def test_values_compare_by_their_fields():
    assert user("a") == UserMessage("a")
    assert user("a") != user("b")
    assert user("a") != system("a")
    assert user("a") != {"role": "user", "content": "a"}


def test_values_cannot_be_changed_or_hashed():
    message = user("a")

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.content = "b"
    with pytest.raises(TypeError):
        hash(message)


def test_values_show_what_is_set():
    message = user([image("u")], extra={"x": 1})

    assert "UserMessage(extra={'x': 1}, content=[ImagePart(image_url=ImageURL(url='u'))])" == repr(
        message
    )


# What the model said, handed back.

CALL = ToolCall("1", "function", FunctionCall("f", "{}"))
WIRED_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"content": "a"}, Message(content="a")),
        ({"content": ""}, Message(content="")),
        ({"content": None, "tool_calls": [WIRED_CALL]}, Message(tool_calls=(CALL,))),
        ({"content": "a"}, Message(content="a", tool_calls=())),
        ({"content": None, "refusal": "no"}, Message(refusal="no")),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            Message(function_call=FunctionCall("f", "{}")),
        ),
        (
            {"content": None, "audio": {"id": "a"}},
            Message(audio=Audio("a", "UklGRg==", "hello", 1_700_000_000, {"x": 1})),
        ),
        ({"role": "model", "content": "a"}, Message("model", "a")),
    ],
)
def test_an_answer_goes_back_as_it_was_said(expected, message):
    """
    With ``content`` even if it is null: beside calls some servers refuse without the key.
    """
    expected = {"role": "assistant"} | expected

    wired = to_wire([HELLO, message])

    assert [HELLO, expected] == wired
    check({"model": "m", "messages": wired}, stream=True)


def test_what_is_about_an_answer_does_not_go_back():
    """
    Most servers refuse or ignore what they added themselves.
    """
    message = Message(
        content="a",
        reasoning="r",
        annotations=(Annotation("url_citation"),),
        reasoning_details=({"type": "reasoning.text"},),
        extra={"provider_specific_fields": {}},
    )

    assert {"role": "assistant", "content": "a"} == to_wire(message)


def test_a_call_goes_back_with_what_its_provider_added():
    """
    Gemini 3 refuses its calls without their ``thought_signature``.
    """
    signature = {"extra_content": {"google": {"thought_signature": "s"}}}
    message = Message(tool_calls=(attrs.evolve(CALL, extra=signature),))

    assert [WIRED_CALL | signature] == to_wire(message)["tool_calls"]


@pytest.mark.parametrize(
    ("expected", "call"),
    [
        (WIRED_CALL, attrs.evolve(CALL, type=None)),
        (
            {"id": "2", "type": "custom", "custom": {"name": "c", "input": "i"}},
            ToolCall("2", None, None, CustomToolCall("c", "i")),
        ),
        (
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}},
            ToolCall("1", None, FunctionCall("f")),
        ),
    ],
)
def test_what_a_server_left_out_of_a_call_is_made_good(expected, call):
    """
    A call without arguments is read with none, and sent with those a stream would give.
    """
    assert [expected] == to_wire(Message(tool_calls=(call,)))["tool_calls"]
    assert [expected] == to_wire(assistant(tool_calls=(call,)))["tool_calls"]


def test_parts_of_an_answer_fit_into_a_message_of_ones_own():
    said = Message(tool_calls=(CALL,), audio=Audio("a", "UklGRg=="))

    mine = assistant(tool_calls=said.tool_calls, audio=said.audio)

    assert {
        "role": "assistant",
        "tool_calls": [WIRED_CALL],
        "audio": {"id": "a"},
    } == to_wire(mine)


def test_a_conversation_goes_on_with_what_came():
    completion = read_completion(
        load_object(
            """{"id": "c", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": null, "refusal": null, "annotations": [],
            "reasoning_content": "Let me see.", "tool_calls": [{"id": "1", "type": "function",
            "function": {"name": "f", "arguments": "{}"}}]}}]}"""
        )
    )
    messages = [user("hello")]

    messages.append(completion.choices[0].message)
    messages.append(tool("42", tool_call_id=completion.choices[0].message.tool_calls[0].id))
    wired = to_wire(messages)

    assert [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [WIRED_CALL]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ] == wired
    check({"model": "m", "messages": wired}, stream=True)


# Plain values.


def test_plain_values_are_copied():
    """
    A request that is sent again is the one that was made, whatever became of its values.
    """
    plain = {"a": [1, "x", {"b": None}], "c": 1.5, "d": True}

    wired = to_wire(plain)

    assert plain == wired
    assert wired is not plain
    assert wired["a"] is not plain["a"]
    assert wired["a"][2] is not plain["a"][2]


def test_what_is_around_a_typed_value_is_copied_not_changed():
    inner = [user("a"), {"b": 1}, user("c")]
    outer = {"messages": inner, "n": user("d"), "m": 1}

    wired = to_wire(outer)

    assert [HELLO | {"content": "a"}, {"b": 1}, HELLO | {"content": "c"}] == wired["messages"]
    assert HELLO | {"content": "d"} == wired["n"]
    assert [user("a"), {"b": 1}, user("c")] == inner


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ({"a": 1}, MappingProxyType({"a": 1})),
        ({"a": [1]}, OrderedDict(a=(1,))),
        ([1, [2]], (1, deque([2]))),
        ([0, 1], range(2)),
        ("red", Colour.RED),
        ({"red": "red"}, {Colour.RED: Colour.RED}),
        (9, Size.BIG),
        (1.5, Grams(1.5)),
    ],
)
def test_what_is_like_a_plain_value_becomes_one(expected, value):
    wired = to_wire(value)

    assert expected == wired
    assert type(expected) is type(wired)


def test_keys_become_exact_strings():
    """
    The encoder takes no other.
    """
    (key,) = to_wire({Colour.RED: 1})

    assert type(key) is str


@pytest.mark.parametrize("value", ["x", 1, 1.5, True, None])
def test_what_has_no_parts_stays_itself(value):
    assert value is to_wire(value)


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x"), {1}, Decimal(1)])
def test_what_is_not_json_is_left_for_the_rules(value):
    assert to_wire(value) is value


def test_keys_that_are_no_strings_are_left_for_the_rules():
    assert {1: "a", None: "b"} == to_wire({1: "a", None: "b"})


def test_any_attrs_class_can_be_a_message():
    """
    Another library's, or the caller's own.
    """

    @attrs.frozen
    class Answer:
        role: str = "assistant"
        content: str | None = None
        tool_calls: tuple[dict, ...] = ()
        extra: dict = attrs.field(factory=dict)

    assert {"role": "assistant", "tool_calls": [], "reasoning_content": "r"} == to_wire(
        Answer(extra={"reasoning_content": "r"})
    )


def test_extra_must_be_a_mapping():
    with pytest.raises(RequestError) as caught:
        to_wire([user("a", extra=["x"])], "messages")

    assert "messages: expected a mapping, got list" == str(caught.value)


def test_a_value_that_holds_itself_is_refused():
    ring = []
    ring.append(ring)

    with pytest.raises(RequestError) as caught:
        to_wire(ring, "messages")

    assert f"messages: expected at most 100 levels, got {LEVELS}" == str(caught.value)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, user])
def test_deep_nesting_is_refused_whatever_it_is_made_of(wrap):
    value = 1
    for _ in range(100_000):
        value = wrap(value)

    with pytest.raises(RequestError) as caught:
        to_wire(value, "extra_body")

    assert f"extra_body: expected at most 100 levels, got {LEVELS}" == str(caught.value)


def test_as_many_levels_as_are_allowed_are_kept():
    value = 1
    for _ in range(MAX_DEPTH):
        value = [value]

    assert value == to_wire(value)
    with pytest.raises(RequestError):
        to_wire([value])
